"""Files are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hesrl.errors import UserError
from hesrl.runs.atomic import AppendFile, require_writable, write_atomically
from hesrl.runs.checkpoint import save_checkpoint
from hesrl.runs.directory import RunDirectory
from hesrl.runs.summary import write_summary

NAMES = {"env_id": "A-v0", "agent": "ppo", "optimizer": "adam", "seed": 0}
WRITERS = {
    "file": lambda run, size: write_atomically(run.path / "x", bytes(size)),
    "checkpoint": lambda run, size: save_checkpoint(run.checkpoint, {"x": torch.zeros(size)}),
    "summary": lambda run, size: write_summary(run, {"x": "y" * size}),
    "run": lambda run, size: RunDirectory.create(
        run.path / "runs", config={"note": "x" * size}, **NAMES
    ),
}


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_everything_as_it_was(name, run, full_disk):
    WRITERS[name](run, 10)
    before = contents(run.path)
    full_disk(100_000)
    with pytest.raises(UserError, match=r"cannot write .*: File too large; check the folder"):
        WRITERS[name](run, 200_000)
    assert contents(run.path) == before


def test_a_write_replaces_the_file_and_leaves_nothing_else(tmp_path):
    for data in (b"old", b"new"):
        write_atomically(tmp_path / "x", data)
    assert contents(tmp_path) == {tmp_path / "x": b"new"}


@pytest.mark.parametrize("folder", ["/dev/null", "/nowhere/at/all"])
@pytest.mark.parametrize("write", [lambda path: write_atomically(path, b""), AppendFile])
def test_a_missing_folder_is_named(folder, write):
    with pytest.raises(UserError, match=f"cannot write {folder}/x: No(t a|) "):
        write(Path(folder, "x"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("folder", "Is a directory"), ("file/table", "File exists"), ("x" * 255, "File name too")],
)
def test_what_cannot_be_written_later_is_refused_now(tmp_path, name, reason):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    before = contents(tmp_path)
    with pytest.raises(UserError, match=f"cannot write {tmp_path / name}: {reason}"):
        require_writable(tmp_path / name)
    assert contents(tmp_path) == before


def test_what_can_be_written_later_is_not_touched(tmp_path):
    (tmp_path / "table").write_bytes(b"rows")
    for name in ("table", "new/folder/table"):
        require_writable(tmp_path / name)
    require_writable(None)
    assert contents(tmp_path) == {
        tmp_path / "table": b"rows", tmp_path / "new": None, tmp_path / "new/folder": None
    }  # fmt: skip


def test_append_adds_whole_chunks_to_what_is_there(tmp_path, full_disk):
    (tmp_path / "rows").write_bytes(b"first\n")
    file = AppendFile(tmp_path / "rows")
    file.append(b"second\n")
    full_disk(100_000)
    with pytest.raises(UserError, match=r"cannot write .*rows: File too large"):
        file.append(bytes(200_000))
    file.append(b"third\n")
    file.close()
    assert file.path.read_bytes() == b"first\nsecond\nthird\n"
