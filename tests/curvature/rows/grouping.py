"""Groups of entries reduced to one, told apart by an index or by lengths of segments."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from tests.curvature.rows.row import Row, normal

INDEX = torch.tensor([[2, 0, 0], [1, 1, 3], [0, 3, 3]])
"""Rows with a group of several entries, and places that none goes to."""
PICKED = torch.tensor([2, 0, 2])
LENGTHS = torch.tensor([2, 1, 0, 2])
NEUTRAL = {"sum": 0.0, "mean": 0.0, "prod": 1.0, "amax": -math.inf, "amin": math.inf}


def with_source() -> tuple[Tensor, ...]:
    """A tensor, and what is reduced into it, of more rows and not contiguous."""
    return normal(4, 3).t(), normal(3, 3).t()


def with_zeros() -> tuple[Tensor, ...]:
    """Groups with no, one and several zeros."""
    x, v = with_source()
    x[0, 0] = x[2, 3] = v[1, 0] = v[2, 1] = v[2, 2] = 0
    return x, v


def by_masks(index: Tensor, reduce: str, include_self: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """The reduction along the last dimension by other operations."""

    def function(x: Tensor, v: Tensor) -> Tensor:
        belongs = index.unsqueeze(-1) == torch.arange(x.shape[-1])
        goes_on = torch.ones_like(x, dtype=torch.bool) if include_self else ~belongs.any(-2)
        entries = torch.cat([v.unsqueeze(-1).expand(belongs.shape), x.unsqueeze(-2)], -2)
        belongs = torch.cat([belongs, goes_on.unsqueeze(-2)], -2)
        entries = torch.where(belongs, entries, NEUTRAL[reduce])
        if reduce == "mean":
            return entries.sum(-2) / belongs.sum(-2)
        if reduce == "prod":
            first, *others = entries.unbind(-2)
            for other in others:
                first = first * other
            return first
        return {"sum": torch.sum, "amax": torch.amax, "amin": torch.amin}[reduce](entries, -2)

    return function


def scatter(reduce: str, include_self: bool) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, v: x.scatter_reduce(-1, INDEX, v, reduce, include_self=include_self)


def select(reduce: str, include_self: bool) -> Callable[[Tensor, Tensor], Tensor]:
    def function(x: Tensor, v: Tensor) -> Tensor:
        with warnings.catch_warnings():
            # It says that the operation is in beta.
            warnings.simplefilter("ignore", UserWarning)
            return x.index_reduce(-1, PICKED, v, reduce, include_self=include_self)

    return function


def segments(reduce: str, **options: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.segment_reduce(x, reduce, axis=0, **options)


def of_segments(reduce: str) -> Callable[[Tensor], Tensor]:
    functions = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax, "min": torch.amin}

    def function(x: Tensor) -> Tensor:
        first, second, _, third = x.split(LENGTHS.tolist())
        parts = [first[:1] * first[1:], second, third[:1] * third[1:]]
        if reduce != "prod":
            parts = [functions[reduce](part, 0, keepdim=True) for part in (first, second, third)]
        empty = torch.ones_like if reduce == "prod" else torch.zeros_like
        return torch.cat([*parts[:2], empty(x[:1]), parts[2]])

    return function


SELVES = {True: "with self", False: "without self"}
ROWS = [
    *(
        Row(
            f"{name} {reduce} {SELVES[include_self]} {inputs.__name__}",
            node,
            function(reduce, include_self),
            inputs,
            by_masks(index, reduce, include_self),
        )
        for name, node, function, index in (
            ("scatter_reduce", "ScatterReduceBackward0", scatter, INDEX),
            ("index_reduce", "IndexReduceBackward0", select, PICKED.expand(3, 3)),
        )
        for reduce in NEUTRAL
        for include_self in (True, False)
        for inputs in ((with_source, with_zeros) if reduce == "prod" else (with_source,))
        if (name, reduce) != ("index_reduce", "sum")
    ),
    Row(
        "scatter_reduce in place",
        "ScatterReduceBackward0",
        lambda x, v: x.clone().scatter_reduce_(-1, INDEX, v, "prod"),
        with_source,
        by_masks(INDEX, "prod", include_self=True),
    ),
    *(
        Row(
            f"segment_reduce {reduce}",
            "SegmentReduceBackward0",
            segments(reduce, **options),
            lambda: (normal(3, 5).t(),),
            of_segments(reduce),
        )
        for reduce in ("sum", "mean", "prod", "max", "min")
        for options in ({"lengths": LENGTHS}, {"offsets": torch.tensor([0, 2, 3, 3, 5])})
    ),
]
