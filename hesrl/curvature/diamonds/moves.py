"""Nodes that move entries, and what a diamond needs to know of them: views, copies, reductions.

Every entry of their input reaches one entry of their output, or one for each copy, so that a
diamond may hold them beside elementwise operations. The gradient's own map gives their slopes, and
their rule gives their second derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from hesrl.curvature.coefficients import adjoint
from hesrl.curvature.rule_registry import Coefficient
from hesrl.curvature.rules.reduce import reduced_dims
from hesrl.curvature.rules.softmax import saved_dim

Axes: TypeAlias = "tuple[int | None, ...]"
"""An axis or dimension for each dimension of a tensor; None for a dimension of size 1."""

VIEWS = frozenset(
    {
        "ReshapeAliasBackward0",
        "SqueezeBackward0",
        "SqueezeBackward1",
        "SqueezeBackward2",
        "ToCopyBackward0",
        "UnsafeViewBackward0",
        "UnsqueezeBackward0",
        "UnsqueezeBackward1",
        "ViewBackward0",
    }
)
"""Nodes that keep all entries in their order, if the sizes other than 1 stay the same."""
EXPANSIONS = frozenset({"ExpandBackward0", "RepeatBackward0"})
"""Nodes that copy their input along new dimensions and along those of size 1."""
SUMS = frozenset({"SumBackward0", "SumBackward1"})
MEANS = frozenset({"MeanBackward0", "MeanBackward1"})
REDUCTIONS = SUMS | MEANS
REDUCTIONS |= {
    "AmaxBackward0",
    "AminBackward0",
    "LinalgVectorNormBackward0",
    "LogsumexpBackward0",
    "MaxBackward0",
    "MaxBackward1",
    "MinBackward0",
    "MinBackward1",
    "ProdBackward0",
    "ProdBackward1",
    "StdBackward0",
    "VarBackward0",
    # One entry of each row.
    "GatherBackward0",
    "SelectBackward0",
    "SliceBackward0",
}
"""Nodes of which every input entry reaches one output entry at most, if what is left of a reduced
dimension has size 1."""
MOVES = VIEWS | REDUCTIONS | EXPANSIONS
CONSTANT_MOVES = VIEWS | SUMS | MEANS | EXPANSIONS
"""Nodes whose slope is a number."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What a layout needs to know of a node's shapes, which may differ in graphs of one structure.

    Sizes other than 1 may change from batch to batch.
    """

    ones: tuple[bool, ...]
    """Which dimensions of the output have size 1."""
    kept: Axes | None = None
    """For a node of `MOVES`: the dimension of the input that each of the output is; None for the
    others. None altogether if it moves entries in another way."""
    reduced: tuple[int, ...] = ()
    """The dimensions of the input that it reduces."""


TERMS = -1
"""Stands for the terms that an elementwise node adds up, in place of the number of an output."""


def fit_of(node: Any, output: int, name: str) -> Fit:
    """Return what a layout needs to know of an output of a node, given its name in `MOVES`."""
    shape = terms_shape(node) if output == TERMS else tuple(node._input_metadata[output].shape)
    ones = tuple(size == 1 for size in shape)
    if name not in MOVES:
        return Fit(ones)
    before = input_shape(node)
    if name in VIEWS:
        long = [d for d, size in enumerate(before) if size != 1]
        if [before[d] for d in long] != [size for size in shape if size != 1]:
            return Fit(ones)
        rest = iter(long)
        return Fit(ones, tuple(None if one else next(rest) for one in ones))
    if name in EXPANSIONS:
        new = len(shape) - len(before)
        if any(size not in (1, shape[d + new]) for d, size in enumerate(before)):
            return Fit(ones)  # several entries are repeated one after the other
        return Fit(ones, tuple(_same(d - new, size, before) for d, size in enumerate(shape)))
    if len(shape) == len(before):
        reduced = tuple(d for d in range(len(shape)) if ones[d] and before[d] != 1)
        left = list(range(len(shape)))
    else:
        dims = getattr(node, "_saved_dim", None) if shape else None
        reduced = tuple(reduced_dims(dims, len(before)))
        left = [d for d in range(len(before)) if d not in reduced]
    if len(left) != len(shape) or any(
        before[d] != shape[k] for k, d in enumerate(left) if d not in reduced
    ):
        return Fit(ones)
    # A gather picks one entry of each row; or else it mixes rows, or moves entries within them.
    if name == "GatherBackward0" and reduced != (saved_dim(node._saved_dim, len(before)),):
        return Fit(ones)
    return Fit(ones, tuple(None if one else d for one, d in zip(ones, left, strict=True)), reduced)


def input_shape(node: Any) -> tuple[int, ...]:
    """Return the shape of the first input of a node."""
    source, output = node.next_functions[0]
    return tuple(source._input_metadata[output].shape)


def terms_shape(node: Any) -> tuple[int, ...]:
    """Return the shape of the inputs of a node, broadcast."""
    inputs = ((source, output) for source, output in node.next_functions if source is not None)
    return tuple(
        torch.broadcast_shapes(*(tuple(s._input_metadata[output].shape) for s, output in inputs))
    )


def _same(dim: int, size: int, before: Sequence[int]) -> int | None:
    return dim if dim >= 0 and before[dim] == size != 1 else None


def slope_of(node: Any) -> Coefficient:
    """Return ``∂y/∂x_j`` for each entry of the input, as the gradient's own map has it."""
    name, output = type(node).__name__, node._input_metadata[0]
    if name in MEANS:
        return math.prod(output.shape) / math.prod(input_shape(node))
    if name in CONSTANT_MOVES:
        return 1.0
    ones = torch.ones(tuple(output.shape), dtype=output.dtype, device=output.device)
    slope = adjoint(node, (ones, *[None] * (len(node._input_metadata) - 1)))
    return slope[0] if isinstance(slope, tuple) else slope
