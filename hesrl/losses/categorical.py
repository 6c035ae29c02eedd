"""Policy losses of a categorical policy, exact at its logits.

With q = softmax(z) and the indicator δ_a of the action taken, for each sample

    ∂log π/∂z = δ_a − q,      ∂²log π/∂z² = −q (1 − q)

With ``curvature="fisher"`` a loss takes, in place of its second derivative, Fisher's diagonal of
the policy, whatever the data: q (1 − q).

A logit of −∞ is an action that cannot be taken: it has probability and derivatives zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hesrl.losses.checks import require_classes, require_shape
from hesrl.losses.logits import (
    LogitsA2CLoss,
    LogitsLoss,
    LogitsSurrogateLoss,
    LogPolicy,
    a2c_of,
    surrogate_of,
)
from hesrl.losses.operation import Terms
from hesrl.losses.surrogate import RatioTerms


def categorical_log_policy(logits: Tensor, actions: Tensor) -> LogPolicy:
    """Return log π(a), its gradient δ_a − q, and q (1 − q)."""
    logq = logits.log_softmax(1)
    q = logq.exp()
    index = actions.unsqueeze(1)
    taken = torch.zeros_like(q).scatter(1, index, 1.0)
    return LogPolicy(logq.gather(1, index).squeeze(1), taken - q, q - q * q)


def categorical_a2c(
    logits: Tensor,
    actions: Tensor,
    advantages: Tensor,
    reduction: str = "mean",
    curvature: str = "exact",
) -> Terms:
    """The policy-gradient loss ``ℓ_n = −A_n log π(a_n)`` of a categorical policy.

        ∂ℓ/∂z = A (q − δ_a),      ∂²ℓ/∂z² = A q (1 − q)

    A mean is over the N samples.

    Args:
        logits: z (N, K).
        actions: a (N,), integers from 0 to K − 1.
        advantages: A (N,).
        reduction: "mean", "sum" or "none".
        curvature: "exact", or "fisher".
    """
    return a2c_of(categorical_log_policy(logits, actions), advantages, reduction, curvature)


def categorical_surrogate(
    logits: Tensor,
    actions: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    clip_coef: float,
    reduction: str = "mean",
    curvature: str = "exact",
) -> RatioTerms:
    """PPO's clipped surrogate, see `surrogate`, of a categorical policy.

    With w = −r A, zero where clipped:

        ∂ℓ/∂z = w (δ_a − q),      ∂²ℓ/∂z² = w [(δ_a − q)² − q (1 − q)]

    A mean is over the N samples.

    Args:
        logits: z (N, K).
        actions: a (N,), integers from 0 to K − 1.
        old_logprobs: log π_old(a) (N,).
        advantages: A (N,).
        clip_coef: ε, the largest change of the probability ratio that is rewarded.
        reduction: "mean", "sum" or "none".
        curvature: "exact", or "fisher".
    """
    policy = categorical_log_policy(logits, actions)
    return surrogate_of(policy, old_logprobs, advantages, clip_coef, reduction, curvature)


class _OfCategories(LogitsLoss):
    def _check(self, logits: Tensor, actions: Tensor) -> None:
        require_shape("logits", logits, "(N, K)")
        require_classes("actions", actions, logits)


class CategoricalA2CLoss(_OfCategories, LogitsA2CLoss, form=categorical_a2c):
    """`categorical_a2c` as one operation of the autograd graph."""


class CategoricalSurrogateLoss(_OfCategories, LogitsSurrogateLoss, form=categorical_surrogate):
    """`categorical_surrogate` as one operation of the autograd graph."""
