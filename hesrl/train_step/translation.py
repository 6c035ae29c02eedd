"""From the graph of a record to loops.

Operations are taken on tensors without memory (PyTorch's "meta" device), which gives shapes, types
and views; what they compute becomes statements over entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg
from torch.utils._pytree import tree_leaves

from hesrl.train_step.c_loop import TYPES, literal
from hesrl.train_step.composites import COMPOSITES
from hesrl.train_step.expressions import COMPARISONS, CONSTANTS, ENTRYWISE, UnknownOperationError
from hesrl.train_step.loops import Buffer, Call, Product, Schedule, Statement, Step, View
from hesrl.train_step.recording import changed_by

LARGE = 1 << 24
"""Multiplications of a product that PyTorch takes itself, on all its threads."""


class Translation:
    """The loops of a graph.

    Args:
        graph: That of a `Record`.
        inputs: Its arguments and constants; they are not read.

    Attributes:
        schedule: The loops.
        results: Tensors without memory, like those that the program returns.
        new: The arguments after the inputs, in the order of their slots, and their shapes.
    """

    def __init__(self, graph: GraphModule, inputs: Sequence[Tensor]) -> None:
        self.schedule = Schedule()
        self.results: list[Tensor] = []
        self.new: dict[Buffer, torch.Size] = {}
        self._alive: list[Tensor] = []
        self._buffers: dict[int, Buffer] = {}
        self._statements: list[Step] = []
        values: dict[Node, Any] = {}
        given = iter(inputs)
        for node in graph.graph.nodes:
            args, kwargs = (map_arg(of, values.__getitem__) for of in (node.args, node.kwargs))
            if node.op == "placeholder":
                values[node] = self._argument(next(given))
            elif node.op == "output":
                self._return(args[0], len(inputs))
            elif isinstance(node.target, torch._ops.OpOverload):
                values[node] = self._value(node.target, args, dict(kwargs))
            else:
                values[node] = node.target(*args, **kwargs)
        for statement in self._statements:
            self.schedule.add(statement)

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
        view = self._view(out)
        statement = self._statement(view, text, operands, dtype or out.dtype)
        if any(v.buffer is view.buffer and v != view for v in statement.operands):
            # An entry might be written before it is read.
            between = self.entries(self.new_like(out), text, *operands, dtype=dtype)
            statement = self._statement(view, "{0}", (between,), out.dtype)
        self._statements.append(statement)
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
        view = self._view(whole).expand(shape)
        self._statements.append(self._statement(view, text, operands, out.dtype, kind))
        return out

    def multiply(self, out: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Compute the product of two matrices and return it."""
        if out.dtype not in (torch.float32, torch.float64):
            raise UnknownOperationError("a product of integers")
        (m, k), n = a.shape, b.shape[1]
        if k == 1:
            return self.entries(out, "{0} * {1}", a, b)
        if min(m, n) > 1:
            whole, *views = (self._view(x) for x in (out, a, b))
            if m * n * k <= LARGE:
                self._statements.append(Product(whole, *views))
            else:
                by_torch = torch.ops.aten.mm.out, (a, b), {"out": out}
                self._statements.append(Call(*by_torch, out, (), tuple(views), (whole,)))
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
        self._statements.append(Statement("{0}", self._view(out), (view,), out.dtype))
        return out

    def scatter(self, out: Tensor, indices: dict[int, Tensor], like: Tensor, value: Any) -> Tensor:
        """Write a value, which broadcasts with ``like``, to entries of ``out``; as `gather`."""
        view = self._indexed(out, indices, like)
        self._statements.append(self._statement(view, "{0}", (value,), out.dtype))
        return out

    def _indexed(self, x: Tensor, indices: dict[int, Tensor], like: Tensor) -> View:
        rows, strides = [], list(x.stride()) if x.dim() == like.dim() else []
        if not strides:
            raise UnknownOperationError("indices that change the number of dimensions")
        for d, index in indices.items():
            rows.append((self._view(index).expand(like.shape), x.stride(d), x.shape[d]))
            strides[d] = 0
        whole = self._view(x)
        return View(whole.buffer, tuple(like.shape), tuple(strides), whole.offset, tuple(rows))

    def _argument(self, given: Tensor) -> Tensor:
        value = torch.empty_strided(given.shape, given.stride(), dtype=given.dtype, device="meta")
        slot = len(self._buffers)
        self.buffer(value).slot = slot
        return value

    def _return(self, results: Sequence[Tensor], count: int) -> None:
        self.results = list(results)
        for result in results:
            buffer = self.buffer(result)
            if buffer.slot is None:
                buffer.slot = count + len(self.new)
                is_whole = buffer.size == result.numel() and result.is_contiguous()
                self.new[buffer] = result.shape if is_whole else torch.Size((buffer.size,))

    def _value(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Take an operation and return what it returns."""
        for ignored in ("device", "pin_memory", "memory_format", "layout", "non_blocking"):
            kwargs.pop(ignored, None)
        name, known = operation._schema.name.partition("::")[2], len(self._statements)
        try:
            if name.startswith("_foreach_"):
                return self._for_each(operation, name[9:], args, kwargs)
            if name in CONSTANTS:
                out = self._without_memory(operation, args, kwargs)
                value = CONSTANTS[name](*args, **kwargs)
                return out if value is None else self.entries(out, "{0}", value)
            if not operation._schema.is_mutable:
                out = self._without_memory(operation, args, kwargs)
                if self._is_known(_tensors(out)[0]):
                    return out  # a view, or several
                return self._compute(name, out, args, kwargs)
            if name.endswith("_"):
                self._compute(name[:-1], args[0], args, kwargs, is_change=True)
                return args[0]
        except UnknownOperationError:
            del self._statements[known:]
        return self._call(operation, args, kwargs)

    def _call(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Leave an operation to PyTorch."""
        out = self._without_memory(operation, args, kwargs)
        results = tuple(x for x in _tensors(out) if not self._is_known(x))
        reads = tuple(self._view(x) for x in _tensors((args, kwargs)))
        writes = (*results, *changed_by(operation, args, kwargs))
        views = tuple(self._view(x) for x in writes)
        self._statements.append(Call(operation, args, kwargs, out, results, reads, views))
        return out

    def _without_memory(self, operation: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        is_new = not _tensors((args, kwargs))
        return operation(*args, **kwargs, **({"device": "meta"} if is_new else {}))

    def _is_known(self, x: Tensor) -> bool:
        return x.untyped_storage()._cdata in self._buffers

    def _compute(
        self,
        name: str,
        out: Any,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        is_change: bool = False,
    ) -> Any:
        if name in COMPOSITES:
            return COMPOSITES[name](self, out, *args, **kwargs)
        function = COMPARISONS.get(name) or ENTRYWISE.get(name)
        if function is None:
            raise UnknownOperationError(name)
        text, operands = function(*args, **kwargs)
        dtype = out.dtype
        if is_change or name in COMPARISONS:
            (first, *others) = operands
            dtype = torch.result_type(first, others[0]) if len(others) == 1 else first.dtype
        if name.startswith("bitwise") and dtype != torch.bool:
            raise UnknownOperationError(f"{name} of integers")
        return self.entries(out, text, *operands, dtype=dtype)

    def _for_each(
        self, operation: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        is_change = name.endswith("_")
        results = args[0] if is_change else operation(*args, **kwargs)
        for number, out in enumerate(results):
            of_one = [x[number] if isinstance(x, list | tuple) else x for x in args]
            self._compute(name.removesuffix("_"), out, of_one, kwargs, is_change=is_change)
        return results

    def _statement(
        self, out: View, text: str, operands: Sequence[Any], dtype: torch.dtype, fold: str = ""
    ) -> Statement:
        if "@" in text and not dtype.is_floating_point:
            raise UnknownOperationError(f"a function of {dtype}")
        if unknown := {out.buffer.dtype, *(x.dtype for x in _tensors(operands))} - TYPES.keys():
            raise UnknownOperationError(f"tensors of {unknown.pop()}")
        texts: list[str] = []
        views: list[View] = []
        for operand in operands:
            if isinstance(operand, Tensor):
                texts.append(f"{{{len(views)}}}")
                views.append(self._view(operand).expand(out.shape))
            else:
                texts.append(literal(operand, dtype))
        text = text.format(*texts).replace("@", "f" if dtype == torch.float32 else "")
        return Statement(text, out, tuple(views), dtype, fold)

    def _view(self, x: Tensor) -> View:
        return View(self.buffer(x), tuple(x.shape), x.stride(), int(x.storage_offset()))

    def buffer(self, x: Tensor) -> Buffer:
        """Return what a tensor without memory is a part of."""
        storage = x.untyped_storage()
        if storage._cdata not in self._buffers:
            self._alive.append(x)  # or another might get its number
            buffer = Buffer(x.dtype, storage.nbytes() // x.dtype.itemsize)
            self._buffers[storage._cdata] = buffer
        return self._buffers[storage._cdata]


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
