"""`hesrl paper fig8`: the command on tiny networks, and the verdicts."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from hesrl.errors import UserError
from hesrl.paper.fig8 import OPTIMIZERS, Args, find_claims, main, update_with
from hesrl.paper.fig8_times import Row, Times

EAGER = tuple(name for name in OPTIMIZERS if not name.endswith("compiled"))


@pytest.fixture
def args(tmp_path: Path) -> Args:
    return Args(
        outputs=(2, 4),
        layers=(1, 2),
        width=4,
        optimizers=EAGER,
        batch_size=3,
        updates=7,
        out=tmp_path / "fig8",
    )


def test_figure_data_and_report(args: Args, capsys: pytest.CaptureFixture[str]):
    assert main(args) == 0
    assert (args.out / "fig8.png").read_bytes().startswith(b"\x89PNG")
    with (args.out / "fig8.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * len(EAGER)
    report = (args.out / "fig8.md").read_text()
    for row in rows:
        assert float(row["milliseconds"]) > 0 and float(row["standard_error"]) > 0
        assert f"{float(row['milliseconds']):.2f} ms ({float(row['ratio']):.2f})" in report
    assert {row["parameters"] for row in rows if row["part"] == "outputs"} == {"270", "280"}
    capsys.readouterr()
    main(args)
    assert "4 parts, 0 to do" in capsys.readouterr().out


def test_what_the_command_was(args: Args):
    assert main(replace(args, optimizers=("torch-adam", "adahessian"))) == 0
    report = (args.out / "fig8.md").read_text()
    assert (
        "    hesrl paper fig8 --outputs 2 4 --layers 1 2 --width 4 "
        "--optimizers torch-adam adahessian --batch-size 3 --updates 7\n" in report
    )
    assert not re.search("AdaHesScale costs", report)


def test_an_update_that_cannot_be_compiled_is_refused(monkeypatch: pytest.MonkeyPatch):
    def compiled(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr("hesrl.train_step.recorded_step.compiled", compiled)
    model, x, target = nn.Linear(2, 3), torch.ones(4, 2), torch.zeros(4, dtype=torch.int64)
    update = update_with("adam-compiled", model, x, target)
    with pytest.raises(UserError, match=r"no compiler; leave names that end in -compiled out"):
        update()


def test_verdicts_follow_from_the_times():
    def row(part: str, size: int, name: str, ms: float, ratio: float) -> Row:
        return Row(part, size, 100 * size, name, ms, 0.1, ratio)

    rows = [row(part, size, "torch Adam", size, 1) for part in ("outputs", "layers")
            for size in (1, 2, 4)]  # fmt: skip
    rows += [row("outputs", size, "AdaHesScale", 2 * size, 2) for size in (1, 2, 4)]
    rows += [row("layers", size, "AdaHesScale", 2 * size**2, 2 * size) for size in (1, 2, 4)]
    cost, growth = find_claims(Times(rows))
    assert not cost.holds and cost.found.startswith("3.33 times torch's Adam (2.00 to 8.00)")
    assert not growth.holds and "1.00 (outputs) and 2.00 (layers)" in growth.found
    assert "torch's Adam: 1.00 and 1.00" in growth.found


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"outputs": (64,)}, "--outputs must be two or more different numbers"),
        ({"layers": (0, 1)}, "--layers must be two or more different numbers"),
        ({"layers": (2, 2)}, "--layers must be two or more different numbers"),
        ({"updates": 1}, "--updates 1: must be at least 2"),
        ({"threads": 0}, "--threads 0: must be at least 1"),
        ({"optimizers": ("adam",)}, "--optimizers must be torch-adam and others of torch-adam"),
        ({"optimizers": ("torch-adam", "adan")}, "--optimizers must be torch-adam and others"),
    ],
)
def test_impossible_settings_are_refused(args: Args, settings: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        main(replace(args, **settings))
    assert not args.out.exists()
