"""Records compiled for the CPU, and kept on disk.

`compiled` writes a record in C and makes a shared library of it, or finds the library that an
earlier process has made. What it has no C for it leaves to PyTorch's compiler.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import stat
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.fx import GraphModule

from hesrl.train_step.c_code import c_code
from hesrl.train_step.recording import Program
from hesrl.train_step.translation import Translation

_OPTIONS = (
    "-O3", "-march=native" if platform.machine() in ("x86_64", "AMD64") else "-mcpu=native",
    "-std=c++17", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off",
    "-shared", "-fPIC", "-w",
)  # fmt: skip
_LINE = 64


def compiled(graph: GraphModule, inputs: Sequence[Tensor]) -> Program:
    """Compile a graph for inputs of this signature, or load what an earlier process compiled.

    A line on stderr says that it compiles, and how long that is likely to take.

    Args:
        graph: That of a `Record`.
        inputs: Its arguments and constants, on the CPU; they are not read.

    Raises:
        RuntimeError: There is no C++ compiler, or it fails.
        OSError: The folder cannot be used.
        Exception: Of PyTorch's compiler, which is asked for operations without C.
    """
    try:
        translation = Translation(graph, inputs)
    except NotImplementedError:
        # Imported here, since that takes seconds.
        from hesrl.train_step.inductor import compiled_by_inductor

        return compiled_by_inductor(graph, inputs)
    code, size = c_code(translation.schedule)
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    parts = code, compiler, _OPTIONS, platform.platform(), instruction_set()
    library = cache_folder() / f"{hashlib.sha256(repr(parts).encode()).hexdigest()}.so"
    if not library.exists():
        with compiling(library.parent) as scratch:
            _build(compiler, code, scratch / "step.so")
            os.replace(scratch / "step.so", library)
    return _loaded(library, translation, size)


def _build(compiler: str, code: str, made: Path) -> None:
    source = made.with_suffix(".cpp")
    source.write_text(code)
    command = [compiler, *_OPTIONS, "-o", str(made), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise RuntimeError(f"there is no C++ compiler {compiler}: install it, or set CXX") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr]
        raise RuntimeError(f"the C++ compiler {compiler} fails: {lines[0]}")


def _loaded(library: Path, translation: Translation, size: int) -> Program:
    function = ctypes.CDLL(str(library)).hesrl_step
    function.argtypes = ctypes.c_void_p, ctypes.c_void_p
    memory = torch.empty(size + _LINE, dtype=torch.uint8)
    memory = memory[-memory.data_ptr() % _LINE :]
    new, pointer_of = translation.new, Tensor.data_ptr
    parts = [
        (slot, result.shape, result.stride(), result.storage_offset())
        for slot, result in zip(translation.slots, translation.results, strict=True)
    ]

    def program(tensors: list[Tensor]) -> Sequence[Tensor]:
        passed = tensors + [torch.empty(count, dtype=dtype) for dtype, count in new]
        pointers = array("Q", map(pointer_of, passed))
        if function(pointers.buffer_info()[0], memory.data_ptr()):
            raise IndexError("an index of the minibatch is out of range")
        return [passed[slot].as_strided(*part) for slot, *part in parts]

    return program


@contextmanager
def compiling(folder: Path) -> Iterator[Path]:
    """Say that something is compiled, give a folder for it, and note how long it took."""
    print(
        f"compiling the training step (once, about {compile_seconds():.0f} s)",
        file=sys.stderr,
        flush=True,
    )
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder, prefix="compiling-") as scratch:
        yield Path(scratch)
    (folder / "seconds").write_text(f"{time.monotonic() - start:.1f}\n")


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


def instruction_set() -> str:
    """Return what the processor can do; equal code may not run on another one."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((x for x in lines if x.startswith(("flags", "Features"))), platform.processor())
