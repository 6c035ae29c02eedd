"""Losses of a diagonal Gaussian, exact at its mean and its log-standard-deviation, as functions.

With u = (x − μ)²/σ², ``log π(x) = Σ_j −½ u − log σ − ½ log 2π``, and entry by entry

    ∂log π/∂μ = (x − μ)/σ²       ∂²log π/∂μ² = −1/σ²
    ∂log π/∂log σ = u − 1        ∂²log π/∂(log σ)² = −2u

Index legend: N samples, K dimensions. log σ is (N, K), or (K,) or (1, K) if all samples share it.
Without reduction the derivatives by a shared log σ are those of each sample's loss, (N, K).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hesrl.losses.operation import divisor, reduce
from hesrl.losses.surrogate import surrogate


class GaussianTerms(NamedTuple):
    """A loss of a Gaussian with its derivatives."""

    loss: Tensor
    """L, a scalar, or (N,) without reduction."""
    grad_mean: Tensor
    """∂L/∂μ (N, K)."""
    grad_log_std: Tensor
    """∂L/∂log σ, of the shape of log σ."""
    hess_mean: Tensor
    """∂²L/∂μ² (N, K)."""
    hess_log_std: Tensor
    """∂²L/∂(log σ)², of the shape of log σ."""


class SurrogateTerms(NamedTuple):
    """PPO's surrogate with its derivatives at the policy's outputs."""

    loss: Tensor
    """L, a scalar, or (N,) without reduction."""
    logratio: Tensor
    """log r (N,)."""
    grad_mean: Tensor
    """∂L/∂μ (N, K)."""
    grad_log_std: Tensor
    """∂L/∂log σ, of the shape of log σ."""
    hess_mean: Tensor
    """∂²L/∂μ² (N, K)."""
    hess_log_std: Tensor
    """∂²L/∂(log σ)², of the shape of log σ."""


def _log_normalizer(k: int) -> float:
    return 0.5 * math.log(2 * math.pi) * k


def _shared(derivative: Tensor, log_std: Tensor, reduction: str) -> Tensor:
    """Sum the derivatives of a reduced loss over the samples that share a log σ."""
    return derivative if reduction == "none" else derivative.sum_to_size(log_std.shape)


def gaussian_a2c(
    mean: Tensor,
    log_std: Tensor,
    actions: Tensor,
    advantages: Tensor,
    reduction: str = "mean",
) -> GaussianTerms:
    """The policy-gradient loss ``ℓ_n = −A_n log π(x_n)`` of a diagonal Gaussian policy.

        ∂ℓ/∂μ = −A (x − μ)/σ²        ∂²ℓ/∂μ² = A/σ²
        ∂ℓ/∂log σ = −A (u − 1)       ∂²ℓ/∂(log σ)² = 2 A u

    A mean is over the N samples.

    Args:
        mean: μ (N, K), in the unit of the actions.
        log_std: log σ (N, K), (1, K) or (K,).
        actions: x (N, K).
        advantages: A (N,).
        reduction: "mean", "sum" or "none".
    """
    inv_std = torch.exp(-log_std)
    z = (actions - mean) * inv_std
    u = z * z
    logprobs = -(0.5 * u + log_std).sum(-1) - _log_normalizer(z.shape[-1])
    w = (advantages / -divisor(len(z), reduction)).unsqueeze(-1)
    return GaussianTerms(
        -reduce(advantages * logprobs, reduction),
        grad_mean=w * z * inv_std,
        grad_log_std=_shared(w * (u - 1), log_std, reduction),
        hess_mean=-w * (inv_std * inv_std),
        hess_log_std=_shared(-2 * w * u, log_std, reduction),
    )


def gaussian_nll(
    mean: Tensor, log_std: Tensor, targets: Tensor, reduction: str = "mean"
) -> GaussianTerms:
    """The negative log-likelihood ``ℓ_n = −log π(x_n)`` of a diagonal Gaussian.

        ∂ℓ/∂μ = −(x − μ)/σ²        ∂²ℓ/∂μ² = 1/σ²
        ∂ℓ/∂log σ = 1 − u          ∂²ℓ/∂(log σ)² = 2u

    A mean is over the N samples. (`torch.nn.GaussianNLLLoss` has it over all N K entries, and
    leaves out ½ log 2π.)

    Args:
        mean: μ (N, K), in the unit of the targets.
        log_std: log σ (N, K), (1, K) or (K,).
        targets: x (N, K).
        reduction: "mean", "sum" or "none".
    """
    return gaussian_a2c(mean, log_std, targets, mean.new_ones(len(mean)), reduction)


def gaussian_surrogate(
    mean: Tensor,
    log_std: Tensor,
    actions: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    clip_coef: float,
    reduction: str = "mean",
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
    """
    inv_std = torch.exp(-log_std)
    z = (actions - mean) * inv_std
    u = z * z
    # Both without the constant of log π, which cancels.
    logprobs = -(0.5 * u + log_std).sum(-1)
    old_logprobs = old_logprobs + _log_normalizer(z.shape[-1])
    terms = surrogate(logprobs, old_logprobs, advantages, clip_coef, reduction)
    w = terms.grad.unsqueeze(-1)
    u1 = u - 1
    w_u1 = w * u1
    return SurrogateTerms(
        terms.loss,
        terms.logratio,
        grad_mean=w * z * inv_std,
        grad_log_std=_shared(w_u1, log_std, reduction),
        hess_mean=w_u1 * (inv_std * inv_std),
        hess_log_std=_shared(torch.sub(w_u1 * u1, w * u, alpha=2), log_std, reduction),
    )


def variance_derivatives(
    variance: Tensor, grad_log_std: Tensor, hess_log_std: Tensor
) -> tuple[Tensor, Tensor]:
    """Return gradient and Hessian diagonal by v = σ², given those by ``log σ = ½ log v``.

        ∂L/∂v = 1/(2v) ∂L/∂log σ,      ∂²L/∂v² = 1/(4v²) [∂²L/∂(log σ)² − 2 ∂L/∂log σ]

    Args:
        variance: v, of the shape of log σ.
        grad_log_std: ∂L/∂log σ.
        hess_log_std: ∂²L/∂(log σ)².
    """
    half = 0.5 / variance
    return half * grad_log_std, half * half * (hess_log_std - 2 * grad_log_std)
