"""PPO's clipped surrogate of log-probabilities, whatever policy they are of.

With the ratio r = π(a)/π_old(a) = exp(log π − log π_old) and advantages A

    ℓ_n = −min(r_n A_n, clip(r_n, 1 − ε, 1 + ε) A_n)

is flat where it is clipped (A > 0 and r > 1 + ε, or A < 0 and r < 1 − ε), and −r A elsewhere. So
first and second derivative with respect to log π are the same weight w = −r A, or 0. At the clip
itself, r = 1 ± ε, this is w = −r A, as in PyTorch up to 2.13; from 2.14 on PyTorch has half of it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hesrl.losses.checks import require_constant, require_positive, require_shape
from hesrl.losses.operation import ClosedFormLoss, divisor, reduce


class RatioTerms(NamedTuple):
    """PPO's surrogate with its derivatives at log-probabilities or logits x."""

    loss: Tensor
    """L, a scalar, or (N,) without reduction."""
    logratio: Tensor
    """log r (N,)."""
    grad: Tensor
    """∂L/∂x, of the shape of x."""
    hess: Tensor
    """∂²L/∂x², of the shape of x."""


def surrogate(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    clip_coef: float,
    reduction: str = "mean",
) -> RatioTerms:
    """PPO's clipped surrogate (Schulman et al., 2017) of log-probabilities.

        ∂ℓ/∂log π = ∂²ℓ/∂(log π)² = w,      w = −r A, zero where clipped

    A mean is over the N samples.

    Args:
        logprobs: log π(a) (N,).
        old_logprobs: log π_old(a) (N,).
        advantages: A (N,).
        clip_coef: ε, the largest change of the probability ratio that is rewarded.
        reduction: "mean", "sum" or "none".
    """
    logratio = logprobs - old_logprobs
    ratio = logratio.exp()
    gain = ratio * advantages
    clipped = ratio.clamp(1 - clip_coef, 1 + clip_coef) * advantages
    loss = -reduce(torch.minimum(gain, clipped), reduction)
    # Filled, not multiplied by zero: a clipped ratio may have overflowed.
    w = gain.masked_fill(gain > clipped, 0) / -divisor(len(gain), reduction)
    return RatioTerms(loss, logratio, grad=w, hess=w)


class SurrogateLoss(ClosedFormLoss, form=surrogate):
    """`surrogate` as one operation of the autograd graph, for log-probabilities of any policy."""

    def __init__(self, clip_coef: float, reduction: str = "mean") -> None:
        super().__init__(reduction)
        require_positive("clip_coef", clip_coef)
        self.clip_coef = clip_coef

    def forward(
        self, logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the loss and, without gradient, the log-ratio (N,)."""
        require_shape("logprobs", logprobs, "(N,)")
        require_constant("old_logprobs", old_logprobs, "logprobs", logprobs.shape)
        require_constant("advantages", advantages, "logprobs", logprobs.shape)
        settings = self.clip_coef, self.reduction
        return self.operation(logprobs, old_logprobs, advantages, settings)
