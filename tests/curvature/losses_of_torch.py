"""Losses of `torch.nn.functional` and `torch.distributions`, as functions of network outputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Gamma,
    Independent,
    Laplace,
    Normal,
    OneHotCategorical,
    TanhTransform,
    TransformedDistribution,
    kl_divergence,
)

from tests.curvature.outputs import (
    ACTIONS,
    ADVANTAGES,
    CHOICES,
    LOG_STD,
    LOG_VARIANCE,
    LOGITS,
    MEAN,
    NOISE,
    K,
)

CLASS_WEIGHTS = torch.tensor([0.5, 1.7, 1.0], dtype=torch.float64)
PROBABILITIES = NOISE.softmax(1)
SIGNS = ACTIONS.sign()
LABELS = (SIGNS + 1) / 2


def gaussian_nll(mean: Tensor, log_variance: Tensor, reduction: str) -> Tensor:
    variance = torch.exp(log_variance)
    return F.gaussian_nll_loss(mean, ACTIONS, variance, full=True, reduction=reduction)


def poisson_nll(x: Tensor, reduction: str) -> Tensor:
    return F.poisson_nll_loss(x, LABELS + 2, full=True, reduction=reduction)


def poisson_nll_of_rate(x: Tensor, reduction: str) -> Tensor:
    return F.poisson_nll_loss(F.softplus(x), LABELS, log_input=False, reduction=reduction)


def mse(x: Tensor, reduction: str) -> Tensor:
    return F.mse_loss(x, ACTIONS, reduction=reduction)


def mse_weighted(x: Tensor, reduction: str) -> Tensor:
    return F.mse_loss(x, ACTIONS, weight=PROBABILITIES, reduction=reduction)


def huber(x: Tensor, reduction: str) -> Tensor:
    return F.huber_loss(x, ACTIONS, delta=0.9, reduction=reduction)


def smooth_l1(x: Tensor, reduction: str) -> Tensor:
    return F.smooth_l1_loss(x, ACTIONS, beta=0.9, reduction=reduction)


def l1(x: Tensor, reduction: str) -> Tensor:
    return F.l1_loss(x, ACTIONS, reduction=reduction)


def hinge_embedding(x: Tensor, reduction: str) -> Tensor:
    return F.hinge_embedding_loss(x.exp(), SIGNS, reduction=reduction)


def soft_margin(x: Tensor, reduction: str) -> Tensor:
    return F.softplus(-SIGNS * x).mean() + F.multilabel_soft_margin_loss(
        x, LABELS, CLASS_WEIGHTS, reduction=reduction
    )


def bce_with_logits(x: Tensor, reduction: str) -> Tensor:
    return F.binary_cross_entropy_with_logits(x, PROBABILITIES, reduction=reduction)


def bce_with_logits_weighted(x: Tensor, reduction: str) -> Tensor:
    return F.binary_cross_entropy_with_logits(
        x, PROBABILITIES, CLASS_WEIGHTS, pos_weight=1 / CLASS_WEIGHTS, reduction=reduction
    )


def kl_div(logits: Tensor, reduction: str) -> Tensor:
    reduction = reduction.replace("mean", "batchmean")
    return F.kl_div(logits.log_softmax(1), PROBABILITIES, reduction=reduction)


def kl_div_log_target(logits: Tensor, reduction: str) -> Tensor:
    log_q, reduction = PROBABILITIES.log(), reduction.replace("mean", "batchmean")
    return F.kl_div(logits.log_softmax(1), log_q, reduction=reduction, log_target=True)


def cross_entropy(logits: Tensor, reduction: str) -> Tensor:
    return F.cross_entropy(logits, CHOICES, reduction=reduction)


def cross_entropy_weighted(logits: Tensor, reduction: str) -> Tensor:
    return F.cross_entropy(logits, CHOICES, CLASS_WEIGHTS, ignore_index=1, reduction=reduction)


def cross_entropy_smoothed(logits: Tensor, reduction: str) -> Tensor:
    return F.cross_entropy(
        logits, CHOICES, CLASS_WEIGHTS, ignore_index=1, reduction=reduction, label_smoothing=0.1
    )


def cross_entropy_soft(logits: Tensor, reduction: str) -> Tensor:
    return F.cross_entropy(logits, PROBABILITIES, CLASS_WEIGHTS, reduction=reduction)


def cross_entropy_soft_smoothed(logits: Tensor, reduction: str) -> Tensor:
    return F.cross_entropy(logits, PROBABILITIES, reduction=reduction, label_smoothing=0.1)


def cross_entropy_of_pixels(logits: Tensor, reduction: str) -> Tensor:
    images = logits.view(2, 2, 2, K).permute(0, 3, 1, 2)
    return F.cross_entropy(images, CHOICES.view(2, 2, 2), CLASS_WEIGHTS, reduction=reduction)


def bernoulli(logits: Tensor) -> Tensor:
    log_prob = Bernoulli(logits=logits).log_prob(LABELS).sum(1)
    return -(ADVANTAGES * log_prob.exp()).mean()


def one_hot_categorical(logits: Tensor) -> Tensor:
    policy = OneHotCategorical(logits=logits)
    log_prob = policy.log_prob(F.one_hot(CHOICES, K).double())
    return -(ADVANTAGES * log_prob).mean() - 0.1 * policy.entropy().mean()


def beta(a: Tensor, b: Tensor) -> Tensor:
    policy = Beta(F.softplus(a) + 1, F.softplus(b) + 1)
    log_prob = policy.log_prob(PROBABILITIES).sum(1)
    return -(ADVANTAGES * log_prob).mean() - 0.1 * policy.entropy().sum(1).mean()


def gamma(a: Tensor, b: Tensor) -> Tensor:
    policy = Gamma(a.exp(), b.exp())
    return -policy.log_prob(PROBABILITIES).sum() - 0.1 * policy.entropy().mean()


def laplace(mean: Tensor, log_scale: Tensor) -> Tensor:
    return -Laplace(mean, log_scale.exp()).log_prob(ACTIONS).mean()


def squashed_gaussian(mean: Tensor, log_std: Tensor) -> Tensor:
    gaussian = Independent(Normal(mean, log_std.exp()), 1)
    policy = TransformedDistribution(gaussian, [TanhTransform(cache_size=1)])
    return -(ADVANTAGES * policy.log_prob(torch.tanh(ACTIONS)).exp()).mean()


def sac_by_transform(mean: Tensor, log_std: Tensor) -> Tensor:
    """The entropy term of an actor whose action is a reparameterized sample, and a linear Q."""
    policy = TransformedDistribution(Normal(mean, log_std.exp()), [TanhTransform(cache_size=1)])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        actions = policy.rsample()
    return (0.2 * policy.log_prob(actions) - actions * ACTIONS).sum(1).mean()


def sac_sb3(mean: Tensor, log_std: Tensor) -> Tensor:
    """The same as Stable-Baselines3 writes it."""
    policy = Normal(mean, torch.ones_like(mean) * log_std.exp())
    gaussian_actions = mean + NOISE * policy.scale
    actions = torch.tanh(gaussian_actions)
    log_prob = policy.log_prob(gaussian_actions).sum(1)
    log_prob = log_prob - torch.log(1 - actions**2 + 1e-6).sum(1)
    return (0.2 * log_prob - (actions * ACTIONS).sum(1)).mean()


def kl_of_gaussians(mean: Tensor, log_std: Tensor, old_mean: Tensor) -> Tensor:
    new, old = Normal(mean, log_std.exp()), Normal(old_mean, LOG_STD.exp())
    return kl_divergence(old, new).sum(1).mean() + kl_divergence(new, old).sum(1).mean()


def kl_from_old_categorical(logits: Tensor) -> Tensor:
    return kl_divergence(Categorical(probs=PROBABILITIES), Categorical(logits=logits)).mean()


def kl_to_old_categorical(logits: Tensor) -> Tensor:
    return kl_divergence(Categorical(logits=logits), Categorical(probs=PROBABILITIES)).mean()


def _each_reduction(*losses: Callable[..., Tensor]) -> list[Any]:
    """The losses under a mean and under a sum."""
    result = []
    for loss in losses:
        for reduction in ("mean", "sum"):
            reduced = update_wrapper(partial(loss, reduction=reduction), loss)
            reduced.__name__ = f"{loss.__name__}_{reduction}"  # type: ignore[attr-defined]
            result.append(reduced)
    return result


CASES: dict[Callable[..., Tensor], tuple[Tensor, ...]] = {
    **dict.fromkeys(
        _each_reduction(
            poisson_nll,
            poisson_nll_of_rate,
            mse,
            mse_weighted,
            huber,
            smooth_l1,
            l1,
            hinge_embedding,
            soft_margin,
            bce_with_logits,
            bce_with_logits_weighted,
            kl_div,
            kl_div_log_target,
            cross_entropy,
            cross_entropy_weighted,
            cross_entropy_smoothed,
            cross_entropy_soft,
            cross_entropy_soft_smoothed,
            cross_entropy_of_pixels,
        ),
        (LOGITS,),
    ),
    **dict.fromkeys(_each_reduction(gaussian_nll), (MEAN, LOG_VARIANCE)),
    **dict.fromkeys(
        [bernoulli, one_hot_categorical, kl_from_old_categorical, kl_to_old_categorical], (LOGITS,)
    ),
    **dict.fromkeys([beta, gamma, laplace, squashed_gaussian], (MEAN, LOG_VARIANCE)),
    **dict.fromkeys([sac_by_transform, sac_sb3], (0.5 * MEAN, LOG_VARIANCE)),
    kl_of_gaussians: (MEAN, LOG_VARIANCE, LOGITS),
}
"""Each loss with the outputs at which to take it."""
