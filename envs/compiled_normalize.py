"""`normalize.cpp`, compiled by the machine's C++ compiler and kept on disk."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path

from hesrl.train_step.compilation import build, kept_library, stem_of

# Neither fused nor reordered, so that the numbers are NumPy's.
_OPTIONS = ("-O2", "-ffp-contract=off")


@cache
def compiled_normalize() -> Callable[..., None] | None:
    """Return ``hesrl_normalize``, or None where there is no compiler, or no folder to keep it in.

    NumPy then computes the same numbers.
    """
    code = Path(__file__).with_name("normalize.cpp").read_text()
    try:
        stem = stem_of("normalize", code, _OPTIONS)
        library = kept_library(stem) or build(stem, code, _OPTIONS)
        function = ctypes.CDLL(str(library)).hesrl_normalize
    except (OSError, RuntimeError):
        return None
    pointer, size = ctypes.c_void_p, ctypes.c_long
    function.argtypes = (
        pointer, size, size, size, pointer, pointer, ctypes.c_double, ctypes.c_float, pointer,
    )  # fmt: skip
    function.restype = None
    result: Callable[..., None] = function
    return result
