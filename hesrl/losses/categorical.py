"""Policy losses of a categorical policy, exact at its logits.

With q = softmax(z) and the indicator δ_a of the action taken, for each sample

    ∂log π/∂z = δ_a − q,      ∂²log π/∂z² = −q (1 − q)

With ``curvature="fisher"`` a loss takes, in place of its second derivative, Fisher's diagonal of
the policy, whatever the data: q (1 − q).

A logit of −∞ is an action that cannot be taken: it has probability and derivatives zero.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hesrl.losses.checks import (
    require_classes,
    require_constant,
    require_positive,
    require_shape,
)
from hesrl.losses.operation import PolicyLoss, Terms, divisor, reduce
from hesrl.losses.surrogate import RatioTerms, surrogate


class LogPolicy(NamedTuple):
    """log π of actions, with its derivatives at the logits z (N, K)."""

    logprobs: Tensor
    """log π(a) (N,)."""
    slope: Tensor
    """∂log π/∂z (N, K)."""
    variance: Tensor
    """−∂²log π/∂z² (N, K), which is the variance of the slope: Fisher's diagonal."""


def categorical_log_policy(logits: Tensor, actions: Tensor) -> LogPolicy:
    """Return log π(a), its gradient δ_a − q, and q (1 − q)."""
    logq = logits.log_softmax(1)
    q = logq.exp()
    index = actions.unsqueeze(1)
    taken = torch.zeros_like(q).scatter(1, index, 1.0)
    return LogPolicy(logq.gather(1, index).squeeze(1), taken - q, q - q * q)


def a2c_of(policy: LogPolicy, advantages: Tensor, reduction: str, curvature: str) -> Terms:
    """The policy-gradient loss ``ℓ_n = −A_n log π(a_n)``, for any policy of logits."""
    logprobs, slope, variance = policy
    w = (advantages / -divisor(len(logprobs), reduction)).unsqueeze(1)
    loss = -reduce(advantages * logprobs, reduction)
    weight = 1 / divisor(len(logprobs), reduction) if curvature == "fisher" else -w
    return Terms(loss, grad=w * slope, hess=weight * variance)


def surrogate_of(
    policy: LogPolicy,
    old_logprobs: Tensor,
    advantages: Tensor,
    clip_coef: float,
    reduction: str,
    curvature: str,
) -> RatioTerms:
    """PPO's clipped surrogate, see `surrogate`, for any policy of logits."""
    logprobs, slope, variance = policy
    terms = surrogate(logprobs, old_logprobs, advantages, clip_coef, reduction)
    w = terms.grad.unsqueeze(1)
    if curvature == "fisher":
        hess = variance / divisor(len(logprobs), reduction)
    else:
        hess = w * (slope * slope - variance)
    return RatioTerms(terms.loss, terms.logratio, grad=w * slope, hess=hess)


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


class CategoricalA2CLoss(PolicyLoss, form=categorical_a2c):
    """`categorical_a2c` as one operation of the autograd graph."""

    def forward(self, logits: Tensor, actions: Tensor, advantages: Tensor) -> Tensor:
        """Return the loss."""
        require_shape("logits", logits, "(N, K)")
        require_classes("actions", actions, logits)
        require_constant("advantages", advantages, "logits", logits.shape[:1])
        return self.operation(logits, actions, advantages, (self.reduction, self.curvature))


class CategoricalSurrogateLoss(PolicyLoss, form=categorical_surrogate):
    """`categorical_surrogate` as one operation of the autograd graph."""

    def __init__(self, clip_coef: float, reduction: str = "mean", curvature: str = "exact") -> None:
        super().__init__(reduction, curvature)
        require_positive("clip_coef", clip_coef)
        self.clip_coef = clip_coef

    def forward(
        self, logits: Tensor, actions: Tensor, old_logprobs: Tensor, advantages: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the loss and, without gradient, the log-ratio (N,)."""
        require_shape("logits", logits, "(N, K)")
        require_classes("actions", actions, logits)
        require_constant("old_logprobs", old_logprobs, "logits", logits.shape[:1])
        require_constant("advantages", advantages, "logits", logits.shape[:1])
        settings = self.clip_coef, self.reduction, self.curvature
        return self.operation(logits, actions, old_logprobs, advantages, settings)
