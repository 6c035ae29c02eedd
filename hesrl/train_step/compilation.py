"""Records compiled for the CPU, and kept on disk.

`compiled` writes a record in C and makes a shared library of it, or finds the library that an
earlier process has made. Operations that it has no C for are left to PyTorch.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from torch import Tensor
from torch.fx import GraphModule

from hesrl.train_step.c_code import c_program
from hesrl.train_step.compiled_step import CompiledStep
from hesrl.train_step.translation import Translation

_OPTIONS = (
    "-O3", "-march=native" if platform.machine() in ("x86_64", "AMD64") else "-mcpu=native",
    "-std=c++17", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off",
    "-w",
)  # fmt: skip


def compiled(
    graph: GraphModule,
    inputs: Sequence[Tensor],
    *,
    fixed: Collection[int] = (),
    is_short: bool = False,
) -> CompiledStep:
    """Compile a graph for inputs of this signature, or load what an earlier process compiled.

    A line on stderr says that it compiles, and how long that is likely to take, unless it is short.

    Args:
        graph: That of a `Record`.
        inputs: Its arguments and constants, on the CPU; they are not read.
        fixed: Numbers of inputs that stay where they are in memory.
        is_short: Whether it takes a fraction of the time of a training step.

    Raises:
        RuntimeError: There is no C++ compiler, or it fails; or the step changes a tensor that has
            memory in common with another one.
        OSError: The folder cannot be used.
        NotImplementedError: PyTorch has no shape for the result of an operation.
    """
    translation = Translation(graph, inputs)
    _check_memory(translation, inputs)
    in_c = c_program(translation.schedule)
    stem = stem_of("step", in_c.code, _OPTIONS, _instruction_set())
    library = kept_library(stem)
    if library is None:
        if not is_short:
            print(
                f"compiling the training step (once, about {compile_seconds():.0f} s)",
                file=sys.stderr,
                flush=True,
            )
        start = time.monotonic()
        library = build(stem, in_c.code, _OPTIONS)
        if not is_short:
            (library.parent / "seconds").write_text(f"{time.monotonic() - start:.1f}\n")
    return CompiledStep(library, translation, in_c, inputs, fixed)


def _check_memory(translation: Translation, inputs: Sequence[Tensor]) -> None:
    """Refuse tensors in common memory, since loops take each as separate from the others."""
    changed = {buffer.slot for loop in translation.schedule.loops for buffer in loop.changed}
    end, changed_end = 0, 0
    for start, slot in sorted((t.data_ptr(), slot) for slot, t in enumerate(inputs) if t.numel()):
        if start < (end if slot in changed else changed_end):
            raise RuntimeError("the step changes a tensor that shares memory with another one")
        t = inputs[slot]
        last = sum((n - 1) * step for n, step in zip(t.shape, t.stride(), strict=True))
        end = max(end, start + (last + 1) * t.itemsize)
        if slot in changed:
            changed_end = max(changed_end, start + (last + 1) * t.itemsize)


def stem_of(name: str, code: str, options: Sequence[str], *parts: str) -> str:
    """Return what the name of a program's library begins with; no other program shares it.

    Args:
        name: What it begins with itself.
        code: The program, in C++.
        options: Those of the compiler.
        *parts: What else the library depends on, beside the platform.
    """
    whole = code, options, platform.platform(), parts
    return f"{name}-{hashlib.sha256(repr(whole).encode()).hexdigest()}"


def kept_library(stem: str) -> Path | None:
    """Return the library that an earlier process has built, or None.

    The name of a library ends with its own digest, since a damaged one would end the process that
    loads it. A damaged one is removed, with a line on stderr.

    Args:
        stem: What its name begins with.

    Raises:
        OSError: The folder cannot be used.
    """
    for library in cache_folder().glob(f"{stem}-*.so"):
        try:
            content = library.read_bytes()
        except FileNotFoundError:
            continue  # another process has found it damaged
        if library.stem == f"{stem}-{_digest(content)}":
            return library
        print(f"{library} is damaged: it is compiled anew", file=sys.stderr, flush=True)
        library.unlink(missing_ok=True)
    return None


def build(stem: str, code: str, options: Sequence[str]) -> Path:
    """Compile a program into a library, which is there as a whole or not at all.

    Args:
        stem: What the name of the library begins with.
        code: The program, in C++.
        options: Those of the compiler.

    Raises:
        RuntimeError: There is no C++ compiler, or it fails.
        OSError: The folder cannot be used.
    """
    folder = cache_folder()
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    with tempfile.TemporaryDirectory(dir=folder, prefix="compiling-") as scratch:
        source, made = (Path(scratch) / name for name in ("program.cpp", "program.so"))
        source.write_text(code)
        command = [compiler, *options, "-shared", "-fPIC", "-o", str(made), str(source)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            raise RuntimeError(
                f"there is no C++ compiler {compiler}: install it, or set CXX"
            ) from None
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr]
            raise RuntimeError(f"the C++ compiler {compiler} fails: {lines[0]}")
        with made.open("rb") as file:
            os.fsync(file.fileno())  # else a power cut may leave a library that is cut off
        library = folder / f"{stem}-{_digest(made.read_bytes())}.so"
        os.replace(made, library)
    return library


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def compile_seconds() -> float:
    """Return how long the last compilation took on this machine (s); 2 before the first one."""
    try:
        return float((cache_folder() / "seconds").read_text())
    except (OSError, ValueError):
        return 2.0


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


def _instruction_set() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((x for x in lines if x.startswith(("flags", "Features"))), platform.processor())
