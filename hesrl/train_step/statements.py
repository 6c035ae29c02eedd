"""Statements over the entries of tensors that have no memory yet.

Such tensors (PyTorch's "meta" device) have shape, type and steps, and say what is a view of what.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from hesrl.train_step.c_loop import TYPES, literal
from hesrl.train_step.expressions import UnknownOperationError
from hesrl.train_step.loops import Buffer, Call, Product, Statement, Step, View

LARGE = 1 << 24
"""Multiplications of a product that PyTorch takes itself, on all its threads."""


class Statements:
    """Statements in the order in which they were added."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._alive: list[Tensor] = []
        self._buffers: dict[int, Buffer] = {}

    def new_like(self, x: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        """Return a tensor for a result in between, of the shape of another or the one given."""
        return torch.empty(x.shape if shape is None else shape, dtype=x.dtype, device="meta")

    def entries(
        self, out: Tensor, text: str, *operands: Any, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Compute each entry of a tensor and return the tensor.

        Args:
            out: The tensor.
            text: An expression as in `hesrl.train_step.expressions`.
            operands: Tensors that broadcast with ``out``, or numbers.
            dtype: In which the expression is computed; that of ``out`` by default.
        """
        view = self.view(out)
        statement = self._statement(view, text, operands, dtype or out.dtype)
        if any(v.buffer is view.buffer and v != view for v in statement.operands):
            # An entry might be written before it is read.
            between = self.entries(self.new_like(out), text, *operands, dtype=dtype)
            statement = self._statement(view, "{0}", (between,), out.dtype)
        self.steps.append(statement)
        return out

    def fold(
        self, out: Tensor, dims: Sequence[int], kind: str, text: str, *operands: Any
    ) -> Tensor:
        """Fold the entries of an expression along dimensions, and return the tensor of the folds.

        Args:
            out: The tensor, with or without the folded dimensions.
            dims: They, of the operands.
            kind: "sum" or "max".
            text: An expression as in `hesrl.train_step.expressions`.
            operands: Tensors that broadcast, or numbers.
        """
        shape = torch.broadcast_shapes(*(x.shape for x in operands if isinstance(x, Tensor)))
        folded = {d % len(shape) for d in dims} if shape else set()
        whole = out
        if out.dim() != len(shape):
            for d in sorted(folded):
                whole = whole.unsqueeze(d)
        view = self.view(whole).expand(shape)
        self.steps.append(self._statement(view, text, operands, out.dtype, kind))
        return out

    def multiply(self, out: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Compute the product of two matrices and return it."""
        if out.dtype not in (torch.float32, torch.float64):
            raise UnknownOperationError("a product of integers")
        (m, k), n = a.shape, b.shape[1]
        if k == 1:
            return self.entries(out, "{0} * {1}", a, b)
        if min(m, n) > 1:
            whole, *views = (self.view(x) for x in (out, a, b))
            if m * n * k <= LARGE:
                self.steps.append(Product(whole, *views))
            else:
                by_torch = torch.ops.aten.mm.out, (a, b), {"out": out}
                self.steps.append(Call(*by_torch, out, (), tuple(views), (whole,)))
            return out
        # The inner loop goes along the rows of the matrix, as they lie in memory.
        rows = a if n == 1 else b.t()
        other = b.t() if n == 1 else a
        sums = out[:, 0] if n == 1 else out[0]
        if rows.stride(1) <= rows.stride(0):
            self.fold(sums, [1], "sum", "{0} * {1}", rows, other)
        else:
            self.fold(sums, [0], "sum", "{0} * {1}", rows.t(), other.t())
        return out

    def gather(self, out: Tensor, x: Tensor, indices: dict[int, Tensor]) -> Tensor:
        """Read ``x`` at indices along some of its dimensions, and return what was read.

        Args:
            out: What is read; along the dimensions that have no indices it goes as ``x``.
            x: A tensor.
            indices: For each dimension a tensor that broadcasts with ``out``.
        """
        if unknown := {out.dtype, x.dtype} - TYPES.keys():
            raise UnknownOperationError(f"tensors of {unknown.pop()}")
        view = self._indexed(x, indices, out)
        self.steps.append(Statement("{0}", self.view(out), (view,), out.dtype))
        return out

    def scatter(self, out: Tensor, indices: dict[int, Tensor], like: Tensor, value: Any) -> Tensor:
        """Write a value, which broadcasts with ``like``, to entries of ``out``; as `gather`."""
        view = self._indexed(out, indices, like)
        self.steps.append(self._statement(view, "{0}", (value,), out.dtype))
        return out

    def _indexed(self, x: Tensor, indices: dict[int, Tensor], like: Tensor) -> View:
        rows, strides = [], list(x.stride()) if x.dim() == like.dim() else []
        if not strides:
            raise UnknownOperationError("indices that change the number of dimensions")
        for d, index in indices.items():
            rows.append((self.view(index).expand(like.shape), x.stride(d), x.shape[d]))
            strides[d] = 0
        whole = self.view(x)
        return View(whole.buffer, tuple(like.shape), tuple(strides), whole.offset, tuple(rows))

    def view(self, x: Tensor) -> View:
        """Return the entries of a tensor."""
        return View(self.buffer(x), tuple(x.shape), x.stride(), int(x.storage_offset()))

    def buffer(self, x: Tensor) -> Buffer:
        """Return what a tensor without memory is a part of."""
        storage = x.untyped_storage()
        if storage._cdata not in self._buffers:
            self._alive.append(x)  # or another might get its number
            buffer = Buffer(x.dtype, storage.nbytes() // x.dtype.itemsize)
            self._buffers[storage._cdata] = buffer
        return self._buffers[storage._cdata]

    def is_known(self, x: Tensor) -> bool:
        """Return whether a tensor is a view of one that has a buffer."""
        return x.untyped_storage()._cdata in self._buffers

    def _statement(
        self, out: View, text: str, operands: Sequence[Any], dtype: torch.dtype, fold: str = ""
    ) -> Statement:
        if "@" in text and not dtype.is_floating_point:
            raise UnknownOperationError(f"a function of {dtype}")
        if unknown := {out.buffer.dtype, *(x.dtype for x in tensors_of(operands))} - TYPES.keys():
            raise UnknownOperationError(f"tensors of {unknown.pop()}")
        texts: list[str] = []
        views: list[View] = []
        for operand in operands:
            if isinstance(operand, Tensor):
                texts.append(f"{{{len(views)}}}")
                views.append(self.view(operand).expand(out.shape))
            else:
                texts.append(literal(operand, dtype))
        text = text.format(*texts).replace("@", "f" if dtype == torch.float32 else "")
        return Statement(text, out, tuple(views), dtype, fold)


def tensors_of(tree: Any) -> list[Tensor]:
    """Return the tensors in nested sequences."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
