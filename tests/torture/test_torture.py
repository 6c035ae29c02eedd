"""The short form of ``make torture``, and that it counts what is lost."""

from __future__ import annotations

import random
import sys

import pytest

from tests.torture import __main__ as torture
from tests.torture.faults import Fault, Part, read_counts

SHORT = {
    "checkpoints": 300,
    "yaml": 300,
    "packets": 3000,
    "environments": 4,
    "hanging": 1,
    "read-only": 1,
}
"""Graphs, kills and full disks have tests of their own; exports and long runs take minutes."""


@pytest.mark.parametrize("name", SHORT)
def test_every_fault_is_survived(name, tmp_path, capsys):
    row = torture.try_part(torture.PARTS[name], SHORT[name], 1, tmp_path / name)
    assert row["lost"] == 0, capsys.readouterr().out
    assert row["tried"] == row["survived"] == SHORT[name]


def test_what_is_lost_is_shown_and_counted_and_other_parts_stay(tmp_path, monkeypatch, capsys):
    def half(rng: random.Random, count, folder):
        assert folder.is_dir()
        yield from (Fault("gone" if number % 2 else "") for number in range(count))

    parts = {name: Part(name, "fault", "nothing", 8, half) for name in ("one", "other")}
    monkeypatch.setattr(torture, "PARTS", parts)
    out = tmp_path / "counts.csv"
    for name in parts:
        monkeypatch.setattr(sys, "argv", ["torture", "--only", name, "--out", str(out)])
        assert torture.main() == 1
    assert capsys.readouterr().out.count("one: gone\n") == 4
    counts = read_counts(out)
    assert [counts[name]["lost"] for name in parts] == ["4", "4"]
