"""Upsampling: each output entry is one input entry, or a weighted mean of its neighbours.

Nearest-neighbour upsampling copies entries, so ``h`` goes where the gradient goes. Linear,
bilinear and trilinear upsampling go along one dimension after the other: at position q = i + λ

    y_k = (1 − λ) x_i + λ x_{i+1},    h(x)_j = Σ_k [ (1 − λ_k)² δ_{j,i_k} + λ_k² δ_{j,i_k+1} ] h_k

and the coefficients of several dimensions multiply, so their squares do. All are exact.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.registry import register_adjoint, register_rule

register_adjoint(
    "UpsampleNearest1DBackward0",
    "UpsampleNearest2DBackward0",
    "UpsampleNearest3DBackward0",
    "UpsampleNearestExact1DBackward0",
    "UpsampleNearestExact2DBackward0",
    "UpsampleNearestExact3DBackward0",
)


@register_rule("UpsampleLinear1DBackward0", linear=True)
def linear(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """Over the last dimension."""
    return _linear(node, hess_out, (node._saved_scales,))


@register_rule("UpsampleBilinear2DBackward0", linear=True)
def bilinear(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """Over the last two dimensions."""
    return _linear(node, hess_out, (node._saved_scales_h, node._saved_scales_w))


@register_rule("UpsampleTrilinear3DBackward0", linear=True)
def trilinear(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """Over the last three dimensions."""
    scales = node._saved_scales_d, node._saved_scales_h, node._saved_scales_w
    return _linear(node, hess_out, scales)


def _linear(node: Any, hess_out: Tensor, scales: tuple[float | None, ...]) -> Tensor:
    """Return ``h(x)``, one dimension after the other.

    The operation itself, applied to the indices 0, 1, 2, …, gives the positions q.
    """
    hess = hess_out
    for dim, scale in zip(range(-len(scales), 0), scales, strict=True):
        length, count = int(node._saved_self_sym_sizes[dim]), hess.shape[dim]
        indices = torch.arange(length, dtype=torch.float64, device=hess.device).view(1, 1, -1)
        position = torch.ops.aten.upsample_linear1d(
            indices, [count], node._saved_align_corners, scale
        ).flatten()
        below = position.floor().long().clamp(max=length - 1)
        above = (below + 1).clamp(max=length - 1)
        weight = (position - below).to(hess.dtype).view(-1, *[1] * (-dim - 1))
        shape = list(hess.shape)
        shape[dim] = length
        hess = (
            hess.new_zeros(shape)
            .index_add(dim, below, hess * (1 - weight).square())
            .index_add(dim, above, hess * weight.square())
        )
    return hess
