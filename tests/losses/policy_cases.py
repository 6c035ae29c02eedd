"""Losses of policies, and the same losses written with torch."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Normal

from hesrl import losses
from tests.losses.data import (
    ACTIONS,
    ADVANTAGES,
    BITS,
    CHOICES,
    CLIP,
    LOG_RATIOS,
    LOG_STDS,
    LOGITS,
    MANY_CHOICES,
    MANY_LOGITS,
    MEAN,
    SIZES,
    Case,
    K,
    log_bits,
    log_choices,
    log_density,
    log_policy,
    plain_surrogate,
)


def _gaussian_cases() -> list[Case]:
    cases = []
    for shape, log_std in LOG_STDS.items():
        old = log_density(MEAN, log_std, ACTIONS) - LOG_RATIOS
        clip = partial(losses.gaussian_surrogate, clip_coef=CLIP)
        forms = {
            "nll": (losses.GaussianNLLLoss, losses.gaussian_nll, ()),
            "a2c": (losses.GaussianA2CLoss, losses.gaussian_a2c, (ADVANTAGES,)),
            "ppo": (partial(losses.GaussianSurrogateLoss, CLIP), clip, (old, ADVANTAGES)),
        }
        plains = {
            "nll": lambda m, s, x: -log_density(m, s, x),
            "a2c": lambda m, s, x, advantages: -advantages * log_density(m, s, x),
            "ppo": lambda m, s, x, *data: plain_surrogate(log_density(m, s, x), *data),
        }
        for name, (module, form, data) in forms.items():
            constants = (ACTIONS, *data)
            inputs = MEAN, log_std
            plain = plains[name]
            cases.append(Case(f"gaussian {name} {shape}", module, form, plain, inputs, constants))
            cases.append(
                Case(
                    f"gaussian {name} variance {shape}",
                    partial(module, scale="variance"),
                    partial(_of_variance, form),
                    partial(_plain_of_variance, plain),
                    (MEAN, (2 * log_std).exp()),
                    constants,
                )
            )
    return cases


def _of_variance(form: Any, mean: Tensor, variance: Tensor, *args: Any, **kwargs: Any) -> Any:
    """As a training step that is written out does it."""
    terms = form(mean, variance.log() / 2, *args, **kwargs)
    derivatives = losses.variance_derivatives(variance, terms.grad_log_std, terms.hess_log_std)
    return terms.loss, terms.grad_mean, derivatives[0], terms.hess_mean, derivatives[1]


def _plain_of_variance(plain: Any, mean: Tensor, variance: Tensor, *args: Tensor) -> Tensor:
    return plain(mean, variance.sqrt().log(), *args)


def _categorical_cases() -> list[Case]:
    old = log_policy(LOGITS, CHOICES) - LOG_RATIOS
    return [
        Case(
            "categorical a2c",
            losses.CategoricalA2CLoss,
            losses.categorical_a2c,
            lambda z, a, advantages: -advantages * log_policy(z, a),
            (LOGITS,),
            (CHOICES, ADVANTAGES),
        ),
        Case(
            "categorical ppo",
            partial(losses.CategoricalSurrogateLoss, CLIP),
            partial(losses.categorical_surrogate, clip_coef=CLIP),
            lambda z, a, *data: plain_surrogate(log_policy(z, a), *data),
            (LOGITS,),
            (CHOICES, old, ADVANTAGES),
        ),
        Case(
            "ppo of log-probabilities",
            partial(losses.SurrogateLoss, CLIP),
            partial(losses.surrogate, clip_coef=CLIP),
            plain_surrogate,
            (old + LOG_RATIOS,),
            (old, ADVANTAGES),
        ),
    ]


def _independent_cases() -> list[Case]:
    many, bits = losses.multi_categorical_surrogate, losses.bernoulli_surrogate
    old, old_bits = log_choices(MANY_LOGITS, MANY_CHOICES), log_bits(LOGITS, BITS)
    return [
        Case(
            "multi-categorical a2c",
            partial(losses.MultiCategoricalA2CLoss, SIZES),
            partial(losses.multi_categorical_a2c, sizes=SIZES),
            lambda z, a, advantages: -advantages * log_choices(z, a),
            (MANY_LOGITS,),
            (MANY_CHOICES, ADVANTAGES),
        ),
        Case(
            "multi-categorical ppo",
            partial(losses.MultiCategoricalSurrogateLoss, SIZES, CLIP),
            partial(many, sizes=SIZES, clip_coef=CLIP),
            lambda z, a, *data: plain_surrogate(log_choices(z, a), *data),
            (MANY_LOGITS,),
            (MANY_CHOICES, old - LOG_RATIOS, ADVANTAGES),
        ),
        Case(
            "multi-categorical entropy",
            partial(losses.MultiCategoricalEntropyBonus, SIZES, 0.1),
            partial(losses.multi_categorical_entropy_bonus, sizes=SIZES, coef=0.1),
            lambda z: (
                -0.1
                * sum(
                    Categorical(logits=x, validate_args=False).entropy() for x in z.split(SIZES, 1)
                )
            ),
            (MANY_LOGITS,),
        ),
        Case(
            "bernoulli a2c",
            losses.BernoulliA2CLoss,
            losses.bernoulli_a2c,
            lambda z, a, advantages: -advantages * log_bits(z, a),
            (LOGITS,),
            (BITS, ADVANTAGES),
        ),
        Case(
            "bernoulli ppo",
            partial(losses.BernoulliSurrogateLoss, CLIP),
            partial(bits, clip_coef=CLIP),
            lambda z, a, *data: plain_surrogate(log_bits(z, a), *data),
            (LOGITS,),
            (BITS.double(), old_bits - LOG_RATIOS, ADVANTAGES),
        ),
        Case(
            "bernoulli entropy",
            partial(losses.BernoulliEntropyBonus, 0.1),
            partial(losses.bernoulli_entropy_bonus, coef=0.1),
            lambda z: -0.1 * Bernoulli(logits=z, validate_args=False).entropy().sum(1),
            (LOGITS,),
        ),
    ]


def _entropy_cases() -> list[Case]:
    def gaussian(log_std: Tensor) -> Tensor:
        std = log_std.exp().view(-1, K)
        return -0.1 * Normal(torch.zeros_like(std), std, validate_args=False).entropy().sum(1)

    cases = [
        Case(
            "categorical entropy",
            partial(losses.CategoricalEntropyBonus, 0.1),
            partial(losses.categorical_entropy_bonus, coef=0.1),
            lambda z: -0.1 * Categorical(logits=z, validate_args=False).entropy(),
            (LOGITS,),
        )
    ]
    module = partial(losses.GaussianEntropyBonus, 0.1)
    form = partial(losses.gaussian_entropy_bonus, coef=0.1)
    for shape, log_std in LOG_STDS.items():
        rows = log_std.view(-1, K).shape[0]
        cases.append(
            Case(f"gaussian entropy {shape}", module, form, gaussian, (log_std,), divided_by=rows)
        )
        cases.append(
            Case(
                f"gaussian entropy variance {shape}",
                partial(module, scale="variance"),
                partial(_entropy_of_variance, form),
                lambda variance: gaussian(variance.log() / 2),
                ((2 * log_std).exp(),),
                divided_by=rows,
            )
        )
    return cases


def _entropy_of_variance(form: Any, variance: Tensor, reduction: str) -> Any:
    loss, grad, hess = form(variance.log() / 2, reduction=reduction)
    return loss, *losses.variance_derivatives(variance, grad, hess)


POLICY_CASES = [
    *_gaussian_cases(),
    *_categorical_cases(),
    *_independent_cases(),
    *_entropy_cases(),
]
