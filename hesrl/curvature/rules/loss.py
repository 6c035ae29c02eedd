"""Losses that PyTorch computes in one operation: elementwise terms, then sum, mean or nothing.

With the factor c = 1 (none, sum) or 1/N for N terms (mean), and terms ``ℓ(x, t)``:

    h(x) = (c ℓ_x)² h(L) + c ℓ_xx g(L),    h(t) = (c ℓ_t)² h(L) + c ℓ_tt g(L)

The terms are elementwise, so ``ℓ_xt`` counts where one tensor reaches both x and t. A mean divides
by the number of terms, whatever their weights; `nll_loss` alone divides by the sum of weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hesrl.curvature.rule_registry import (
    Pairs,
    Partials,
    PointwiseRule,
    register_pointwise,
    register_rule,
)

_MEAN = 1
"""PyTorch's code for reduction="mean"; 0 is "none", 2 is "sum"."""

LOSSES: list[str] = []
"""Nodes of losses with elementwise terms, whose ``_saved_reduction`` says what becomes of them."""


def _register_terms(operation: str, curved: Pairs) -> Callable[[PointwiseRule], PointwiseRule]:
    """Register a loss by the derivatives of its terms, each a tensor of the shape of the terms."""

    def register(terms: PointwiseRule) -> PointwiseRule:
        def rule(node: Any) -> Partials:
            first: Any
            second: Any
            first, second = terms(node)
            if node._saved_reduction != _MEAN:
                return first, second
            c = 1 / next(f.numel() for f in first if isinstance(f, Tensor))
            return tuple(None if f is None else c * f for f in first), tuple(
                (i, j, c * f) for i, j, f in second
            )

        LOSSES.append(operation)
        register_pointwise(operation, curved=curved, reduces=True)(rule)
        return terms

    return register


def _of_distance(first: Tensor, second: Tensor) -> Partials:
    """The partial derivatives of ``ℓ(x − t)``, given ℓ' and ℓ''."""
    return (first, -first), ((0, 0, second), (0, 1, -second), (1, 1, second))


_DISTANCE = ((0, 0), (0, 1), (1, 1))


@_register_terms("MseLossBackward0", _DISTANCE)
def mse_loss(node: Any) -> Partials:
    """``ℓ = u²``, u = x − t: ``ℓ'' = 2``, so 2/N for a mean over N entries."""
    u = node._saved_self - node._saved_target
    return _of_distance(2 * u, torch.full_like(u, 2.0))


@_register_terms("HuberLossBackward0", _DISTANCE)
def huber_loss(node: Any) -> Partials:
    """``u²/2`` within δ, ``δ (|u| − δ/2)`` outside: ``ℓ'' = 1`` and 0."""
    u, delta = node._saved_self - node._saved_target, node._saved_delta
    return _of_distance(u.clamp(-delta, delta), (u.abs() < delta).to(u.dtype))


@_register_terms("SmoothL1LossBackward0", _DISTANCE)
def smooth_l1_loss(node: Any) -> Partials:
    """``u²/(2β)`` within β, ``|u| − β/2`` outside: ``ℓ'' = 1/β`` and 0."""
    u, beta = node._saved_self - node._saved_target, node._saved_beta
    if beta == 0:
        return _of_distance(torch.sgn(u), torch.zeros_like(u))
    return _of_distance((u / beta).clamp(-1, 1), (u.abs() < beta).to(u.dtype) / beta)


def _weighted(weight: Tensor | None, value: Tensor) -> Tensor:
    return value if weight is None else weight * value


_SMALLEST = 1e-12
"""Where PyTorch's own gradient of the binary cross-entropy stops dividing by ``x (1 − x)``."""


@_register_terms("BinaryCrossEntropyBackward0", ((0, 0), (0, 1)))
def binary_cross_entropy(node: Any) -> Partials:
    """``ℓ = −w [t log x + (1−t) log(1−x)]``: ``ℓ_x = w (x−t)/(x (1−x))``, ``ℓ_tt = 0``.

    ``ℓ_xx = w [t/x² + (1−t)/(1−x)²]``,  ``ℓ_t = w log((1−x)/x)``,  ``ℓ_xt = −w/(x (1−x))``
    """
    x, t, weight = node._saved_self, node._saved_target, node._saved_weight
    inverse = (x * (1 - x)).clamp(min=_SMALLEST).reciprocal()
    first = _weighted(weight, (x - t) * inverse)
    second = _weighted(weight, (t * (1 - x) ** 2 + (1 - t) * x * x) * inverse * inverse)
    of_target = _weighted(weight, (1 - x).log() - x.log())
    return (first, of_target), ((0, 0, second), (0, 1, -_weighted(weight, inverse)))


