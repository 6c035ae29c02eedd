"""`hesrl paper fig2` on a tiny setting, from the files to the report."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import torch
import torch.nn.functional as F

from hesrl.curvature import hess_diag
from hesrl.errors import UserError
from hesrl.paper.fig2 import Args, exact_diagonals, main
from hesrl.paper.training import train
from tests.measuring.files import write_digits


@pytest.fixture
def args(tmp_path: Path) -> Args:
    digits = tmp_path / "digits"
    digits.mkdir()
    write_digits(digits, 60)
    return Args(
        mnist=digits, seeds=2, width=5, steps=20, batch_size=8, examples=2, out=tmp_path / "fig2"
    )


def test_figure_data_and_report(args: Args, capsys: pytest.CaptureFixture[str]):
    assert main(args) == 0
    assert (args.out / "fig2.png").read_bytes().startswith(b"\x89PNG")
    with (args.out / "fig2.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["seed"] for row in rows} == {"1", "2"}
    report = (args.out / "fig2.md").read_text()
    assert "hesrl paper fig2" in report
    for method in ("HesScale", "HesScaleGN", "GGN", "GGN-MC50", "GGN-MC1", "BL89", "g²"):
        assert re.search(rf"^\| {re.escape(method)} \|", report, re.MULTILINE)
    assert re.search(r"^\| AdaHessian-MC1 \| \S+ \(\S+ to \S+\) \|", report, re.MULTILINE)
    assert "| HesScale | 1 (1 to 1) | 1 (1 to 1) |" in report


def test_finished_seeds_are_not_computed_again(args: Args, capsys: pytest.CaptureFixture[str]):
    main(args)
    before = {file: file.read_bytes() for file in (args.out / "parts").iterdir()}
    capsys.readouterr()
    main(replace(args, seeds=3))
    assert "3 parts, 1 to do" in capsys.readouterr().out
    assert all(file.read_bytes() == data for file, data in before.items())
    with pytest.raises(UserError):
        main(replace(args, steps=21))


@pytest.mark.parametrize("setting", [{"seeds": 0}, {"steps": -1}, {"examples": 0}, {"width": 0}])
def test_impossible_settings_are_refused(args: Args, setting: dict[str, int]):
    with pytest.raises(UserError):
        main(replace(args, **setting))
    assert not args.out.exists()


def test_exact_diagonals_are_those_of_each_example(args: Args):
    *_, stage = train(args, 1)
    exact = exact_diagonals(stage)
    params = list(stage.model.parameters())
    for n in range(2):
        x, target = stage.inputs[n : n + 1], stage.targets[n : n + 1]
        expected = hess_diag(F.cross_entropy(stage.model(x), target), params, "hessian")
        found = [part for h, a in exact for part in (h[n].outer(a[n].square()), h[n])]
        torch.testing.assert_close(found, expected)


def test_the_report_has_the_ratios_of_the_data(args: Args):
    main(args)
    errors: dict[tuple[str, str, str], float] = {}
    with (args.out / "fig2.csv").open() as file:
        for row in csv.DictReader(file):
            key = row["stage"], row["method"], row["seed"]
            errors[key] = errors.get(key, 0) + float(row["error"])
    report = (args.out / "fig2.md").read_text()
    for method in ("BL89", "g²"):
        line = re.search(rf"^\| {method} \| (.*) \((.*)\) \| (.*) \(", report, re.MULTILINE)
        assert line
        for stage, printed in (("before", line[1]), ("after", line[3])):
            ratios = [errors[stage, method, s] / errors[stage, "HesScale", s] for s in "12"]
            assert float(printed.replace(",", "")) == pytest.approx(median(ratios), rel=5e-3)
