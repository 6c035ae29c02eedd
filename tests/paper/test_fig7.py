"""`hesrl paper fig7`: the command on short runs, and what is found in curves."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hesrl.errors import UserError
from hesrl.paper.fig7 import Args, find_claims, main
from hesrl.paper.fig7_curves import Curve, Row, curves, means

QUICK = ("--num-minibatches=1", "--update-epochs=1", "--compile=off")


@pytest.fixture
def args(tmp_path: Path) -> Args:
    return Args(
        optimizers=("adam",), seeds=2, total_timesteps=10_000, options=QUICK, out=tmp_path / "fig7"
    )


def curve(seed: int, *returns: float) -> Curve:
    """A curve whose smoothed values are these; each lasts as long as a mean takes."""
    repeated = np.repeat(returns, 5)
    return Curve(seed, 2000 * np.arange(1, len(repeated) + 1), repeated)


def test_figure_data_and_report(args: Args, capsys: pytest.CaptureFixture[str]):
    assert main(args) == 0
    assert (args.out / "fig7.png").read_bytes().startswith(b"\x89PNG")
    with (args.out / "fig7.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["seed"], row["step"]) for row in rows] == [
        (seed, str(step)) for seed in "12" for step in range(2000, 10_001, 2000)
    ]
    assert {row["optimizer"] for row in rows} == {"adam"}
    assert all(-500 < float(row["mean_return"]) < 500 for row in rows)
    report = (args.out / "fig7.md").read_text()
    assert "`hesrl train ppo --ur5 --no-anneal-lr" in report and QUICK[0] in report
    first = np.mean([float(row["mean_return"]) for row in rows[:5]])
    assert f"| adam, seed 1 | {first:.0f} | 10,000 | {first:.0f} | 0 |" in report
    capsys.readouterr()
    main(replace(args, seeds=1))
    assert "1 parts, 0 to do" in capsys.readouterr().out


def test_a_run_that_fails_is_named(args: Args):
    with pytest.raises(UserError, match=r"run adam-1 failed: --learning-rate -1\.0: must"):
        main(replace(args, options=("--learning-rate=-1",)))
    with pytest.raises(UserError, match=r"run adam-1 had 80 episodes; a curve needs 100: raise"):
        main(replace(args, options=(*QUICK, "--num-steps=8000"), out=args.out / "other"))


def test_a_curve_is_smoothed_and_says_what_it_lost():
    falls = curve(1, 0, 100, 250, 150)
    assert falls.steps[0] == 10_000 and falls.steps[-1] == 40_000
    assert (falls.peak, falls.peak_step, falls.final, falls.drop) == (250, 30_000, 150, 100)
    assert falls.deteriorates and falls.steps_to_good == 28_000
    stays = curve(2, 0, 190, 150)
    assert not stays.deteriorates and stays.steps_to_good is None
    np.testing.assert_allclose(curve(3, 0, 100).returns, [0, 20, 40, 60, 80, 100], atol=1e-12)


def test_means_of_episodes_leave_out_what_is_not_full():
    np.testing.assert_array_equal(means(np.arange(45.0)), [9.5, 29.5])


def test_rows_become_curves_by_optimizer_and_seed():
    rows = [
        Row(name, seed, step, step + seed)
        for name in ("adam", "sgd")
        for seed in (1, 2)
        for step in range(5)
    ]
    found = curves(rows)
    assert list(found) == ["adam", "sgd"] and [run.seed for run in found["sgd"]] == [1, 2]
    np.testing.assert_allclose([run.final for run in found["sgd"]], [3, 4])


def test_verdicts_follow_from_the_curves():
    falls, stays = curve(1, 0, 250, 150), curve(2, 0, 250, 240)
    adam, scaled = find_claims({"adam": [falls, stays, falls], "scaled-adam": [falls, stays]})
    assert adam.holds and adam.found == "2 of 3 runs; from peak to end they lose 100, 10, 100"
    assert not scaled.holds and "1 of 2 runs" in scaled.found
    adam, scaled = find_claims({"adam": [falls, stays], "scaled-adam": [stays]})
    assert not adam.holds and scaled.holds
    assert not list(find_claims({"scaled-adahesscale": [falls]}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 0}, "--seeds 0: must be at least 1"),
        ({"total_timesteps": 9_000}, "--total-timesteps 9000: must be from 10000"),
        ({"optimizers": ("adam", "adan")}, "--optimizers adan: choose from sgd"),
        ({"optimizers": ("adam", "adam")}, "must be one or more different names"),
    ],
)
def test_impossible_settings_are_refused(args: Args, settings: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        main(replace(args, **settings))
    assert not args.out.exists()
