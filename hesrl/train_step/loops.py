"""Loops over the entries of tensors, and which of them can be one.

A `Statement` computes each entry of a tensor from entries of others. Statements that run over the
same entries, and of which none needs an entry that another one has yet to compute, are taken in one
`Loop`: what only they need never reaches memory.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

FEW = 64
"""Loops over at most so many entries are joined even if they have no tensor in common."""


@dataclass(eq=False)
class Buffer:
    """Memory of a tensor, or of several that are views of it."""

    dtype: torch.dtype
    size: int
    """Entries."""
    slot: int | None = None
    """Number of the argument that it is; None for what the program keeps to itself."""


@dataclass(frozen=True)
class View:
    """Entries of a buffer, by steps from an offset for each index."""

    buffer: Buffer
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    rows: tuple[tuple[View, int, int], ...] = ()
    """Indices that are read from tensors: the tensor, the step for each index, and how many there
    may be."""

    def expand(self, shape: Sequence[int]) -> View:
        """Return the view that repeats itself along new and single dimensions."""
        missing = len(shape) - len(self.shape)
        strides = [0] * missing
        for old, new, stride in zip(self.shape, shape[missing:], self.strides, strict=True):
            strides.append(stride if old == new else 0)
        return View(self.buffer, tuple(shape), tuple(strides), self.offset, self.rows)

    def permute(self, dims: Sequence[int]) -> View:
        """Return the view with these dimensions only; those that lack have one entry."""
        rows = tuple((index.permute(dims), step, count) for index, step, count in self.rows)
        shape, strides = ([of[d] for d in dims] for of in (self.shape, self.strides))
        return View(self.buffer, tuple(shape), tuple(strides), self.offset, rows)

    @property
    def is_one_to_one(self) -> bool:
        """Whether each index has an entry of its own, as far as the steps tell."""
        return not self.rows and all(
            stride or size == 1 for size, stride in zip(self.shape, self.strides, strict=True)
        )


@dataclass(eq=False)
class Statement:
    """``out[i] = expression(operands[i])`` for each index i of ``out``."""

    expression: str
    """In C; ``{0}`` stands for the first operand."""
    out: View
    operands: tuple[View, ...]
    dtype: torch.dtype
    """In which the expression is computed."""
    fold: str = ""
    """How entries at which ``out`` repeats itself are put together: "sum", "max" or "": the last
    one stays."""


@dataclass(eq=False)
class Product:
    """``out = a b`` for matrices (m, k) and (k, n)."""

    out: View
    a: View
    b: View


@dataclass(eq=False)
class Call:
    """An operation that PyTorch itself takes."""

    operation: Any
    args: Sequence[Any]
    """With tensors without memory in place of tensors."""
    kwargs: dict[str, Any]
    out: Any
    """What it returns; also without memory."""
    results: tuple[Tensor, ...]
    """The tensors of that which are new."""
    reads: tuple[View, ...]
    writes: tuple[View, ...]


Step = Statement | Product | Call


@dataclass(eq=False)
class Loop:
    """Statements over the same indices, in their order, or one product or call."""

    shape: tuple[int, ...] | None
    """None for a product or call."""
    statements: list[Step] = field(default_factory=list)
    accesses: dict[Buffer, set[View]] = field(default_factory=lambda: defaultdict(set))
    changed: dict[Buffer, bool] = field(default_factory=dict)
    """The buffers that it writes to, and whether each pass is done with its entries at its end."""


def _reads(statement: Step) -> Iterator[View]:
    if isinstance(statement, Call):
        yield from statement.reads
    elif isinstance(statement, Product):
        yield from (statement.a, statement.b)
    else:
        for view in statement.operands:
            yield view
            yield from (index for index, _, _ in view.rows)
        yield from (index for index, _, _ in statement.out.rows)


def _ordered(statement: Statement) -> Statement:
    """Return a statement whose inner loop goes along neighbours in memory."""
    out, operands = statement.out, statement.operands
    along = operands[0] if statement.fold and operands else out
    dims = [d for d, size in enumerate(out.shape) if size != 1]
    dims.sort(key=lambda d: -along.strides[d])
    return replace(
        statement, out=out.permute(dims), operands=tuple(v.permute(dims) for v in operands)
    )


class Schedule:
    """Loops in an order that leaves every entry as the statements, one after the other, would."""

    def __init__(self) -> None:
        self.loops: list[Loop] = []
        self._users: dict[Buffer, list[int]] = defaultdict(list)
        self._changers: dict[Buffer, list[int]] = defaultdict(list)
        self._last_small: dict[Any, int] = {}

    def add(self, statement: Step) -> None:
        """Put a statement into the last loop that can take it, or into a new one."""
        if isinstance(statement, Statement):
            statement = _ordered(statement)
        reads = list(_reads(statement))
        writes = statement.writes if isinstance(statement, Call) else (statement.out,)
        before = [self._changers[v.buffer][-1:] for v in reads]
        before += [self._users[v.buffer][-1:] for v in writes]
        number = self._loop_for(statement, reads, max(sum(before, [-1])))
        loop = self.loops[number]
        loop.statements.append(statement)
        for view in writes:
            is_ready = isinstance(statement, Statement) and view.is_one_to_one
            loop.changed[view.buffer] = loop.changed.get(view.buffer, True) and is_ready
            _insert(self._changers[view.buffer], number)
        for view in (*reads, *writes):
            loop.accesses[view.buffer].add(view)
            _insert(self._users[view.buffer], number)

    def _loop_for(self, statement: Step, reads: list[View], first: int) -> int:
        if not isinstance(statement, Statement):
            self.loops.append(Loop(None))
            return len(self.loops) - 1
        shape, written = statement.out.shape, statement.out.buffer
        candidates = {n for v in reads for n in self._users[v.buffer] if n >= max(first, 0)}
        if math.prod(shape) <= FEW and shape in self._last_small:
            candidates.add(self._last_small[shape])
        for number in sorted(candidates, reverse=True):
            loop = self.loops[number]
            if number < first or loop.shape != shape:
                continue
            if number > first or _fits(statement, reads, written, loop):
                break
        else:
            self.loops.append(Loop(shape))
            number = len(self.loops) - 1
        self._last_small[shape] = max(number, self._last_small.get(shape, -1))
        return number


def _fits(statement: Statement, reads: list[View], written: Buffer, loop: Loop) -> bool:
    """Say whether a statement meets only entries that the loop is done with at the same index."""
    if written in loop.accesses:
        same = loop.accesses[written] == {statement.out} and statement.out.is_one_to_one
        if not same or not loop.changed.get(written, True):
            return False
    for view in reads:
        if view.buffer in loop.changed:
            same = loop.accesses[view.buffer] == {view} and not view.rows
            if not same or not loop.changed[view.buffer]:
                return False
    return True


def _insert(numbers: list[int], number: int) -> None:
    """Add a number to a sorted list that lacks it."""
    if number not in numbers[-1:]:
        if numbers and number < numbers[-1]:
            if number not in numbers:
                numbers.append(number)
                numbers.sort()
        else:
            numbers.append(number)
