"""Losses that PyTorch computes in one operation: elementwise terms, then sum, mean or nothing.

With the factor c = 1 (none, sum) or 1/N for N terms (mean), and terms ``ℓ(x, t)``:

    h(x) = (c ℓ_x)² h(L) + c ℓ_xx g(L),    h(t) = (c ℓ_t)² h(L) + c ℓ_tt g(L)

A mean divides by the number of terms, whatever their weights; `nll_loss` alone divides by the sum
of weights.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hesrl.curvature.registry import register_rule

_MEAN = 1
"""PyTorch's code for reduction="mean"; 0 is "none", 2 is "sum"."""

_Derivatives = tuple["Tensor | None", "Tensor | float"]
"""First and second derivative of the terms, with respect to one of their arguments."""


def _through_terms(
    node: Any, grad_out: Tensor, hess_out: Tensor, *arguments: _Derivatives
) -> tuple[Tensor | None, ...]:
    """Return ``h`` of each argument of the terms, None for one that takes no gradient."""
    hess_in: list[Tensor | None] = []
    for (source, _), (first, second) in zip(node.next_functions, arguments, strict=True):
        if source is None or first is None:
            hess_in.append(None)
            continue
        c = 1 / first.numel() if node._saved_reduction == _MEAN else 1.0
        hess_in.append((c * first) ** 2 * hess_out + (c * second) * grad_out)
    return tuple(hess_in)


def _distance_loss(
    node: Any, grad_out: Tensor, hess_out: Tensor, first: Tensor, second: Tensor | float
) -> tuple[Tensor | None, ...]:
    """A loss of ``u = x − t``: input and target share their derivatives, but for a sign."""
    terms = first, second
    return _through_terms(node, grad_out, hess_out, terms, terms)


@register_rule("MseLossBackward0")
def mse_loss(node: Any, grad_out: Tensor, hess_out: Tensor) -> tuple[Tensor | None, ...]:
    """``ℓ = u²``, u = x − t: ``ℓ'' = 2``, so 2/N for a mean over N entries."""
    u = node._saved_self - node._saved_target
    return _distance_loss(node, grad_out, hess_out, 2 * u, 2.0)


@register_rule("HuberLossBackward0")
def huber_loss(node: Any, grad_out: Tensor, hess_out: Tensor) -> tuple[Tensor | None, ...]:
    """``u²/2`` within δ, ``δ (|u| − δ/2)`` outside: ``ℓ'' = 1`` and 0."""
    u, delta = node._saved_self - node._saved_target, node._saved_delta
    second = (u.abs() < delta).to(u.dtype)
    return _distance_loss(node, grad_out, hess_out, u.clamp(-delta, delta), second)


@register_rule("SmoothL1LossBackward0")
def smooth_l1_loss(node: Any, grad_out: Tensor, hess_out: Tensor) -> tuple[Tensor | None, ...]:
    """``u²/(2β)`` within β, ``|u| − β/2`` outside: ``ℓ'' = 1/β`` and 0."""
    u, beta = node._saved_self - node._saved_target, node._saved_beta
    if beta == 0:
        return _distance_loss(node, grad_out, hess_out, torch.sgn(u), torch.zeros_like(u))
    second = (u.abs() < beta).to(u.dtype) / beta
    return _distance_loss(node, grad_out, hess_out, (u / beta).clamp(-1, 1), second)


def _weighted(weight: Tensor | None, value: Tensor) -> Tensor:
    return value if weight is None else weight * value


_SMALLEST = 1e-12
"""Where PyTorch's own gradient of the binary cross-entropy stops dividing by ``x (1 − x)``."""


@register_rule("BinaryCrossEntropyBackward0")
def binary_cross_entropy(
    node: Any, grad_out: Tensor, hess_out: Tensor
) -> tuple[Tensor | None, ...]:
    """``ℓ = −w [t log x + (1−t) log(1−x)]``: ``ℓ_x = w (x−t)/(x (1−x))``, ``ℓ_tt = 0``.

    ``ℓ_xx = w [t/x² + (1−t)/(1−x)²]``,  ``ℓ_t = w log((1−x)/x)``
    """
    x, t, weight = node._saved_self, node._saved_target, node._saved_weight
    inverse = (x * (1 - x)).clamp(min=_SMALLEST).reciprocal()
    first = _weighted(weight, (x - t) * inverse)
    second = _weighted(weight, (t * (1 - x) ** 2 + (1 - t) * x * x) * inverse * inverse)
    of_target = _weighted(weight, (1 - x).log() - x.log())
    return _through_terms(node, grad_out, hess_out, (first, second), (of_target, 0.0))


@register_rule("BinaryCrossEntropyWithLogitsBackward0")
def binary_cross_entropy_with_logits(
    node: Any, grad_out: Tensor, hess_out: Tensor
) -> tuple[Tensor | None, ...]:
    """``ℓ = w [(1−t) x + a log(1 + e^{−x})]``, a = 1 + (q−1) t, q the weight of positives.

    ``ℓ_x = w (1 − t − a σ(−x))``,  ``ℓ_xx = w a σ(x) σ(−x)``
    ``ℓ_t = w [(q−1) log(1 + e^{−x}) − x]``,  ``ℓ_tt = 0``
    """
    x, t = node._saved_self, node._saved_target
    weight, positive = node._saved_weight, node._saved_pos_weight
    s = torch.sigmoid(-x)
    of_target = -x
    a: Tensor | float = 1.0
    if positive is not None:
        a = 1 + (positive - 1) * t
        of_target = of_target + (positive - 1) * F.softplus(-x)
    first = _weighted(weight, 1 - t - a * s)
    second = _weighted(weight, a * (s - s * s))
    return _through_terms(
        node, grad_out, hess_out, (first, second), (_weighted(weight, of_target), 0.0)
    )


@register_rule("SoftMarginLossBackward0")
def soft_margin_loss(node: Any, grad_out: Tensor, hess_out: Tensor) -> tuple[Tensor | None, ...]:
    """``ℓ = log(1 + e^{−t x})``: ``ℓ_x = −t s``, ``ℓ_xx = t² s (1 − s)``, s = σ(−t x)."""
    x, t = node._saved_self, node._saved_target
    s = torch.sigmoid(-t * x)
    return _through_terms(node, grad_out, hess_out, (-t * s, t * t * (s - s * s)))


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
