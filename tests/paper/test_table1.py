"""`hesrl paper table1`: the measure, and the command on a tiny setting."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from statistics import fmean, pstdev

import pytest
import torch

from hesrl.paper.table1 import Args, diagonal_dominance, main
from tests.measuring.files import write_digits


def test_diagonal_dominance_of_known_matrices():
    assert diagonal_dominance(torch.eye(3).expand(2, 3, 3)) == 1
    assert diagonal_dominance(torch.ones(1, 4, 4)) == 0.5
    assert diagonal_dominance(torch.stack([torch.ones(4, 4), torch.zeros(4, 4)])) == 0.5


def test_the_report_has_the_means_of_the_data(tmp_path: Path):
    write_digits(tmp_path, 60)
    args = Args(
        mnist=tmp_path, seeds=2, hidden_layers=2, width=5, steps=20, examples=2, out=tmp_path / "o"
    )
    assert main(args) == 0
    assert (args.out / "table1.png").read_bytes().startswith(b"\x89PNG")
    values = defaultdict(list)
    with (args.out / "table1.csv").open() as file:
        for row in csv.DictReader(file):
            values[row["matrix"], row["layer"]].append(float(row["dominance"]))
    assert len(values) == 9 and all(len(seeds) == 2 for seeds in values.values())

    def cell(matrix: str, layer: str) -> str:
        return f"{fmean(values[matrix, layer]):.3f} ± {pstdev(values[matrix, layer]):.3f}"

    report = (args.out / "table1.md").read_text()
    for layer, first, second in (("1", "0.94", "0.75"), ("2", "0.91", "0.54")):
        assert (
            f"| {layer} | {first} | {cell('before', layer)} | {second} | {cell('after', layer)} | "
            f"{cell('random', layer)} |" in report
        )
    assert f"| output |  | {cell('before', '3')} |  | {cell('after', '3')} |" in report
    assert "the values before training are 0.94, 0.91 | **does not hold**" in report


def test_a_diverged_seed_is_named(tmp_path: Path):
    write_digits(tmp_path, 60)
    args = Args(
        mnist=tmp_path, seeds=1, width=5, steps=20, learning_rate=1e38, out=tmp_path / "o",
        examples=2,
    )  # fmt: skip
    with pytest.raises(FloatingPointError, match="seed 1 diverged: choose a --learning-rate"):
        main(args)
