"""Images sampled at the points of a grid, and the grids of affine maps.

A point ``u`` gets a weighted sum of the pixels around it; the coordinate of each dimension gives
the weights of two pixels (bilinear, trilinear) or four (bicubic), and they multiply:

    y_ck = Σ_j w_kj x_cj,    h(x)_cj = Σ_k w_kj² h_ck
                             h(u)_kd = Σ_c [ (∂y_ck/∂u_kd)² h_ck + ∂²y_ck/∂u_kd² g_ck ]

The second derivative is zero but for bicubic weights. At the edges between pixels and of the image
the slope is the one of PyTorch's own gradient. All are exact by the definition.

Index legend: ``n`` images, ``c`` channels, ``j`` pixels, ``k`` points, ``d`` dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import register_rule

aten = torch.ops.aten
_NEAREST, _BICUBIC = 1, 2
"""Values of a node's saved mode; 0 is linear."""
_ZEROS, _BORDER = 0, 1
"""Values of its saved padding; 2 is by reflection."""
_A = -0.75
"""The free constant of PyTorch's cubic."""


@register_rule("GridSampler2DBackward0", "GridSampler3DBackward0")
def grid_sample(
    node: Any, grad_out: Tensor, hess_out: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """``h`` of the image (n, c, …) and of the points (n, …, d)."""
    x, grid, mode = node._saved_input, node._saved_grid, node._saved_interpolation_mode
    padding, align_corners = node._saved_padding_mode, node._saved_align_corners
    to_image, to_grid = (source is not None for source, _ in node.next_functions)
    taps = []
    if mode == _BICUBIC or (mode != _NEAREST and to_image):
        points = grid.flatten(1, -2).unbind(-1)
        taps = [
            _taps(u, size, mode, padding, align_corners)
            for u, size in zip(points, reversed(x.shape[2:]), strict=True)
        ][::-1]
    hess_image = hess_grid = None
    if to_image:
        hess_image = node(hess_out)[0] if mode == _NEAREST else _of_image(x, taps, hess_out)
    if to_grid:
        slope = _slope(x, grid, mode, padding, align_corners)
        hess_grid = (slope.square() * hess_out.unsqueeze(-1)).sum(1)
        if mode == _BICUBIC:
            hess_grid = hess_grid + _bend(x, taps, grad_out).view_as(grid)
    return hess_image, hess_grid


def _slope(x: Tensor, grid: Tensor, mode: int, padding: int, align_corners: bool) -> Tensor:
    """Return ``∂y_ck/∂u_kd`` (n, c, …, d): the native gradient, for every channel apart."""
    channels = x.shape[1]
    backward = aten.grid_sampler_2d_backward if x.dim() == 4 else aten.grid_sampler_3d_backward
    points = grid.unsqueeze(1).expand(-1, channels, *grid.shape[1:]).flatten(0, 1)
    ones = points.new_ones(len(points), 1, *grid.shape[1:-1])
    images = x.flatten(0, 1).unsqueeze(1)
    _, slope = backward(ones, images, points, mode, padding, align_corners, [False, True])
    return slope.unflatten(0, x.shape[:2])


@dataclass(frozen=True, slots=True)
class _Taps:
    """The pixels along one dimension that each point takes, (number of them, n, k)."""

    index: Tensor
    weight: Tensor
    """Zero outside the image."""
    bend: Tensor | None
    """Second derivatives of the weights by the coordinate; None for zero."""


def _taps(u: Tensor, size: int, mode: int, padding: int, align_corners: bool) -> _Taps:
    """Find the pixels for coordinates from −1 to 1 along a dimension of some size."""
    half = (size - 1) / 2 if align_corners else size / 2
    position = (u + 1) * half - (0 if align_corners else 0.5)
    bend = None
    if mode == _BICUBIC:
        low = position.floor()
        weight, bend = _cubic(position - low)
        bend = bend * half**2
        pixel = torch.stack([_padded(low + k, size, padding, align_corners) for k in range(-1, 3)])
    else:
        position = _padded(position, size, padding, align_corners)
        low = position.floor()
        weight = torch.stack([1 - (position - low), position - low])
        pixel = torch.stack([low, low + 1])
    inside = (pixel >= 0) & (pixel <= size - 1)
    return _Taps(
        torch.where(inside, pixel, 0.0).long(),
        torch.where(inside, weight, 0.0),
        None if bend is None else torch.where(inside, bend, 0.0),
    )


def _padded(position: Tensor, size: int, padding: int, align_corners: bool) -> Tensor:
    """Bring positions into the image, but for zeros around it."""
    if padding == _ZEROS:
        return position
    if padding != _BORDER:
        low, span = (0.0, size - 1) if align_corners else (-0.5, size)
        period = max(2 * span, 1)
        position = low + span - (span - (position - low).abs() % period).abs()
    return position.clamp(0, size - 1)


def _cubic(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights of the pixels at −1, 0, 1 and 2 from t, and their second derivatives.

    At a distance s: ``(A+2) s³ − (A+3) s² + 1`` up to 1 and ``A s³ − 5A s² + 8A s − 4A`` up to 2.
    """
    near, far = torch.stack([t, 1 - t]), torch.stack([t + 1, 2 - t])
    of_near = ((_A + 2) * near - (_A + 3)) * near**2 + 1
    of_far = ((_A * far - 5 * _A) * far + 8 * _A) * far - 4 * _A
    bend_near, bend_far = 6 * (_A + 2) * near - 2 * (_A + 3), 6 * _A * far - 10 * _A
    return (
        torch.stack([of_far[0], of_near[0], of_near[1], of_far[1]]),
        torch.stack([bend_far[0], bend_near[0], bend_near[1], bend_far[1]]),
    )


def _of_image(x: Tensor, taps: list[_Taps], hess_out: Tensor) -> Tensor:
    """Return ``Σ_k w_kj² h_ck``; the weights of a point's taps on the same pixel add up before."""
    hess_out = hess_out.flatten(2)
    hess = x.new_zeros(*x.shape[:2], x.shape[2:].numel())
    weights = [_joined(tap) for tap in taps]
    for chosen, index in _pixels(x, taps):
        squares = torch.ones_like(weights[0][0])
        for weight, m in zip(weights, chosen, strict=True):
            squares = squares * weight[m].square()
        hess.scatter_add_(2, index.expand_as(hess_out), squares.unsqueeze(1) * hess_out)
    return hess.view(x.shape)


def _joined(taps: _Taps) -> Tensor:
    """Return the weights, all of those on the same pixel at the first of its taps."""
    if taps.bend is None:  # Two pixels are never the same.
        return taps.weight
    same = taps.index.unsqueeze(1) == taps.index
    is_first = same.int().argmax(1) == torch.arange(len(same), device=same.device).view(-1, 1, 1)
    return (same * taps.weight).sum(1) * is_first


def _bend(x: Tensor, taps: list[_Taps], grad_out: Tensor) -> Tensor:
    """Return ``Σ_c ∂²y_ck/∂u_kd² g_ck`` (n, k, d) of bicubic weights."""
    pixels, grad_out = x.flatten(2), grad_out.flatten(2)
    rows, columns = taps
    assert rows.bend is not None and columns.bend is not None
    by_row = by_column = torch.zeros_like(grad_out[:, 0])
    for (i, j), index in _pixels(x, taps):
        weighted = (pixels.gather(2, index.expand_as(grad_out)) * grad_out).sum(1)
        by_row = by_row + rows.bend[i] * columns.weight[j] * weighted
        by_column = by_column + rows.weight[i] * columns.bend[j] * weighted
    return torch.stack([by_column, by_row], -1)


def _pixels(x: Tensor, taps: list[_Taps]) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Yield the choices of a tap for each dimension, with the pixel (n, 1, k) that each hits."""
    for chosen in product(*(range(len(tap.index)) for tap in taps)):
        index = torch.zeros_like(taps[0].index[0])
        for tap, m, size in zip(taps, chosen, x.shape[2:], strict=True):
            index = index * size + tap.index[m]
        yield chosen, index.unsqueeze(1)


@register_rule("AffineGridGeneratorBackward0", linear=True)
def affine_grid(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``u_k = θ (b_k, 1)`` for the points ``b_k`` of a regular grid, which θ = (1, 0) gives."""
    size, ndim = node._saved_size, hess_out.shape[-1]
    identity = torch.eye(ndim, ndim + 1, dtype=hess_out.dtype, device=hess_out.device)
    points = aten.affine_grid_generator(
        identity.unsqueeze(0), [1, *size[1:]], node._saved_align_corners
    ).view(-1, ndim)
    squares = torch.cat([points.square(), torch.ones_like(points[:, :1])], 1)
    return hess_out.flatten(1, -2).mT @ squares
