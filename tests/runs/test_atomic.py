"""Writes that are whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from hesrl.errors import UserError
from hesrl.runs.atomic import AppendFile, write_atomically


def test_write_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "summary.json"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_keeps_the_old_file(tmp_path, full_disk):
    path = tmp_path / "checkpoint.pt"
    write_atomically(path, b"old")
    full_disk(100_000)
    with pytest.raises(UserError, match=r"cannot write .*checkpoint\.pt: File too large"):
        write_atomically(path, bytes(200_000))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("folder", ["/dev/null", "/nowhere/at/all"])
def test_a_missing_folder_is_named(folder):
    with pytest.raises(UserError, match=f"cannot write {folder}/x: No(t a|) "):
        write_atomically(Path(folder, "x"), b"")


def test_append_adds_to_what_is_there(tmp_path):
    path = tmp_path / "rows"
    for chunk in (b"a\n", b"b\n"):
        file = AppendFile(path)
        file.append(chunk)
        file.close()
    assert path.read_bytes() == b"a\nb\n"


def test_append_leaves_no_part_of_a_chunk_that_does_not_fit(tmp_path, full_disk):
    file = AppendFile(tmp_path / "rows")
    file.append(b"first\n")
    full_disk(100_000)
    with pytest.raises(UserError, match=r"cannot write .*rows: File too large"):
        file.append(bytes(200_000))
    file.append(b"second\n")
    file.close()
    assert file.path.read_bytes() == b"first\nsecond\n"


def test_append_to_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot write .*rows: No such file"):
        AppendFile(tmp_path / "missing" / "rows")
