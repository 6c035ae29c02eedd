"""CIFAR-100's archive: read byte by byte, checked, never unpickled."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from hesrl.errors import UserError
from hesrl.measuring import cifar
from hesrl.measuring.cifar import load_cifar100, write_small_archive


def archive_of(path: Path, **members: bytes) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(f"cifar-100-binary/{name}.bin")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_records_are_coarse_label_fine_label_and_three_planes(tmp_path: Path):
    planes = np.arange(3 * 32 * 32, dtype=np.uint32).astype(np.uint8)
    record = bytes([7, 42]) + planes.tobytes()
    path = archive_of(tmp_path / "c.tar.gz", train=2 * record, test=record)
    train, test = load_cifar100(path, official=False)
    assert train.pixels.shape == (2, 3, 32, 32) and test.pixels.shape == (1, 3, 32, 32)
    assert train.labels.tolist() == [42, 42]
    np.testing.assert_array_equal(test.pixels[0], planes.reshape(3, 32, 32))


def test_a_small_archive_has_its_classes_in_its_colours(tmp_path: Path):
    write_small_archive(tmp_path / "c.tar.gz", train=8, test=4)
    train, test = load_cifar100(tmp_path / "c.tar.gz", official=False)
    assert train.labels.tolist() == [0, 1, 2, 3] * 2 and len(test.labels) == 4
    means = train.pixels.double().mean((1, 2, 3))
    assert means[0] < 30 and abs(means[1] - 85) < 5 and abs(means[2] - 170) < 5 and means[3] > 225


def test_an_archive_with_another_checksum_is_refused(tmp_path: Path, monkeypatch):
    path = tmp_path / "c.tar.gz"
    write_small_archive(path, 4, 4)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(UserError, match=f"its MD5 is {md5}, not {cifar.MD5} as of the official"):
        load_cifar100(path)
    monkeypatch.setattr(cifar, "MD5", md5)
    load_cifar100(path)
    monkeypatch.setattr(cifar, "_MD5_OF_PICKLES", md5)
    with pytest.raises(UserError, match=r"the Python version is made of pickles, .* give the bin"):
        load_cifar100(path, official=False)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"train": b"x" * 3074}, "is damaged: .*test.bin"),
        ({"train": b"x" * 3073, "test": b"x"}, "3073 bytes are no images of 3074 each"),
        ({"train": b"", "test": b""}, "0 bytes are no images"),
        ({"train": b"\x00\x64" + 3072 * b"x", "test": b""}, "has the class 100; 99 is the last"),
    ],
)
def test_what_is_no_cifar_100_is_named(tmp_path: Path, members: dict[str, bytes], message: str):
    path = archive_of(tmp_path / "c.tar.gz", **members)
    with pytest.raises(UserError, match=f"^--cifar100 .*c.tar.gz: .*{message}"):
        load_cifar100(path, official=False)


def test_files_that_are_no_archive_are_named(tmp_path: Path):
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(UserError, match=r"text: is damaged: "):
        load_cifar100(tmp_path / "text", official=False)
    with pytest.raises(UserError, match=r"^--cifar100 .*nothing: No such file"):
        load_cifar100(tmp_path / "nothing")
    whole = archive_of(tmp_path / "c.tar.gz", train=bytes(3074 * 9), test=bytes(3074)).read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut: is damaged: "):
        load_cifar100(tmp_path / "cut", official=False)
