"""Weight normalisation along the first or the last dimension, which is one operation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.curvature.rows.row import Row, normal

aten = torch.ops.aten


def weight_norm(dim: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda v, g: aten._weight_norm_interface(v, g, dim)[0]


def by_norm(dim: int) -> Callable[[Tensor, Tensor], Tensor]:
    def function(v: Tensor, g: Tensor) -> Tensor:
        others = [d for d in range(v.dim()) if d != dim]
        norm = v.square().sum(others, keepdim=True).sqrt() if others else v.abs()
        return g * v / norm

    return function


ROWS = [
    Row(
        f"weight_norm {shape} dim={dim}",
        "WeightNormInterfaceBackward0",
        weight_norm(dim),
        lambda shape=shape, dim=dim: (
            normal(*shape),
            normal(*(n if d == dim else 1 for d, n in enumerate(shape))),
        ),
        by_norm(dim),
    )
    for shape, dim in (
        ((3, 4), 0),
        ((3, 4), 1),
        ((3, 2, 2), 0),
        ((2, 2, 3), 2),
        ((4, 1), 0),
        ((3,), 0),
    )
]
