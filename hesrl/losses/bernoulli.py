"""Losses of a policy of K independent bits, exact at its logits.

With p = sigmoid(z) the probabilities of ones, for each sample

    log π(a) = Σ_k a log p + (1 − a) log(1 − p)
    ∂log π/∂z = a − p,      ∂²log π/∂z² = −p (1 − p)

A logit of ±∞ is a bit that is certain: its derivatives are zero where it is taken.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from hesrl.losses.checks import require_bits, require_shape
from hesrl.losses.entropy import SMALLEST_LOG, LogitsEntropyBonus
from hesrl.losses.logits import (
    LogitsA2CLoss,
    LogitsLoss,
    LogitsSurrogateLoss,
    LogPolicy,
    a2c_of,
    surrogate_of,
)
from hesrl.losses.operation import Terms, divisor, reduce
from hesrl.losses.surrogate import RatioTerms


def _log_policy(logits: Tensor, actions: Tensor) -> LogPolicy:
    p, taken = logits.sigmoid(), actions.to(logits.dtype)
    logprobs = logsigmoid((2 * taken - 1) * logits).sum(1)
    return LogPolicy(logprobs, taken - p, p - p * p)


def bernoulli_a2c(
    logits: Tensor,
    actions: Tensor,
    advantages: Tensor,
    reduction: str = "mean",
    curvature: str = "exact",
) -> Terms:
    """The policy-gradient loss ``ℓ_n = −A_n log π(a_n)`` of independent bits.

        ∂ℓ/∂z = A (p − a),      ∂²ℓ/∂z² = A p (1 − p)

    A mean is over the N samples.

    Args:
        logits: z (N, K).
        actions: a (N, K), zeros and ones of any type.
        advantages: A (N,).
        reduction: "mean", "sum" or "none".
        curvature: "exact", or "fisher".
    """
    return a2c_of(_log_policy(logits, actions), advantages, reduction, curvature)


def bernoulli_surrogate(
    logits: Tensor,
    actions: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    clip_coef: float,
    reduction: str = "mean",
    curvature: str = "exact",
) -> RatioTerms:
    """PPO's clipped surrogate, see `surrogate`, of independent bits.

    With w = −r A, zero where clipped:

        ∂ℓ/∂z = w (a − p),      ∂²ℓ/∂z² = w [(a − p)² − p (1 − p)]

    A mean is over the N samples.

    Args:
        logits: z (N, K).
        actions: a (N, K), zeros and ones of any type.
        old_logprobs: log π_old(a) (N,).
        advantages: A (N,).
        clip_coef: ε, the largest change of the probability ratio that is rewarded.
        reduction: "mean", "sum" or "none".
        curvature: "exact", or "fisher".
    """
    policy = _log_policy(logits, actions)
    return surrogate_of(policy, old_logprobs, advantages, clip_coef, reduction, curvature)


def bernoulli_entropy_bonus(logits: Tensor, coef: float = 1.0, reduction: str = "mean") -> Terms:
    """``ℓ_n = −β H_n`` of independent bits, H = −Σ_k p log p + (1 − p) log(1 − p).

        ∂ℓ/∂z = β z p (1 − p),      ∂²ℓ/∂z² = β p (1 − p) [1 + z (1 − 2p)]

    A mean is over the N samples.

    Args:
        logits: z (N, K).
        coef: β.
        reduction: "mean", "sum" or "none".
    """
    z = logits.clamp(SMALLEST_LOG, -SMALLEST_LOG)
    p, q = z.sigmoid(), (-z).sigmoid()
    entropy = -(p * logsigmoid(z) + q * logsigmoid(-z)).sum(1)
    c_pq = coef / divisor(len(logits), reduction) * (p * q)
    loss = -coef * reduce(entropy, reduction)
    return Terms(loss, grad=c_pq * z, hess=c_pq * (1 + z * (q - p)))


class _OfBits(LogitsLoss):
    def _check(self, logits: Tensor, actions: Tensor) -> None:
        require_shape("logits", logits, "(N, K)")
        require_bits("actions", actions, logits)


class BernoulliA2CLoss(_OfBits, LogitsA2CLoss, form=bernoulli_a2c):
    """`bernoulli_a2c` as one operation of the autograd graph."""


class BernoulliSurrogateLoss(_OfBits, LogitsSurrogateLoss, form=bernoulli_surrogate):
    """`bernoulli_surrogate` as one operation of the autograd graph."""


class BernoulliEntropyBonus(LogitsEntropyBonus, form=bernoulli_entropy_bonus):
    """`bernoulli_entropy_bonus` as one operation of the autograd graph."""
