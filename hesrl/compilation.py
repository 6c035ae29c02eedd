"""Functions that change tensors in place: recorded, compiled for the CPU, and kept on disk.

`record` runs a function once and writes down every tensor operation that it takes, those of the
backward pass, of curvature and of the optimizer as well, in one straight line. `compiled` turns the
record into a shared library by PyTorch's AOTInductor, or finds the one of an earlier process.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

Compiled = Callable[[list[Tensor]], list[Tensor]]
"""From the inputs of a `Record`, which it changes as the function would, to the results."""

_OPTIONS = {"fallback_random": True, "compile_threads": 1}
"""Random numbers are those of eager PyTorch, and no pool of processes is left behind."""


@dataclass(frozen=True)
class Record:
    """The operations of one call of a function."""

    graph: GraphModule
    """From the arguments and the constants to the results, in operations of ``torch.ops``."""
    constants: list[Tensor]
    """The tensors that the function met and that are no arguments, such as those of a module."""
    results: tuple[Tensor, ...]
    """What the recorded call returned."""


def record(function: Callable[[], tuple[Tensor, ...]], arguments: Sequence[Tensor]) -> Record:
    """Call a function, with all its effects, and record the operations.

    Numbers and decisions of Python are recorded as they come out in this call.

    Args:
        function: Works on the arguments, which it knows, and returns tensors.
        arguments: Tensors that it reads or changes; no two may overlap.

    Raises:
        RuntimeError: The function asks for the value of a tensor, as ``item()`` does.
    """
    results: list[Tensor] = []

    def recorded(*_: Tensor) -> list[Tensor]:
        results.extend(function())
        return results

    graph_module = make_fx(recorded)(*arguments)
    graph = graph_module.graph
    for node in reversed(list(graph.nodes)):
        node.meta.clear()  # each operation has had its own mode of fake tensors there
        if getattr(node.target, "namespace", "") == "profiler":
            graph.erase_node(node)
    return Record(graph_module, _constants_as_inputs(graph_module), tuple(results))


def _constants_as_inputs(graph_module: GraphModule) -> list[Tensor]:
    """Turn the tensors that a graph holds into its last inputs, and return them."""
    graph = graph_module.graph
    constants: dict[int, tuple[Tensor, Any]] = {}
    for node in [node for node in graph.nodes if node.op == "get_attr"]:
        tensor = getattr(graph_module, node.target)
        if id(tensor) not in constants:
            last_input = [n for n in graph.nodes if n.op == "placeholder"][-1]
            with graph.inserting_after(last_input):
                constants[id(tensor)] = tensor, graph.placeholder(f"constant_{len(constants)}")
        node.replace_all_uses_with(constants[id(tensor)][1])
        graph.erase_node(node)
    graph_module.recompile()
    return [tensor for tensor, _ in constants.values()]


def signature(tensors: Sequence[Tensor]) -> list[tuple[Any, ...]]:
    """Return all that a compiled function relies on: shapes, strides, types and devices."""
    return [(t.shape, t.stride(), t.dtype, t.device) for t in tensors]


def compiled(graph: GraphModule, inputs: Sequence[Tensor]) -> Compiled:
    """Compile a graph for inputs of this signature, or load what an earlier process compiled.

    Args:
        graph: That of a `Record`.
        inputs: Its arguments and constants, on the CPU; they are not read.

    Raises:
        Exception: There is no C++ compiler or it fails, or the folder cannot be used; of many types
            of PyTorch's compiler.
    """
    folder = cache_folder()
    library = folder / f"{_key(graph, inputs)}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder, prefix="compiling-") as scratch:
            path = os.path.join(scratch, "step.so")
            # Of their own, since the parameters may be parts of one storage, which the compiler
            # would take for tensors that overlap.
            examples = tuple(
                torch.empty_strided(t.shape, t.stride(), dtype=t.dtype).zero_() for t in inputs
            )
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # the compiler's, on its own code
                options = {**_OPTIONS, "aot_inductor.output_path": path}
                torch._inductor.aot_compile(graph, examples, options=options)
            for calls in Path(scratch).glob(
                "*.wrapper.json"
            ):  # of operations that it cannot inline
                os.replace(calls, library.with_suffix(".json"))
            os.replace(path, library)
    run: Compiled = torch._C._aoti.AOTIModelContainerRunnerCpu(str(library), 1).run
    return run


def cache_folder() -> Path:
    """Return the folder of compiled functions, ``$HESRL_CACHE`` or ``~/.cache/hesrl``.

    Raises:
        PermissionError: Others may write there, so that what it holds cannot be trusted.
    """
    folder = Path(os.environ.get("HESRL_CACHE") or Path.home() / ".cache" / "hesrl")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(
            f"{folder} must belong to you and be writable by you alone, since programs are loaded "
            "from it: change that, or set HESRL_CACHE to another folder"
        )
    return folder


def _key(graph: GraphModule, inputs: Sequence[Tensor]) -> str:
    """Return a name that only equal code for equal inputs on an equal machine shares."""
    parts = (
        graph.code,
        signature(inputs),
        torch.__version__,
        torch.get_num_threads(),
        platform.machine(),
        _instruction_set(),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _instruction_set() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((x for x in lines if x.startswith(("flags", "Features"))), platform.processor())
