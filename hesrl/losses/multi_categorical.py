"""Losses of a policy of D independent categorical choices, exact at its logits.

Choice d has K_d logits, which stand side by side in z (N, ΣK). With q the softmax of each choice by
itself, the derivatives of each choice are those of a categorical policy (`categorical_a2c`), and

    log π(a) = Σ_d log π_d(a_d),      H = Σ_d H_d
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hesrl.losses.categorical import categorical_log_policy
from hesrl.losses.checks import (
    require_choices,
    require_finite,
    require_logits_of,
    require_sizes,
)
from hesrl.losses.entropy import categorical_entropy_bonus
from hesrl.losses.logits import (
    LogitsA2CLoss,
    LogitsLoss,
    LogitsSurrogateLoss,
    LogPolicy,
    a2c_of,
    surrogate_of,
)
from hesrl.losses.operation import ClosedFormLoss, Terms
from hesrl.losses.surrogate import RatioTerms


def _log_policy(logits: Tensor, actions: Tensor, sizes: tuple[int, ...]) -> LogPolicy:
    choices = zip(logits.split(sizes, 1), actions.unbind(1), strict=True)
    parts = [categorical_log_policy(z, a) for z, a in choices]
    logprobs, slopes, variances = zip(*parts, strict=True)
    return LogPolicy(torch.stack(logprobs).sum(0), torch.cat(slopes, 1), torch.cat(variances, 1))


def multi_categorical_a2c(
    logits: Tensor,
    actions: Tensor,
    advantages: Tensor,
    sizes: tuple[int, ...],
    reduction: str = "mean",
    curvature: str = "exact",
) -> Terms:
    """The policy-gradient loss ``ℓ_n = −A_n log π(a_n)`` of independent choices.

        ∂ℓ/∂z = A (q − δ_a),      ∂²ℓ/∂z² = A q (1 − q)

    A mean is over the N samples.

    Args:
        logits: z (N, ΣK).
        actions: a (N, D), integers from 0 to K_d − 1.
        advantages: A (N,).
        sizes: K_d of each choice.
        reduction: "mean", "sum" or "none".
        curvature: "exact", or "fisher".
    """
    return a2c_of(_log_policy(logits, actions, sizes), advantages, reduction, curvature)


def multi_categorical_surrogate(
    logits: Tensor,
    actions: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    sizes: tuple[int, ...],
    clip_coef: float,
    reduction: str = "mean",
    curvature: str = "exact",
) -> RatioTerms:
    """PPO's clipped surrogate, see `surrogate`, of independent choices.

    With w = −r A, zero where clipped:

        ∂ℓ/∂z = w (δ_a − q),      ∂²ℓ/∂z² = w [(δ_a − q)² − q (1 − q)]

    A mean is over the N samples.

    Args:
        logits: z (N, ΣK).
        actions: a (N, D), integers from 0 to K_d − 1.
        old_logprobs: log π_old(a) (N,).
        advantages: A (N,).
        sizes: K_d of each choice.
        clip_coef: ε, the largest change of the probability ratio that is rewarded.
        reduction: "mean", "sum" or "none".
        curvature: "exact", or "fisher".
    """
    policy = _log_policy(logits, actions, sizes)
    return surrogate_of(policy, old_logprobs, advantages, clip_coef, reduction, curvature)


def multi_categorical_entropy_bonus(
    logits: Tensor, sizes: tuple[int, ...], coef: float = 1.0, reduction: str = "mean"
) -> Terms:
    """``ℓ_n = −β Σ_d H_d`` of independent choices, see `categorical_entropy_bonus`.

    Args:
        logits: z (N, ΣK).
        sizes: K_d of each choice.
        coef: β.
        reduction: "mean", "sum" or "none".
    """
    parts = [categorical_entropy_bonus(z, coef, reduction) for z in logits.split(sizes, 1)]
    losses, grads, hessians = zip(*parts, strict=True)
    return Terms(torch.stack(losses).sum(0), torch.cat(grads, 1), torch.cat(hessians, 1))


class _OfChoices(LogitsLoss):
    sizes: tuple[int, ...]

    def _check(self, logits: Tensor, actions: Tensor) -> None:
        require_logits_of(self.sizes, logits)
        require_choices("actions", actions, logits, self.sizes)

    def _settings(self) -> tuple[Any, ...]:
        return self.sizes, *super()._settings()


class MultiCategoricalA2CLoss(_OfChoices, LogitsA2CLoss, form=multi_categorical_a2c):
    """`multi_categorical_a2c` as one operation of the autograd graph."""

    def __init__(
        self, sizes: Sequence[int], reduction: str = "mean", curvature: str = "exact"
    ) -> None:
        super().__init__(reduction, curvature)
        self.sizes = require_sizes(sizes)


class MultiCategoricalSurrogateLoss(
    _OfChoices, LogitsSurrogateLoss, form=multi_categorical_surrogate
):
    """`multi_categorical_surrogate` as one operation of the autograd graph."""

    def __init__(
        self,
        sizes: Sequence[int],
        clip_coef: float,
        reduction: str = "mean",
        curvature: str = "exact",
    ) -> None:
        super().__init__(clip_coef, reduction, curvature)
        self.sizes = require_sizes(sizes)


class MultiCategoricalEntropyBonus(ClosedFormLoss, form=multi_categorical_entropy_bonus):
    """`multi_categorical_entropy_bonus` as one operation of the autograd graph."""

    def __init__(self, sizes: Sequence[int], coef: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        require_finite("coef", coef)
        self.sizes, self.coef = require_sizes(sizes), coef

    def forward(self, logits: Tensor) -> Tensor:
        """Return the loss at logits (N, ΣK)."""
        require_logits_of(self.sizes, logits)
        return self.operation(logits, (self.sizes, self.coef, self.reduction))
