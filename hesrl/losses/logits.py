"""What the losses of all policies have in common whose parameters are logits.

With the slope s = ∂log π/∂z and the variance v = −∂²log π/∂z², entry by entry

    A2C          ∂ℓ/∂z = −A s      ∂²ℓ/∂z² = A v
    surrogate    ∂ℓ/∂z = w s       ∂²ℓ/∂z² = w (s² − v)

and with ``curvature="fisher"`` v in place of the second derivative.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from hesrl.losses.checks import require_constant, require_positive
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


class LogitsLoss(PolicyLoss):
    """Base of the losses of a policy of logits; a subclass checks logits and actions."""

    def _check(self, logits: Tensor, actions: Tensor) -> None:
        raise NotImplementedError

    def _settings(self) -> tuple[Any, ...]:
        """The last settings of the operation."""
        return self.reduction, self.curvature


class LogitsA2CLoss(LogitsLoss):
    """Base of the policy-gradient losses."""

    def forward(self, logits: Tensor, actions: Tensor, advantages: Tensor) -> Tensor:
        """Return the loss."""
        self._check(logits, actions)
        require_constant("advantages", advantages, "logits", logits.shape[:1])
        return self.operation(logits, actions, advantages, self._settings())


class LogitsSurrogateLoss(LogitsLoss):
    """Base of PPO's clipped surrogates."""

    def __init__(self, clip_coef: float, reduction: str = "mean", curvature: str = "exact") -> None:
        super().__init__(reduction, curvature)
        require_positive("clip_coef", clip_coef)
        self.clip_coef = clip_coef

    def forward(
        self, logits: Tensor, actions: Tensor, old_logprobs: Tensor, advantages: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the loss and, without gradient, the log-ratio (N,)."""
        self._check(logits, actions)
        require_constant("old_logprobs", old_logprobs, "logits", logits.shape[:1])
        require_constant("advantages", advantages, "logits", logits.shape[:1])
        return self.operation(logits, actions, old_logprobs, advantages, self._settings())

    def _settings(self) -> tuple[Any, ...]:
        return self.clip_coef, *super()._settings()
