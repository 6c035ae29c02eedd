"""Pieces of a result are kept, whatever ends the run, and belong to their settings."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NamedTuple

import pytest

from hesrl.errors import UserError
from hesrl.measuring.collect import collect


class Row(NamedTuple):
    seed: int
    name: str
    value: float


def rows_of(seed: int) -> list[Row]:
    return [Row(seed, "a, b", seed / 3), Row(seed, "c", 1e-30)]


def rows_or_interrupt(seed: int) -> list[Row]:
    if seed == 2:
        raise KeyboardInterrupt
    return rows_of(seed)


def die(seed: int) -> list[Row]:
    os.kill(os.getpid(), signal.SIGKILL)
    return rows_of(seed)


def test_rows_come_back_as_they_were_from_processes_too(tmp_path: Path):
    expected = [row for seed in (1, 2, 3) for row in rows_of(seed)]
    for jobs in (1, 2):
        found = collect(rows_of, [1, 2, 3], Row, tmp_path / str(jobs), {"steps": 1}, jobs)
        assert found.rows == expected and found.computed == 3


def test_an_interrupt_keeps_what_is_finished(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        collect(rows_or_interrupt, [1, 2, 3], Row, tmp_path, {})
    found = collect(rows_of, [1, 2, 3], Row, tmp_path, {})
    assert found.computed == 2 and [row.seed for row in found.rows] == [1, 1, 2, 2, 3, 3]


def test_other_settings_are_refused(tmp_path: Path):
    collect(rows_of, [1], Row, tmp_path, {"steps": 1, "width": 2})
    message = r"holds results of other settings \(steps 1, not 5\): choose another --out"
    with pytest.raises(UserError, match=message):
        collect(rows_of, [1], Row, tmp_path, {"steps": 5, "width": 2})


@pytest.mark.parametrize("text", ["", "seed,value\n1,2\n", "seed,name,value\n1,a,b\n"])
def test_a_damaged_part_is_named(tmp_path: Path, text: str):
    collect(rows_of, [1], Row, tmp_path, {})
    (tmp_path / "parts" / "1.csv").write_text(text)
    with pytest.raises(UserError, match=r"1\.csv is damaged: delete it"):
        collect(rows_of, [1], Row, tmp_path, {})


def test_a_process_that_dies_is_one_line(tmp_path: Path):
    with pytest.raises(UserError, match="a process died, perhaps for want of memory"):
        collect(die, [1, 2], Row, tmp_path, {}, jobs=2)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        collect(rows_of, [1], Row, tmp_path / "file", {})
