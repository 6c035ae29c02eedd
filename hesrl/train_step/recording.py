"""One call of a function, written down as tensor operations, and replayed.

`record` runs a function once and writes down every tensor operation that it takes, in one straight
line; the backward pass, its curvature and the optimizer's step are part of it. `replayed` runs that
line: the same operations in the same order, without the Python that decided on them.
`hesrl.train_step.compilation` makes a library of it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter, getitem
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

Program = Callable[[list[Tensor]], Sequence[Tensor]]
"""From the inputs of a `Record`, which it changes as the function would, to the results."""


@dataclass(frozen=True)
class Record:
    """The operations of one call of a function."""

    graph: GraphModule
    """From the arguments and the constants to the results, in operations of ``torch.ops``."""
    constants: list[Tensor]
    """The tensors that the function met and that are no arguments, such as buffers of a module."""
    results: tuple[Tensor, ...]
    """What the recorded call returned."""


def record(function: Callable[[], tuple[Tensor, ...]], arguments: Sequence[Tensor]) -> Record:
    """Call a function, with all its effects, and record the operations.

    Numbers and decisions of Python are recorded as they come out in this call.

    Args:
        function: Works on the arguments, which it knows, and returns tensors.
        arguments: Tensors that it reads or changes; no two may overlap.

    Raises:
        RuntimeError: The function asks for the value of a tensor, as ``item()`` does, or is about
            to change one that is no argument.
    """
    recorder = _Recorder(arguments)
    with recorder:
        results = tuple(function())
    return recorder.record(results)


def replayed(graph: GraphModule, inputs: Sequence[Tensor]) -> Program:
    """Turn a graph into a program that takes the same operations, bit for bit.

    It is PyTorch's interpreter that runs it, or Python, which is slower, if there is no interpreter
    or an operation is unknown to it, such as the gradient of a convolution.

    Args:
        graph: That of a `Record`.
        inputs: Its arguments and constants, which the interpreter changes as by one call.
    """
    has_results = bool(next(iter(reversed(graph.graph.nodes))).args[0])
    run = _by_interpreter(graph, inputs) or _by_python(graph)

    def program(tensors: list[Tensor]) -> Sequence[Tensor]:
        with torch.no_grad():
            results = run(*tensors)
        return results if has_results else ()

    return program


def _by_interpreter(graph: GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any] | None:
    """Return a graph for the interpreter of TorchScript, None if that is impossible.

    TorchScript is deprecated, but nothing else in PyTorch runs operations one by one as quickly.
    """
    trace = getattr(torch.jit, "trace", None)
    if trace is None:
        return None

    def traced(*tensors: Tensor) -> Any:
        return graph(*tensors) or tensors[0]  # a trace must return something

    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", "`torch.jit.trace")
        try:
            run = trace(traced, tuple(inputs), check_trace=False)
        except RuntimeError as error:
            if "unsupported argument type in the JIT tracer" not in str(error):
                raise
            return None

    def interpret(*tensors: Tensor) -> Any:
        # Optimized, it might join operations, and round otherwise.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return run(*tensors)

    return interpret


def _by_python(graph: GraphModule) -> Callable[..., Any]:
    """Return a function of Python that calls the operations of a graph.

    `torch.fx` writes the function, which frees each tensor after its last use. The operations are
    looked up here, once, and without the layer of Python that PyTorch has around them.
    """
    code = graph.graph.python_code("self")
    names = dict(code.globals)

    def looked_up(call: re.Match[str]) -> str:
        operation = attrgetter(call[1])(torch.ops)
        name = call[1].replace(".", "_")
        names[name] = getattr(operation, "_op", operation)
        return f"{name}("

    exec(re.sub(r"\btorch\.ops\.(\w+\.\w+\.\w+)\(", looked_up, code.src), names)
    return partial(names["forward"], None)


def signature(tensors: Sequence[Tensor]) -> list[tuple[Any, ...]]:
    """Return all that a program relies on: shapes, strides, types and devices."""
    return [(t.shape, t.stride(), t.dtype, t.device) for t in tensors]


class _Recorder(TorchDispatchMode):
    """Writes down the operations that PyTorch takes below autograd.

    An operation that changes a tensor that is neither an argument nor new is refused before it is
    done: every step of a record would change it once more, and recording cannot be undone for it.
    """

    def __init__(self, arguments: Sequence[Tensor]) -> None:
        super().__init__()
        self._graph = Graph()
        self._nodes = WeakTensorKeyDictionary()
        self._constants: list[Tensor] = []
        self._last_input: Node | None = None
        for number, tensor in enumerate(arguments):
            self._last_input = self._graph.placeholder(f"argument_{number}")
            self._nodes[tensor] = self._last_input
        self._own = {_storage(tensor) for tensor in arguments}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "profiler":
            return func(*args, **kwargs)
        if func is torch.ops.aten._local_scalar_dense.default:
            if not isinstance(args[0], Tensor):
                return args[0]  # a number of Python's, as in 0.5 * x
            raise RuntimeError("the step asks for the value of a tensor, as item() does")
        if func is torch.ops.aten.lift_fresh.default:
            func = torch.ops.aten.lift_fresh_copy.default  # each step has a new one, as in Python
        for tensor in changed_by(func, args, kwargs):
            if _storage(tensor) not in self._own:
                raise RuntimeError(
                    f"the step changes a tensor of shape {tuple(tensor.shape)} that the optimizer "
                    "does not hold, such as running statistics or the gradient of another parameter"
                )
        given = {_storage(tensor) for tensor in _tensors((args, kwargs))}
        written = tree_map(self._node_or_value, (args, kwargs))
        result = func(*args, **kwargs)
        self._own |= {_storage(tensor) for tensor in _tensors(result)} - given
        node = self._graph.call_function(func, *written)
        if isinstance(result, Tensor):
            self._nodes[result] = node
        elif isinstance(result, list | tuple):
            for number, part in enumerate(result):
                if isinstance(part, Tensor):
                    self._nodes[part] = self._graph.call_function(getitem, (node, number))
        return result

    def record(self, results: tuple[Tensor, ...]) -> Record:
        """Return what has been written down."""
        self._graph.output(tuple(self._node_or_value(result) for result in results))
        graph = GraphModule(torch.nn.Module(), self._graph)
        return Record(graph, self._constants, results)

    def _node_or_value(self, x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        if x not in self._nodes:
            before = self._graph.inserting_after(self._last_input)
            with before:
                self._last_input = self._graph.placeholder(f"constant_{len(self._constants)}")
            self._constants.append(x)
            self._nodes[x] = self._last_input
        return self._nodes[x]


def changed_by(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Tensor]:
    """Yield the tensors that an operation changes."""
    arguments = func._schema.arguments
    named = {**dict(zip((a.name for a in arguments), args, strict=False)), **kwargs}
    for argument in arguments:
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from _tensors(named.get(argument.name))
    # These do not say it.
    if func.namespace == "aten" and "batch_norm" in func.__name__ and named.get("training"):
        yield from _tensors((named.get("running_mean"), named.get("running_var")))


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
