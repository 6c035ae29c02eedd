"""CIFAR-100 from its official archive of plain bytes, and small archives of the same format.

The binary version has one record of 3,074 bytes for each image: coarse label, fine label, and the
red, green and blue values of 32 × 32 pixels. The Python version is made of pickles, which may run
any program, and is not read.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hesrl.errors import UserError, one_line
from hesrl.runs.atomic import write_atomically

MD5 = "03b5dce01913d631647c71ecec9e9cb8"
"""Of cifar-100-binary.tar.gz, as its authors publish it."""
_MD5_OF_PICKLES = "eb9058c3a382ffc7106e4002c42a8d85"
_FOLDER = "cifar-100-binary"
_PIXELS = 3 * 32 * 32
_RECORD = 2 + _PIXELS
CLASSES = 100


class Images(NamedTuple):
    """N images and their classes."""

    pixels: Tensor
    """Bytes (N, 3, 32, 32)."""
    labels: Tensor
    """Classes from 0 to 99 (N,)."""


def load_cifar100(path: Path, *, official: bool = True) -> tuple[Images, Images]:
    """Return the training and the test images of CIFAR-100.

    Args:
        path: The archive ``cifar-100-binary.tar.gz``.
        official: Whether it has to be the official one, by its checksum.

    Raises:
        UserError: There is no such file, it is another one, or it is damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"--cifar100 {path}: {error.strerror}") from error
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if md5 == _MD5_OF_PICKLES:
        raise UserError(
            f"--cifar100 {path}: the Python version is made of pickles, which may run any program: "
            "give the binary version, cifar-100-binary.tar.gz"
        )
    if official and md5 != MD5:
        raise UserError(
            f"--cifar100 {path}: its MD5 is {md5}, not {MD5} as of the official archive: fetch it "
            "again, or say --cifar100-unofficial"
        )
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            train, test = (_member(archive, f"{_FOLDER}/{n}.bin") for n in ("train", "test"))
    except (tarfile.TarError, KeyError, OSError, EOFError) as error:
        raise UserError(f"--cifar100 {path}: is damaged: {one_line(error)}") from error
    return _images(path, train), _images(path, test)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(f"{name} is not a file")
    return file.read()


def _images(path: Path, data: bytes) -> Images:
    if not data or len(data) % _RECORD:
        raise UserError(f"--cifar100 {path}: {len(data)} bytes are no images of {_RECORD} each")
    records = np.frombuffer(data, np.uint8).reshape(-1, _RECORD)
    labels = torch.tensor(records[:, 1].astype(np.int64))
    if int(labels.max()) >= CLASSES:
        raise UserError(f"--cifar100 {path}: has the class {int(labels.max())}; 99 is the last one")
    pixels = torch.from_numpy(records[:, 2:].reshape(-1, 3, 32, 32).copy())
    return Images(pixels, labels)


def write_small_archive(path: Path, train: int, test: int, classes: int = 4) -> None:
    """Write an archive of random images whose mean colour tells their class.

    Raises:
        UserError: The file cannot be written.
    """
    rng = np.random.default_rng(0)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, count in (("train", train), ("test", test)):
            labels = (np.arange(count) % classes).astype(np.uint8)
            shade = 255 * labels[:, None].astype(int) // max(1, classes - 1)
            noise = rng.integers(-40, 41, (count, _PIXELS))
            pixels = np.clip(shade + noise, 0, 255).astype(np.uint8)
            data = np.column_stack((np.zeros_like(labels), labels, pixels)).tobytes()
            member = tarfile.TarInfo(f"{_FOLDER}/{name}.bin")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    write_atomically(path, content.getvalue())
