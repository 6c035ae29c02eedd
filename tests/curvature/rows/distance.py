"""Distances between pairs of points, and bounded norms."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.curvature.rows.row import Row, normal

ORDERS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, math.inf)
BY_PRODUCT = "use_mm_for_euclid_dist"


def points(*shapes: tuple[int, ...]) -> Callable[[], tuple[Tensor, ...]]:
    """Points far from 0, not contiguous."""
    return lambda: tuple(5 + normal(*shape).mT for shape in shapes)


def between(p: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda a, b: torch.linalg.vector_norm(a.unsqueeze(-2) - b.unsqueeze(-3), p, -1)


def within(p: float) -> Callable[[Tensor], Tensor]:
    def function(x: Tensor) -> Tensor:
        first, second = torch.triu_indices(len(x), len(x), 1)
        return torch.linalg.vector_norm(x[first] - x[second], p, -1)

    return function


def bounded(p: float) -> Callable[[Tensor], Tensor]:
    """Rows with a norm above 1 and below."""

    def function(x: Tensor) -> Tensor:
        norms = torch.linalg.vector_norm(x, p, (0, 2), keepdim=True)
        return x * torch.where(norms > 1, 1 / (norms + 1e-7), 1.0)

    return function


def small_and_large() -> tuple[Tensor, ...]:
    return (normal(2, 3, 2) * torch.tensor([[0.1], [1.0], [3.0]], dtype=torch.float64),)


ROWS = [
    *(
        Row(f"cdist {p}", "CdistBackward0", partial(torch.cdist, p=p), points(*shapes), between(p))
        for p in ORDERS
        for shapes in (((3, 4), (3, 2)), ((2, 1, 3, 2), (2, 3, 3)))
    ),
    Row(
        "cdist by products",
        "EuclideanDistBackward0",
        partial(torch.cdist, compute_mode=BY_PRODUCT),
        points((3, 4), (3, 2)),
        between(2),
    ),
    Row(
        "cdist by products of a batch",
        "EuclideanDistBackward0",
        partial(torch.cdist, compute_mode=BY_PRODUCT),
        points((1, 3, 2), (2, 3, 3)),
        between(2),
    ),
    *(
        Row(f"pdist {p}", "PdistBackward0", partial(F.pdist, p=p), points((3, 4)), within(p))
        for p in ORDERS
    ),
    *(
        Row(
            f"renorm {p}",
            "RenormBackward0",
            partial(torch.renorm, p=p, dim=-2, maxnorm=1),
            small_and_large,
            bounded(p),
        )
        for p in ORDERS[1:]
    ),
]
