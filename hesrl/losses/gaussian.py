"""Losses of a diagonal Gaussian, exact at its mean and at its log σ or σ².

With u = (x − μ)²/σ², ``log π(x) = Σ_j −½ u − log σ − ½ log 2π``, and entry by entry

    ∂log π/∂μ = (x − μ)/σ²       ∂²log π/∂μ² = −1/σ²
    ∂log π/∂log σ = u − 1        ∂²log π/∂(log σ)² = −2u

With ``curvature="fisher"`` a loss takes, in place of its second derivatives, Fisher's diagonal of
the policy, whatever the data: 1/σ² at μ, 2 at log σ and ½/v² at v = σ².

Index legend: N samples, K dimensions. log σ is (N, K), or (K,) or (1, K) if all samples share it.
Without reduction, each sample's loss has its derivatives by a shared log σ: they are (N, K).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hesrl.curvature.estimators.likelihood import Edges, Output, separable
from hesrl.losses.checks import (
    require_constant,
    require_positive_variance,
    require_scale,
    require_scale_name,
    require_shape,
)
from hesrl.losses.operation import Form, PolicyLoss, divisor, reduce, spread


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


def log_normalizer(k: int) -> float:
    """Return the constant ½ K log 2π of log π."""
    return 0.5 * math.log(2 * math.pi) * k


def sum_shared(derivative: Tensor, log_std: Tensor, reduction: str) -> Tensor:
    """Sum the derivatives of a reduced loss over the samples that share a log σ."""
    return derivative if reduction == "none" else derivative.sum_to_size(log_std.shape)


def fisher(inv_std: Tensor, z: Tensor, reduction: str) -> tuple[Tensor, Tensor]:
    """Return Fisher's 1/σ² at μ and 2 at log σ, both (N, K), reduced as a loss is."""
    each = torch.full_like(z, 1 / divisor(len(z), reduction))
    return each * (inv_std * inv_std), 2 * each


def gaussian_a2c(
    mean: Tensor,
    log_std: Tensor,
    actions: Tensor,
    advantages: Tensor,
    reduction: str = "mean",
    curvature: str = "exact",
) -> GaussianTerms:
    """The policy-gradient loss ``ℓ_n = −A_n log π(x_n)`` of a diagonal Gaussian policy.

        ∂ℓ/∂μ = −A (x − μ)/σ²        ∂²ℓ/∂μ² = A/σ²
        ∂ℓ/∂log σ = −A (u − 1)       ∂²ℓ/∂(log σ)² = 2 A u

    For the arguments see `gaussian_surrogate`.
    """
    inv_std = torch.exp(-log_std)
    z = (actions - mean) * inv_std
    u = z * z
    logprobs = -(0.5 * u + log_std).sum(-1) - log_normalizer(z.shape[-1])
    w = (advantages / -divisor(len(z), reduction)).unsqueeze(-1)
    if curvature == "fisher":
        hess_mean, hess_log_std = fisher(inv_std, z, reduction)
    else:
        hess_mean, hess_log_std = -w * (inv_std * inv_std), -2 * w * u
    return GaussianTerms(
        -reduce(advantages * logprobs, reduction),
        grad_mean=w * z * inv_std,
        grad_log_std=sum_shared(w * (u - 1), log_std, reduction),
        hess_mean=hess_mean,
        hess_log_std=sum_shared(hess_log_std, log_std, reduction),
    )


def gaussian_nll(
    mean: Tensor,
    log_std: Tensor,
    targets: Tensor,
    reduction: str = "mean",
    curvature: str = "exact",
) -> GaussianTerms:
    """The negative log-likelihood ``ℓ_n = −log π(x_n)`` of a diagonal Gaussian.

        ∂ℓ/∂μ = −(x − μ)/σ²        ∂²ℓ/∂μ² = 1/σ²
        ∂ℓ/∂log σ = 1 − u          ∂²ℓ/∂(log σ)² = 2u

    For the arguments see `gaussian_surrogate`, with targets x for actions. (The mean of
    `torch.nn.GaussianNLLLoss` is over all N K entries, and it leaves out ½ log 2π.)
    """
    return gaussian_a2c(mean, log_std, targets, mean.new_ones(len(mean)), reduction, curvature)


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


