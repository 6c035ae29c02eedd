"""`normalize.c`, compiled by the machine's C compiler and kept on disk."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from hesrl.train_step.compilation import cache_folder

# Neither fused nor reordered, so that the numbers are NumPy's.
_OPTIONS = ("-O2", "-ffp-contract=off", "-shared", "-fPIC")


@cache
def compiled_normalize() -> Callable[..., None] | None:
    """Return ``hesrl_normalize``, or None where there is no compiler, or no folder to keep it in.

    NumPy then computes the same numbers.
    """
    source = Path(__file__).with_name("normalize.c")
    compiler = os.environ.get("CC", "cc")
    parts = source.read_text(), _OPTIONS, compiler, platform.platform()
    name = hashlib.sha256(repr(parts).encode()).hexdigest()
    try:
        folder = cache_folder()
        path = folder / f"normalize-{name}.so"
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=folder, prefix="compiling-") as scratch:
                made = os.path.join(scratch, "normalize.so")
                command = [compiler, *_OPTIONS, str(source), "-o", made, "-lm"]
                subprocess.run(command, check=True, capture_output=True)
                os.replace(made, path)
        function = ctypes.CDLL(str(path)).hesrl_normalize
    except (OSError, subprocess.CalledProcessError):
        return None
    pointer, size = ctypes.c_void_p, ctypes.c_long
    function.argtypes = (
        pointer, size, size, size, pointer, pointer, ctypes.c_double, ctypes.c_float, pointer,
    )  # fmt: skip
    function.restype = None
    result: Callable[..., None] = function
    return result