@_register_terms("BinaryCrossEntropyWithLogitsBackward0", ((0, 0), (0, 1)))
def binary_cross_entropy_with_logits(node: Any) -> Partials:
    """``ℓ = w [(1−t) x + a log(1 + e^{−x})]``, a = 1 + (q−1) t, q the weight of positives.

    ``ℓ_x = w (1 − t − a σ(−x))``,  ``ℓ_xx = w a σ(x) σ(−x)``
    ``ℓ_t = w [(q−1) log(1 + e^{−x}) − x]``,  ``ℓ_tt = 0``,  ``ℓ_xt = −w [1 + (q−1) σ(−x)]``
    """
    x, t = node._saved_self, node._saved_target
    weight, positive = node._saved_weight, node._saved_pos_weight
    s = torch.sigmoid(-x)
    a: Tensor | float = 1.0
    of_target, mixed = -x, torch.full_like(x, -1.0)
    if positive is not None:
        a = 1 + (positive - 1) * t
        of_target = of_target + (positive - 1) * F.softplus(-x)
        mixed = mixed - (positive - 1) * s
    first = _weighted(weight, 1 - t - a * s)
    second = _weighted(weight, a * (s - s * s))
    return (first, _weighted(weight, of_target)), (
        (0, 0, second),
        (0, 1, _weighted(weight, mixed)),
    )


@_register_terms("SoftMarginLossBackward0", ((0, 0),))
def soft_margin_loss(node: Any) -> Partials:
    """``ℓ = log(1 + e^{−t x})``: ``ℓ_x = −t s``, ``ℓ_xx = t² s (1 − s)``, s = σ(−t x)."""
    x, t = node._saved_self, node._saved_target
    s = torch.sigmoid(-t * x)
    return (-t * s,), ((0, 0, t * t * (s - s * s)),)


@register_rule(
    "NllLossBackward0",
    # With more dimensions behind the classes, as in images.
    "NllLoss2DBackward0",
    # Piecewise linear: Σ over labels i and others j of max(0, 1 − x_i + x_j), over K.
    "MultilabelMarginLossBackward0",
    linear=True,
)
def nll_loss(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``L = −Σ_n w_{t_n} x_{n,t_n} / W``: coefficients squared."""
    coefficients = node(torch.ones_like(hess_out))
    if hess_out.dim() > 0:
        hess_out = hess_out.unsqueeze(1)
    return coefficients.square() * hess_out


@register_rule("MultiMarginLossBackward0", separate=True)
def multi_margin_loss(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``L_n = (w_t/K) Σ_{k≠t} u_k^p`` with ``u_k = max(0, m − x_t + x_k)``, and p = 1 or 2.

    For p = 2 ``∂²L_n/∂x_k² = (2 w_t/K) [u_k > 0]``, and for ``x_t`` the sum of these.
    """
    x, target, weight = node._saved_self, node._saved_target, node._saved_weight
    slope: Tensor = node(torch.ones_like(hess_out))
    if hess_out.dim() > 0:
        hess_out, grad_out = hess_out.unsqueeze(1), grad_out.unsqueeze(1)
    hess = slope.square() * hess_out
    if node._saved_p == 1:
        return hess
    rows, labels = x.view(-1, x.shape[-1]), target.view(-1, 1)
    inside = (node._saved_margin - rows.gather(1, labels) + rows > 0).to(x.dtype)
    inside.scatter_(1, labels, 0.0)
    inside.scatter_(1, labels, inside.sum(1, keepdim=True))
    c = 2 / rows.shape[1] / (len(rows) if node._saved_reduction == _MEAN else 1)
    second = c * inside if weight is None else c * weight[labels] * inside
    return hess + second.view_as(x) * grad_out
