"""Where the dimensions of the tensors of a diamond lie, when some are reduced or broadcast.

A diamond (`hesrl.curvature.diamonds`) may hold views, copies along new dimensions and reductions,
as a log-density has them: ``−½ ((a − μ)/σ)²`` and ``log σ`` are summed over the actions, apart or
together. All its tensors are then laid out in one *index space*: an axis for each dimension of
the entry x (its own axes) and one for each dimension along which x was copied.

The curvature of x stays linear in cost as long as every entry of x reaches one entry of each tensor
for each of its copies. A reduction over an own axis collapses it: the tangents ``∂y/∂x_j`` keep the
axis, and y has it no more. Where a collapsed axis would be broadcast again, or meet a tensor that
still has it, every entry would reach every other: the diamond ends there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from hesrl.curvature.diamonds.moves import Axes, Fit
from hesrl.curvature.rule_registry import Masked
from hesrl.curvature.structure import Edge

_NEW = -1
"""Stands for the axis of a dimension along which the entry is copied for the first time."""


class Layout:
    """The index space of a diamond.

    Args:
        entry: The tensor whose curvature the diamond gives.
        ones: Which dimensions of it have size 1.

    Attributes:
        axes: The axes of each tensor that was placed.
        terms: For each node the axes along which its slopes lie.
        copies: For each node the axes of copies that it reduces.
    """

    def __init__(self, entry: Edge, ones: Sequence[bool]) -> None:
        own = tuple(None if one else axis for axis, one in enumerate(ones))
        self.axes: dict[Edge, Axes] = {entry: own}
        self.terms: dict[int, Axes] = {}
        self.copies: dict[int, tuple[int, ...]] = {}
        self._own = len(ones)
        self._collapsed: dict[Edge, frozenset[int]] = {entry: frozenset()}
        self._same_as: list[int] = list(range(self._own))

    def place(
        self,
        node: int,
        inputs: Sequence[Edge],
        fit: Fit,
        is_move: bool,
        curved: bool,
        reduces: bool = False,
    ) -> bool:
        """Place the output of a node, if every entry of x reaches one entry of it.

        Args:
            node: Its number.
            inputs: Its inputs in the diamond, placed before.
            fit: Its shapes.
            is_move: Whether it is one of `MOVES`, else it is elementwise.
            curved: Whether it has second derivatives.
            reduces: Whether it is elementwise but for the sum of its terms, whose shapes ``fit``
                has; paths end there.
        """
        collapsed = self._collapsed[inputs[0]]
        if any(self._collapsed[source] != collapsed for source in inputs):
            return False
        before = [self.axes[source] for source in inputs]
        if not is_move:
            placed = self._broadcast(before, fit, bool(collapsed))
            if placed is None:
                return False
            self.terms[node] = self.axes[node, 0] = placed
            if reduces:
                roots = (self._root(axis) for axis in placed if axis is not None)
                self.copies[node] = tuple(axis for axis in roots if axis >= self._own)
        else:
            if fit.kept is None:
                return False
            (axes,) = before
            gone = [self._root(a) for d in fit.reduced if (a := axes[d]) is not None]
            copies = tuple(axis for axis in gone if axis >= self._own)
            if copies and curved:
                return False
            placed = self._moved(axes, fit, bool(collapsed))
            if placed is None:
                return False
            self.terms[node], self.copies[node], self.axes[node, 0] = axes, copies, placed
            collapsed = collapsed.union(axis for axis in gone if axis < self._own)
        self._collapsed[node, 0] = collapsed
        return True

    def _broadcast(self, before: Sequence[Axes], fit: Fit, is_collapsed: bool) -> Axes | None:
        placed: list[int | None] = []
        for back in range(1, len(fit.ones) + 1):
            axis: int | None = None
            if not fit.ones[-back]:
                there = [axes[-back] for axes in before if len(axes) >= back]
                axis = self._united([self._root(a) for a in there if a is not None])
                if axis is None or (axis == _NEW and there and is_collapsed):
                    return None
                axis = self._new() if axis == _NEW else axis
            placed.append(axis)
        known = [axis for axis in placed if axis is not None]
        return tuple(placed[::-1]) if len(set(known)) == len(known) else None

    def _moved(self, axes: Axes, fit: Fit, is_collapsed: bool) -> Axes | None:
        assert fit.kept is not None
        placed: list[int | None] = []
        for dim, (one, kept) in enumerate(zip(fit.ones, fit.kept, strict=True)):
            if kept is not None and axes[kept] is not None:
                placed.append(self._root(axes[kept]))  # type: ignore[arg-type]
            elif one:
                placed.append(None)
            elif is_collapsed and len(fit.ones) - dim <= len(axes):
                return None
            else:
                placed.append(self._new())
        return tuple(placed)

    def _united(self, there: list[int]) -> int | None:
        """Return the one axis of tensors that meet, `_NEW` if there is none, None for several."""
        if not there:
            return _NEW
        first, *others = sorted(set(there))
        if others and first < self._own:
            return None
        for other in others:
            self._same_as[other] = first
        return first

    def _new(self) -> int:
        self._same_as.append(len(self._same_as))
        return self._same_as[-1]

    def _root(self, axis: int) -> int:
        while self._same_as[axis] != axis:
            axis = self._same_as[axis]
        return axis

    def has_copies(self, node: int) -> bool:
        """Whether the output of a node has several copies of an entry."""
        return any(a is not None and self._root(a) >= self._own for a in self.axes[node, 0])

    def lift(self, f: Any, axes: Axes) -> Any:
        """Return a coefficient with its dimensions along the axes of the index space.

        Args:
            f: A number, or a tensor of which the last dimensions lie along ``axes``.
            axes: As in `axes` or `terms`.
        """
        if isinstance(f, Masked):
            return Masked(self.lift(f.mask, axes), self.lift(f.value, axes))
        if not isinstance(f, Tensor):
            return f
        placed = sorted(
            (self._root(axis), dim - len(axes))
            for dim, axis in enumerate(axes)
            if axis is not None and len(axes) - dim <= f.dim()
        )
        shape = [1] * len(self._same_as)
        for axis, dim in placed:
            shape[axis] = f.shape[dim]
        dims = [dim for _, dim in placed]
        if dims != sorted(dims):
            f = f.permute([d for d in range(-f.dim(), 0) if d not in dims] + dims)
        return f.reshape(shape)

    def reduce_copies(
        self, node: int, tangent: Tensor | float, shape: Sequence[int]
    ) -> Tensor | float:
        """Return the tangent of a node that reduces copies of x, summed over the copies.

        Args:
            node: Its number.
            tangent: Slope by slope of its input, laid out.
            shape: That of its input.
        """
        terms = self.terms[node]
        sizes = {self._root(a): shape[d] for d, a in enumerate(terms) if a is not None}
        for axis in map(self._root, self.copies.get(node, ())):
            if isinstance(tangent, Tensor) and tangent.shape[axis] > 1:
                tangent = tangent.sum(axis, keepdim=True)
            else:
                tangent = tangent * sizes[axis]
        return tangent

    def total(self, parts: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
        """Return the sum of laid out parts over all copies, in the shape of the entry."""
        copies = tuple(range(self._own, len(self._same_as)))
        summed = [part.sum(copies) if copies else part for part in parts]
        total = summed[0]
        for part in summed[1:]:
            total = total + part
        return total.expand(tuple(shape)).contiguous()
