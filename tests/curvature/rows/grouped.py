"""Grouped matrix products; they have kernels for single precision at most."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.curvature.rows.row import Row, normal

ENDS = [2, 2, 5]
"""Where the groups end of which the second is empty; what comes after the last is left out."""
SINGLE = 1e-4


def grouped(a: Tensor, w: Tensor) -> Tensor:
    """By the operation; along a dimension of groups, its result is defined up to the last end."""
    if a.dim() == w.dim() == 3:
        return torch._grouped_mm(a.float(), w.float()).double()
    offsets = torch.tensor(ENDS, dtype=torch.int32)
    z = torch._grouped_mm(a.float(), w.float(), offs=offsets).double()
    if a.dim() == w.dim():
        return z
    return z[: ENDS[-1]] if a.dim() == 2 else z[:, : ENDS[-1]]


def one_by_one(a: Tensor, w: Tensor) -> Tensor:
    """The same, by a product for each group."""
    if a.dim() == w.dim() == 3:
        return a @ w
    parts = []
    for e, (start, end) in enumerate(zip([0, *ENDS], ENDS, strict=False)):
        if a.dim() == 2:
            rows = a[start:end] if w.dim() == 3 else a[:, start:end]
            parts.append(rows @ (w[e] if w.dim() == 3 else w[start:end]))
        else:
            parts.append(a[e] @ w[:, start:end])
    return torch.stack(parts) if a.dim() == w.dim() else torch.cat(parts, 0 if a.dim() == 2 else 1)


def row(name: str, inputs: Callable[[], tuple[Tensor, ...]]) -> Row:
    return Row(f"grouped_mm {name}", "GroupedMmBackward0", grouped, inputs, one_by_one, SINGLE)


ROWS = [
    row("rows of a", lambda: (normal(8, 4), normal(3, 4, 8))),
    row("rows of a, weights transposed", lambda: (normal(8, 4), normal(3, 8, 4).mT)),
    row("columns of w", lambda: (normal(3, 4, 4), normal(4, 8))),
    row("columns of w, transposed", lambda: (normal(3, 4, 4).mT, normal(8, 4).mT)),
    row("inner", lambda: (normal(4, 8), normal(8, 4))),
    row("inner, transposed", lambda: (normal(8, 4).mT, normal(4, 8).mT)),
    row("stacks", lambda: (normal(3, 4, 8), normal(3, 8, 4))),
]
