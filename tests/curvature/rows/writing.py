"""Entries written to, or added at, places in another tensor."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.curvature.rows.row import Row, normal

MASK = torch.tensor([[True, False, False, True]]).expand(3, 4)
INDEX = torch.tensor([[2, 0, 0], [1, 1, 3], [0, 3, 2]])
PICKED = torch.tensor([0, 2, 0])
TARGETS = torch.tensor([2, 0, 1])
ROWWISE = torch.tensor([[0, 1, 2, 0], [1, 0, 0, 2]])


def with_values(*shape: int) -> Callable[[], tuple[Tensor, ...]]:
    """A tensor to write into, and what to write."""
    return lambda: (normal(3, 4), normal(*shape))


def assign_masked(x: Tensor, v: Tensor) -> Tensor:
    y = x.clone()
    y[MASK] = v
    return y


def put_flat(index: Tensor, scatter: Callable[..., Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """``put`` by ``scatter`` or ``scatter_add``."""
    return lambda x, v: scatter(x.flatten(), 0, index.flatten(), v.flatten()).view_as(x)


def assign(x: Tensor, v: Tensor) -> Tensor:
    y = x.clone()
    y[:, 1:3] = v
    return y


def assign_to_constant(v: Tensor) -> Tensor:
    y = v.new_ones(3, 4)
    y[:, 1:3] = v
    return y


def assign_number(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 1:3] = 1.7
    return y


def add_in_place(x: Tensor, v: Tensor) -> Tensor:
    y = x.clone()
    y[:, 1:3] += v
    return y


def assigned(x: Tensor, v: Tensor) -> Tensor:
    return torch.cat([x[:, :1], v.expand(3, 2), x[:, 3:]], 1)


def circular(x: Tensor) -> Tensor:
    """What `F.pad` does in place."""
    for dim in range(-1, 1 - x.dim(), -1):
        length, (before, after) = x.shape[dim], ((0, 1), (1, 0), (1, 2))[dim]
        x = torch.cat([x.narrow(dim, length - before, before), x, x.narrow(dim, 0, after)], dim)
    return x


ROWS = [
    Row(
        "as_strided_scatter",
        "AsStridedScatterBackward0",
        lambda x, v: x.as_strided_scatter(v, (2, 2), (4, 1), 1),
        with_values(2, 2),
    ),
    Row(
        "diagonal_scatter",
        "DiagonalScatterBackward0",
        lambda x, v: x.diagonal_scatter(v, 1),
        with_values(3),
    ),
    Row(
        "index_copy",
        "IndexCopyBackward0",
        lambda x, v: x.index_copy(0, PICKED[1:], v),
        with_values(2, 4),
    ),
    Row("index_fill", "IndexFillBackward0", lambda x: x.index_fill(0, PICKED, 1.7)),
    Row(
        "index_fill tensor",
        "IndexFillBackward1",
        lambda x, v: x.index_fill(0, PICKED, v),
        with_values(),
    ),
    Row(
        "index_put",
        "IndexPutBackward0",
        lambda x, v: x.index_put((TARGETS, PICKED), v),
        with_values(3),
    ),
    Row(
        "index_put broadcast",
        "IndexPutBackward0",
        lambda x, v: x.index_put((TARGETS,), v),
        with_values(4),
    ),
    Row(
        "index_put accumulate",
        "IndexPutBackward0",
        lambda x, v: x.index_put((PICKED,), v, accumulate=True),
        with_values(3, 4),
    ),
    Row("masked assignment", "IndexPutBackward0", assign_masked, with_values(6)),
    Row(
        "index_add",
        "IndexAddBackward0",
        lambda x, v: x.index_add(-2, PICKED, v, alpha=-1.7),
        with_values(3, 4),
    ),
    Row(
        "masked_scatter",
        "MaskedScatterBackward0",
        lambda x, v: x.masked_scatter(MASK, v),
        with_values(8),
        lambda x, v: x.index_put((MASK,), v[:6]),
    ),
    Row(
        "put",
        "PutBackward0",
        lambda x, v: x.put(INDEX[:2, 1:], v),
        with_values(2, 2),
        put_flat(INDEX[:2, 1:], torch.scatter),
    ),
    Row(
        "put accumulate",
        "PutBackward0",
        lambda x, v: x.put(PICKED, v, accumulate=True),
        with_values(3),
        put_flat(PICKED, torch.scatter_add),
    ),
    Row("scatter", "ScatterBackward0", lambda x, v: x.scatter(0, ROWWISE, v), with_values(2, 4)),
    Row("scatter number", "ScatterBackward1", lambda x: x.scatter(0, ROWWISE, 1.7)),
    Row(
        "scatter_add",
        "ScatterAddBackward0",
        lambda x, v: x.scatter_add(1, INDEX, v),
        with_values(3, 3),
    ),
    Row(
        "select_scatter",
        "SelectScatterBackward0",
        lambda x, v: x.select_scatter(v, -1, 2),
        with_values(3),
    ),
    Row(
        "slice_scatter",
        "SliceScatterBackward0",
        lambda x, v: x.slice_scatter(v, 1, 0, 4, 2),
        with_values(3, 2),
    ),
    Row("fill_", "FillBackward3", lambda x, v: x.clone().fill_(v), with_values()),
    Row(
        "copy_",
        "torch::autograd::CopyBackwards",
        lambda x, v: x.clone().copy_(v),
        with_values(3, 1),
    ),
    Row("assign", "torch::autograd::CopySlices", assign, with_values(3, 2), assigned),
    Row("assign broadcast", "torch::autograd::CopySlices", assign, with_values(3, 1), assigned),
    Row(
        "assign to constant",
        "torch::autograd::CopySlices",
        assign_to_constant,
        lambda: (normal(3, 2),),
        lambda v: F.pad(v, (1, 1), value=1.0),
    ),
    Row("assign number", "torch::autograd::CopySlices", assign_number),
    Row(
        "add in place",
        "torch::autograd::CopySlices",
        add_in_place,
        with_values(3, 2),
        lambda x, v: x + F.pad(v, (1, 1)),
    ),
    *(
        Row(
            f"pad circular {len(size)}d",
            "torch::autograd::CopySlices",
            partial(F.pad, pad=(1, 2, 1, 0, 0, 1)[: 2 * len(size)], mode="circular"),
            lambda size=size: (normal(2, 1, *size),),
            circular,
        )
        for size in ((3,), (2, 3), (2, 2, 3))
    ),
]
