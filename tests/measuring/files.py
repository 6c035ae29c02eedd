"""Small files in the format of MNIST."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def idx(magic: int, array: NDArray[np.uint8]) -> bytes:
    """The bytes of an IDX file."""
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes()


def write_digits(
    folder: Path, count: int, *, compressed: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Write random images of 4 × 4 pixels and their labels; return both."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 4, 4), np.uint8)
    labels = (np.arange(count) % 3).astype(np.uint8)
    for name, data in (
        ("train-images-idx3-ubyte", idx(0x803, images)),
        ("train-labels-idx1-ubyte", idx(0x801, labels)),
    ):
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)
    return images, labels
