"""Records compiled for the CPU by PyTorch's AOTInductor.

It knows operations that `hesrl.train_step.compilation` has no C for, such as convolutions and
random numbers, and takes much longer.
"""

from __future__ import annotations

import hashlib
import os
import platform
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.fx import GraphModule

from hesrl.train_step.compilation import cache_folder, compiling, instruction_set
from hesrl.train_step.lowering import lowered
from hesrl.train_step.recording import Program, signature

_OPTIONS = {"fallback_random": True, "pattern_matcher": False, "compile_threads": 1}
"""Random numbers are drawn as in eager PyTorch, what `lowered` takes apart stays apart, and no pool
of processes remains."""


def compiled_by_inductor(graph: GraphModule, inputs: Sequence[Tensor]) -> Program:
    """Compile a graph, as `hesrl.train_step.compilation.compiled`."""
    graph = lowered(graph)
    library = cache_folder() / f"{_key(graph, inputs)}.so"
    if not library.exists():
        with compiling(library.parent) as scratch:
            path = scratch / "step.so"
            # Of their own, since the parameters may be parts of one storage, which the compiler
            # would take for tensors that overlap.
            examples = tuple(
                torch.empty_strided(t.shape, t.stride(), dtype=t.dtype).zero_() for t in inputs
            )
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # the compiler's, on its own code
                options = {**_OPTIONS, "aot_inductor.output_path": str(path)}
                torch._inductor.aot_compile(graph, examples, options=options)
            # The calls of operations that the compiler has no code for.
            for calls in scratch.glob("*.wrapper.json"):
                os.replace(calls, library.with_suffix(".json"))
            os.replace(path, library)
    run: Program = torch._C._aoti.AOTIModelContainerRunnerCpu(str(library), 1).run
    return run


def _key(graph: GraphModule, inputs: Sequence[Tensor]) -> str:
    """Return a name that only equal code for equal inputs on an equal machine shares."""
    parts = (
        graph.code,
        signature(inputs),
        _OPTIONS,
        torch.__version__,
        torch.get_num_threads(),
        platform.machine(),
        instruction_set(),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()
