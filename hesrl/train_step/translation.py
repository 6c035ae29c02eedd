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

from hesrl.train_step.composites import COMPOSITES
from hesrl.train_step.expressions import COMPARISONS, CONSTANTS, ENTRYWISE, UnknownOperationError
from hesrl.train_step.loops import Buffer, Call, Schedule
from hesrl.train_step.recording import changed_by
from hesrl.train_step.statements import Statements, tensors_of


class Translation(Statements):
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
        super().__init__()
        self.schedule = Schedule()
        self.results: list[Tensor] = []
        self.new: dict[Buffer, torch.Size] = {}
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
        for statement in self.steps:
            self.schedule.add(statement)

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
        name, known = operation._schema.name.partition("::")[2], len(self.steps)
        try:
            if name.startswith("_foreach_"):
                return self._for_each(operation, name[9:], args, kwargs)
            if name in CONSTANTS:
                out = self._without_memory(operation, args, kwargs)
                value = CONSTANTS[name](*args, **kwargs)
                return out if value is None else self.entries(out, "{0}", value)
            if not operation._schema.is_mutable:
                out = self._without_memory(operation, args, kwargs)
                if self.is_known(tensors_of(out)[0]):
                    return out  # a view, or several
                return self._compute(name, out, args, kwargs)
            if name.endswith("_"):
                self._compute(name[:-1], args[0], args, kwargs, is_change=True)
                return args[0]
        except UnknownOperationError:
            del self.steps[known:]
        return self._call(operation, args, kwargs)

    def _call(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Leave an operation to PyTorch."""
        out = self._without_memory(operation, args, kwargs)
        results = tuple(x for x in tensors_of(out) if not self.is_known(x))
        reads = tuple(self.view(x) for x in tensors_of((args, kwargs)))
        writes = (*results, *changed_by(operation, args, kwargs))
        views = tuple(self.view(x) for x in writes)
        self.steps.append(Call(operation, args, kwargs, out, results, reads, views))
        return out

    def _without_memory(self, operation: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        is_new = not tensors_of((args, kwargs))
        return operation(*args, **kwargs, **({"device": "meta"} if is_new else {}))

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
