"""Losses that PyTorch computes in one operation: elementwise terms, then sum, mean or nothing.

A term ``ℓ(x − t)`` has ``∂ℓ/∂t = −∂ℓ/∂x``, so input and target share their second derivative.
With the factor c = 1 (none, sum) or 1/N for N entries (mean):

    h(x) = (c ℓ')² h(L) + c ℓ'' g(L)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.registry import register_rule

_MEAN = 1
"""PyTorch's code for reduction="mean"; 0 is "none", 2 is "sum"."""


def _distance_loss(
    node: Any, grad_out: Tensor, hess_out: Tensor, first: Tensor, second: Tensor | float
) -> tuple[Tensor | None, Tensor | None]:
    """Return ``h`` of input and target, given ℓ' and ℓ'' at each entry."""
    c = 1 / first.numel() if node._saved_reduction == _MEAN else 1.0
    hess = (c * first) ** 2 * hess_out + (c * second) * grad_out
    (x, _), (target, _) = node.next_functions
    return hess if x is not None else None, hess if target is not None else None


@register_rule("MseLossBackward0")
def mse_loss(node: Any, grad_out: Tensor, hess_out: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """``ℓ = u²``, u = x − t: ``ℓ'' = 2``, so 2/N for a mean over N entries."""
    u = node._saved_self - node._saved_target
    return _distance_loss(node, grad_out, hess_out, 2 * u, 2.0)


@register_rule("HuberLossBackward0")
def huber_loss(
    node: Any, grad_out: Tensor, hess_out: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """``u²/2`` within δ, ``δ (|u| − δ/2)`` outside: ``ℓ'' = 1`` and 0."""
    u, delta = node._saved_self - node._saved_target, node._saved_delta
    second = (u.abs() < delta).to(u.dtype)
    return _distance_loss(node, grad_out, hess_out, u.clamp(-delta, delta), second)


@register_rule("SmoothL1LossBackward0")
def smooth_l1_loss(
    node: Any, grad_out: Tensor, hess_out: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """``u²/(2β)`` within β, ``|u| − β/2`` outside: ``ℓ'' = 1/β`` and 0."""
    u, beta = node._saved_self - node._saved_target, node._saved_beta
    if beta == 0:
        return _distance_loss(node, grad_out, hess_out, torch.sgn(u), torch.zeros_like(u))
    second = (u.abs() < beta).to(u.dtype) / beta
    return _distance_loss(node, grad_out, hess_out, (u / beta).clamp(-1, 1), second)


@register_rule("NllLossBackward0", linear=True)
def nll_loss(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``L = −Σ_n w_{t_n} x_{n,t_n} / W``: coefficients squared."""
    coefficients = node(torch.ones_like(hess_out))
    if hess_out.dim() == 1:
        hess_out = hess_out.unsqueeze(1)
    return coefficients.square() * hess_out