def _by_scale(form: Form, mean: Tensor, scale: Tensor, *args: Any) -> tuple[Tensor, ...]:
    """Evaluate a form of log σ, by σ² if that is what the last argument says."""
    *args_of_form, curvature, name = args
    if name == "log_std":
        return form(mean, scale, *args_of_form, curvature)
    *outputs, grad_mean, grad, hess_mean, hess = form(
        mean, 0.5 * scale.log(), *args_of_form, curvature
    )
    grad_variance, hess_variance = variance_derivatives(scale, grad, hess)
    if curvature == "fisher":
        # Without the gradient, whose mean over the actions is zero.
        hess_variance = hess / (4 * scale * scale)
    return *outputs, grad_mean, grad_variance, hess_mean, hess_variance


def _outputs_of_nll(node: Any, edges: Edges, grad_out: Tensor) -> list[Output]:
    """Mean and scale, with Fisher's 1/σ² and 2 by log σ, ½/v² by the variance v."""
    _, scale, _, _, _, hess_mean, _ = node.saved_tensors
    reduction, _, name = node.settings
    grad_out, count = spread(grad_out, hess_mean), divisor(len(hess_mean), reduction)
    at_scale = grad_out * torch.full_like(hess_mean, 2 / count)
    if name == "variance":
        at_scale = at_scale / (4 * scale * scale)
    at_mean, shared = grad_out * hess_mean, scale.shape != hess_mean.shape
    at_scale = at_scale.sum_to_size(scale.shape)
    return [*separable(edges[0], at_mean), *separable(edges[1], at_scale, shared)]


class GaussianLoss(PolicyLoss):
    """What the losses of a Gaussian have in common: a second input, log σ or σ² by ``scale``."""

    def __init_subclass__(cls, form: Callable[..., Any] | None = None, **kwargs: Any) -> None:
        by_scale = form and partial(_by_scale, form)
        super().__init_subclass__(form=by_scale, inputs=2, **kwargs)

    def __init__(
        self, reduction: str = "mean", scale: str = "log_std", curvature: str = "exact"
    ) -> None:
        super().__init__(reduction, curvature)
        require_scale_name(scale)
        self.scale = scale

    @property
    def _settings(self) -> tuple[str, str, str]:
        """The last settings of the operation."""
        return self.reduction, self.curvature, self.scale

    def _check(self, mean: Tensor, scale: Tensor, name: str, x: Tensor) -> None:
        require_shape("mean", mean, "(N, K)")
        require_scale(self.scale, scale, mean.shape)
        if self.scale == "variance":
            require_positive_variance(scale)
        require_constant(name, x, "mean", mean.shape)


class GaussianNLLLoss(GaussianLoss, form=gaussian_nll, likelihood=_outputs_of_nll):
    """`gaussian_nll` as one operation of the autograd graph, by log σ or by σ²."""

    def forward(self, mean: Tensor, scale: Tensor, targets: Tensor) -> Tensor:
        """Return the loss."""
        self._check(mean, scale, "targets", targets)
        return self.operation(mean, scale, targets, self._settings)


class GaussianA2CLoss(GaussianLoss, form=gaussian_a2c):
    """`gaussian_a2c` as one operation of the autograd graph, by log σ or by σ²."""

    def forward(self, mean: Tensor, scale: Tensor, actions: Tensor, advantages: Tensor) -> Tensor:
        """Return the loss."""
        self._check(mean, scale, "actions", actions)
        require_constant("advantages", advantages, "mean", mean.shape[:1])
        return self.operation(mean, scale, actions, advantages, self._settings)
