"""PPO's surrogate of a diagonal Gaussian, exact at its mean and at its log σ or σ².

Notation, shapes and ``curvature="fisher"`` are those of `hesrl.losses.gaussian`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hesrl.losses.checks import require_constant, require_positive
from hesrl.losses.gaussian import GaussianLoss, fisher, log_normalizer, sum_shared
from hesrl.losses.surrogate import surrogate


class SurrogateTerms(NamedTuple):
    """PPO's surrogate of a Gaussian, log r (N,), and the derivatives as in `GaussianTerms`."""

    loss: Tensor
    logratio: Tensor
    grad_mean: Tensor
    grad_log_std: Tensor
    hess_mean: Tensor
    hess_log_std: Tensor


def gaussian_surrogate(
    mean: Tensor,
    log_std: Tensor,
    actions: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    clip_coef: float,
    reduction: str = "mean",
    curvature: str = "exact",
) -> SurrogateTerms:
    """PPO's clipped surrogate, see `surrogate`, of a diagonal Gaussian policy.

    With w = −r A, zero where clipped:

        ∂ℓ/∂μ = w (x − μ)/σ²,      ∂²ℓ/∂μ² = w (u − 1)/σ²
        ∂ℓ/∂log σ = w (u − 1),     ∂²ℓ/∂(log σ)² = w [(u − 1)² − 2u]

    A mean is over the N samples.

    Args:
        mean: μ (N, K), in the unit of the actions.
        log_std: log σ (N, K), (1, K) or (K,).
        actions: x (N, K).
        old_logprobs: log π_old(x) (N,).
        advantages: A (N,).
        clip_coef: ε, the largest change of the probability ratio that is rewarded.
        reduction: "mean", "sum" or "none".
        curvature: "exact", or "fisher".
    """
    inv_std = torch.exp(-log_std)
    z = (actions - mean) * inv_std
    u = z * z
    # Both without the constant of log π, which cancels.
    logprobs = -(0.5 * u + log_std).sum(-1)
    old_logprobs = old_logprobs + log_normalizer(z.shape[-1])
    terms = surrogate(logprobs, old_logprobs, advantages, clip_coef, reduction)
    w = terms.grad.unsqueeze(-1)
    u1 = u - 1
    w_u1 = w * u1
    if curvature == "fisher":
        hess_mean, hess_log_std = fisher(inv_std, z, reduction)
    else:
        hess_mean = w_u1 * (inv_std * inv_std)
        hess_log_std = torch.sub(w_u1 * u1, w * u, alpha=2)
    return SurrogateTerms(
        terms.loss,
        terms.logratio,
        grad_mean=w * z * inv_std,
        grad_log_std=sum_shared(w_u1, log_std, reduction),
        hess_mean=hess_mean,
        hess_log_std=sum_shared(hess_log_std, log_std, reduction),
    )


class GaussianSurrogateLoss(GaussianLoss, form=gaussian_surrogate):
    """`gaussian_surrogate` as one operation of the autograd graph, by log σ or by σ²."""

    def __init__(
        self,
        clip_coef: float,
        reduction: str = "mean",
        scale: str = "log_std",
        curvature: str = "exact",
    ) -> None:
        super().__init__(reduction, scale, curvature)
        require_positive("clip_coef", clip_coef)
        self.clip_coef = clip_coef

    def forward(
        self, mean: Tensor, scale: Tensor, actions: Tensor, old_logprobs: Tensor, advantages: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the loss and, without gradient, the log-ratio (N,)."""
        self._check(mean, scale, "actions", actions)
        require_constant("old_logprobs", old_logprobs, "mean", mean.shape[:1])
        require_constant("advantages", advantages, "mean", mean.shape[:1])
        settings = self.clip_coef, *self._settings
        return self.operation(mean, scale, actions, old_logprobs, advantages, settings)
