"""Entropy bonuses ``−β H`` of policies, losses that fall as the policy spreads."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hesrl.losses.checks import (
    require_finite,
    require_positive_variance,
    require_scale_name,
    require_shape,
)
from hesrl.losses.gaussian import variance_derivatives
from hesrl.losses.operation import ClosedFormLoss, Terms, divisor, reduce

SMALLEST_LOG = -1e4
"""Stands for −∞ where it meets a probability 0; e^−10000 is 0 in every floating-point type."""


def categorical_entropy_bonus(logits: Tensor, coef: float = 1.0, reduction: str = "mean") -> Terms:
    """``ℓ_n = −β H_n`` of a categorical policy, H = −Σ_k q_k log q_k and q = softmax(z).

    With e = log q + H:

        ∂ℓ/∂z = β q e,      ∂²ℓ/∂z² = β q [(1 − 2q) e + (1 − q)]

    A mean is over the N samples.

    Args:
        logits: z (N, K).
        coef: β.
        reduction: "mean", "sum" or "none".
    """
    logq = logits.log_softmax(1)
    q = logq.exp()
    logq = logq.clamp(min=SMALLEST_LOG)
    entropy = -(q * logq).sum(1, keepdim=True)
    e = logq + entropy
    c_q = coef / divisor(len(logits), reduction) * q
    loss = -coef * reduce(entropy.squeeze(1), reduction)
    return Terms(loss, grad=c_q * e, hess=c_q * ((1 - 2 * q) * e + (1 - q)))


def gaussian_entropy_bonus(log_std: Tensor, coef: float = 1.0, reduction: str = "mean") -> Terms:
    """``ℓ_n = −β H_n`` of a diagonal Gaussian policy, H = Σ_j log σ_j + ½ log 2πe.

        ∂ℓ/∂log σ = −β,      ∂²ℓ/∂(log σ)² = 0

    A mean is over the rows of log σ; one that all samples share is a single row.

    Args:
        log_std: log σ (N, K), (1, K) or (K,).
        coef: β.
        reduction: "mean", "sum" or "none".
    """
    constant = 0.5 * math.log(2 * math.pi * math.e) * log_std.shape[-1]
    entropy = log_std.sum(-1).reshape(-1) + constant
    slope = -coef / divisor(len(entropy), reduction)
    return Terms(
        -coef * reduce(entropy, reduction),
        grad=torch.full_like(log_std, slope),
        hess=torch.zeros_like(log_std),
    )


def _by_scale(scale: Tensor, coef: float, reduction: str, name: str) -> tuple[Tensor, ...]:
    """The bonus of log σ, or of v = σ²: ``∂ℓ/∂v = −β/(2v)`` and ``∂²ℓ/∂v² = β/(2v²)``."""
    if name == "log_std":
        return gaussian_entropy_bonus(scale, coef, reduction)
    loss, grad, hess = gaussian_entropy_bonus(0.5 * scale.log(), coef, reduction)
    return loss, *variance_derivatives(scale, grad, hess)


class LogitsEntropyBonus(ClosedFormLoss):
    """Base of the bonuses of policies whose only parameters are logits."""

    def __init__(self, coef: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        require_finite("coef", coef)
        self.coef = coef

    def forward(self, logits: Tensor) -> Tensor:
        """Return the loss at logits (N, K)."""
        require_shape("logits", logits, "(N, K)")
        return self.operation(logits, (self.coef, self.reduction))


class CategoricalEntropyBonus(LogitsEntropyBonus, form=categorical_entropy_bonus):
    """`categorical_entropy_bonus` as one operation of the autograd graph."""


class GaussianEntropyBonus(ClosedFormLoss, form=_by_scale):
    """`gaussian_entropy_bonus` as one operation of the autograd graph."""

    def __init__(self, coef: float = 1.0, reduction: str = "mean", scale: str = "log_std") -> None:
        super().__init__(reduction)
        require_finite("coef", coef)
        require_scale_name(scale)
        self.coef, self.scale = coef, scale

    def forward(self, scale: Tensor) -> Tensor:
        """Return the loss at log σ, or at σ², (N, K), (1, K) or (K,)."""
        if scale.dim() not in (1, 2):
            shape = tuple(scale.shape)
            raise ValueError(f"{self.scale} must have shape (N, K) or (K,), not {shape}")
        if self.scale == "variance":
            require_positive_variance(scale)
        return self.operation(scale, (self.coef, self.reduction, self.scale))
