"""Upsampling: each output entry is one input entry, or a weighted sum of its neighbours.

Nearest-neighbour upsampling copies entries, so ``h`` goes where the gradient goes. All other modes
go along one dimension after the other, with the weights ``w_kj`` of input j in output k:

    y_k = Σ_j w_kj x_j,    h(x)_j = Σ_k w_kj² h_k

and the weights of several dimensions multiply, so their squares do. All are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import register_adjoint, register_rule

aten = torch.ops.aten

register_adjoint(
    "UpsampleNearest1DBackward0",
    "UpsampleNearest2DBackward0",
    "UpsampleNearest3DBackward0",
    "UpsampleNearestExact1DBackward0",
    "UpsampleNearestExact2DBackward0",
    "UpsampleNearestExact3DBackward0",
)

Upsample: TypeAlias = Callable[[Tensor, int, bool, "float | None"], Tensor]
"""Takes a batch (n, j) to (n, k): upsampling of one dimension to a size, or by a factor."""


@register_rule("UpsampleLinear1DBackward0", linear=True)
def linear(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """Over the last dimension."""
    return _weighted(node, hess_out, _linear, (node._saved_scales,))


@register_rule("UpsampleBilinear2DBackward0", linear=True)
def bilinear(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """Over the last two dimensions."""
    return _weighted(node, hess_out, _linear, (node._saved_scales_h, node._saved_scales_w))


@register_rule("UpsampleTrilinear3DBackward0", linear=True)
def trilinear(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """Over the last three dimensions."""
    scales = node._saved_scales_d, node._saved_scales_h, node._saved_scales_w
    return _weighted(node, hess_out, _linear, scales)


def _linear(x: Tensor, size: int, align_corners: bool, scale: float | None) -> Tensor:
    return aten.upsample_linear1d(x.unsqueeze(0), [size], align_corners, scale)[0]


def _register_by_rows(operation: str, upsample_images: Any) -> None:
    """Register an upsampling of two dimensions, which images of one row show to be of one."""

    def upsample(x: Tensor, size: int, align_corners: bool, scale: float | None) -> Tensor:
        rows: Tensor = x.unsqueeze(-2).unsqueeze(0)
        return upsample_images(rows, [1, size], align_corners, None, scale)[0, :, 0]

    @register_rule(operation, linear=True)
    def rule(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
        return _weighted(node, hess_out, upsample, (node._saved_scales_h, node._saved_scales_w))


ANTIALIASED = [
    mode
    for mode in ("Bilinear", "Bicubic", "Lanczos")
    if hasattr(torch._C._functions, f"Upsample{mode}2DAaBackward0")
]
"""The modes with ``antialias=True`` that this PyTorch has."""

_register_by_rows("UpsampleBicubic2DBackward0", aten.upsample_bicubic2d)
for _mode in ANTIALIASED:
    _register_by_rows(
        f"Upsample{_mode}2DAaBackward0", getattr(aten, f"_upsample_{_mode.lower()}2d_aa")
    )


def _weighted(
    node: Any, hess_out: Tensor, upsample: Upsample, scales: tuple[float | None, ...]
) -> Tensor:
    """Return ``h(x)``, one dimension after the other, as products with ``w_kj²``.

    The operation itself, applied to unit vectors, gives the weights.
    """
    hess = hess_out
    wide = torch.promote_types(hess.dtype, torch.float32)
    for dim, scale in zip(range(-len(scales), 0), scales, strict=True):
        units = torch.eye(int(node._saved_self_sym_sizes[dim]), dtype=wide, device=hess.device)
        weights = upsample(units, hess.shape[dim], node._saved_align_corners, scale)
        squares = weights.square().to(hess.dtype)
        hess = torch.tensordot(hess, squares, ([dim], [1])).movedim(-1, dim)
    return hess
