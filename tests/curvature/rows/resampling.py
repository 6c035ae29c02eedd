"""Images sampled at points, and grids of affine maps."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.curvature.rows.row import Row, normal


def image_and_points(ndim: int) -> Callable[[], tuple[Tensor, ...]]:
    """Points inside and far outside of images that are not contiguous."""

    def inputs() -> tuple[Tensor, ...]:
        image = normal(2, 3, *(3, 5, 2)[:ndim]).mT
        grid = 3 * torch.rand(2, *(2, 4, 3)[:ndim], ndim, dtype=torch.float64) - 1.5
        grid[0] *= 3
        return image, grid.transpose(1, 2)

    return inputs


def affine_maps(ndim: int) -> tuple[Tensor, ...]:
    return (normal(2, ndim, ndim + 1),)


def by_points(theta: Tensor, size: list[int], align_corners: bool) -> Tensor:
    axes = [
        torch.linspace(-1, 1, n, dtype=torch.float64)
        if align_corners
        else (2 * torch.arange(n) + 1) / torch.tensor(n, dtype=torch.float64) - 1
        for n in size[2:]
    ]
    points = torch.meshgrid(*axes, indexing="ij")[::-1]
    points = torch.stack([*points, torch.ones_like(points[0])], -1)
    return torch.einsum("nij,...j->n...i", theta, points)


def bring_inside(u: Tensor, size: int, padding: str, align_corners: bool) -> Tensor:
    """Clamp positions, or reflect them until they are inside."""
    if padding == "reflection":
        low, high = (0, size - 1) if align_corners else (-0.5, size - 0.5)
        if low == high:
            return 0 * u
        for _ in range(20):
            u = torch.where(u < low, 2 * low - u, torch.where(u > high, 2 * high - u, u))
    return u.clamp(0, size - 1) if padding != "zeros" else u


def weights(u: Tensor, size: int, mode: str, padding: str, align_corners: bool) -> Tensor:
    """Of all pixels along a dimension, (…, size), for coordinates from −1 to 1."""
    u = (u + 1) / 2 * (size - 1) if align_corners else ((u + 1) * size - 1) / 2
    pixels = torch.arange(size)
    if mode == "bicubic":
        low = u.detach().floor()
        total = torch.zeros(())
        for k in range(-1, 3):
            s = (u - low - k).abs()
            inner, outer = 1.25 * s**3 - 2.25 * s**2 + 1, -0.75 * (s**3 - 5 * s**2 + 8 * s - 4)
            hit = bring_inside(low + k, size, padding, align_corners).unsqueeze(-1) == pixels
            total = total + torch.where(s < 1, inner, outer).unsqueeze(-1) * hit
        return total
    u = bring_inside(u, size, padding, align_corners).unsqueeze(-1)
    if mode == "nearest":
        return (u.detach().round() == pixels).double()
    return (1 - (u - pixels).abs()).clamp(min=0)


def by_all_pixels(**options: Any) -> Callable[[Tensor, Tensor], Tensor]:
    def function(image: Tensor, grid: Tensor) -> Tensor:
        result = image.flatten(2, -1).unflatten(2, image.shape[2:])
        letters = "xyz"[: image.dim() - 2]
        per_dimension = [
            weights(grid[..., d], image.shape[-1 - d], **options) for d in range(len(letters))
        ][::-1]
        points = "pqr"[: len(letters)]
        terms = ",".join(f"n{points}{letter}" for letter in letters)
        return torch.einsum(f"nc{letters},{terms}->nc{points}", result, *per_dimension)

    return function


ROWS = [
    *(
        Row(
            f"grid_sample {ndim}d {mode} {padding} {'corners' if align_corners else ''}",
            f"GridSampler{ndim}DBackward0",
            partial(F.grid_sample, mode=mode, padding_mode=padding, align_corners=align_corners),
            image_and_points(ndim),
            by_all_pixels(mode=mode, padding=padding, align_corners=align_corners),
        )
        for ndim, mode in (
            (2, "bilinear"),
            (2, "nearest"),
            (2, "bicubic"),
            (3, "bilinear"),
            (3, "nearest"),
        )
        for padding, align_corners in itertools.product(
            ("zeros", "border", "reflection"), (False, True)
        )
    ),
    *(
        Row(
            f"affine_grid {len(size) - 2}d {align_corners}",
            "AffineGridGeneratorBackward0",
            partial(F.affine_grid, size=size, align_corners=align_corners),
            partial(affine_maps, len(size) - 2),
            partial(by_points, size=size, align_corners=align_corners),
        )
        for size in ([2, 1, 2, 3], [2, 1, 3, 2, 4])
        for align_corners in (False, True)
    ),
]
