"""Records compiled for the CPU, and kept on disk.

`compiled` makes a shared library of a record, by PyTorch's AOTInductor, or finds the library that
an earlier process has made.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.fx import GraphModule

from hesrl.train_step.lowering import lowered
from hesrl.train_step.recording import Program, signature

_OPTIONS = {"fallback_random": True, "pattern_matcher": False, "compile_threads": 1}
"""Random numbers are drawn as in eager PyTorch, what `lowered` takes apart stays apart, and no pool
of processes remains."""


def compiled(graph: GraphModule, inputs: Sequence[Tensor]) -> Program:
    """Compile a graph for inputs of this signature, or load what an earlier process compiled.

    A line on stderr says that it compiles, and how long that is likely to take.

    Args:
        graph: That of a `Record`.
        inputs: Its arguments and constants, on the CPU; they are not read.

    Raises:
        Exception: There is no C++ compiler or it fails, or the folder cannot be used; of many types
            of PyTorch's compiler.
    """
    graph = lowered(graph)
    folder = cache_folder()
    library = folder / f"{_key(graph, inputs)}.so"
    if not library.exists():
        print(
            f"compiling the training step (once, about {compile_seconds():.0f} s)",
            file=sys.stderr,
            flush=True,
        )
        start = time.monotonic()
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
            # The calls of operations that the compiler has no code for.
            for calls in Path(scratch).glob("*.wrapper.json"):
                os.replace(calls, library.with_suffix(".json"))
            os.replace(path, library)
        (folder / "seconds").write_text(f"{time.monotonic() - start:.1f}\n")
    run: Program = torch._C._aoti.AOTIModelContainerRunnerCpu(str(library), 1).run
    return run


def compile_seconds() -> float:
    """Return how long the last compilation took on this machine (s); 20 before the first one."""
    try:
        return float((cache_folder() / "seconds").read_text())
    except (OSError, ValueError):
        return 20.0


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
        _OPTIONS,
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
