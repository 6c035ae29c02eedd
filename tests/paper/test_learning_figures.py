"""The paper's figures on learning: their grids, what they choose, and whole commands in small."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from hesrl.errors import UserError
from hesrl.experiments.reports.statistics import Interval
from hesrl.experiments.sweeps.store import Record, Store
from hesrl.experiments.sweeps.trial import Trial
from hesrl.paper import fig5, learning_curves, sensitivity
from hesrl.paper.rl_grid import figure_grid
from hesrl.paper.rl_results import Results, Task
from hesrl.paper.verdicts import difference

KINDS = {
    "fig5": "curves", "fig6": "sensitivity", "fig10": "curves", "fig11": "sensitivity",
    "fig12": "sensitivity", "fig13": "sensitivity",
}  # fmt: skip
ANT = Task("a2c", "Ant-v5")


def record(
    optimizer: str, rate: float, seed: int, score: float, *, role: str = "tuning", task: Task = ANT
) -> Record:
    """A run whose return rises to a score, or diverges if that is NaN; 0.1 of it is the start."""
    settings = {"env_id": task.env_id, "optimizer": optimizer, "learning_rate": rate}
    trial = Trial(
        task.agent, tuple(sorted((settings | {"total_timesteps": 1000}).items())), seed, role
    )
    steps = 10.0 * np.arange(1, 101)
    if math.isnan(score):
        curve = np.column_stack((steps, steps, steps))[:3]
        return Record(trial, "diverged", "the loss is not finite", curve=curve, version="1")
    curve = np.column_stack((steps, steps, np.linspace(0.1 * score, score, 100)))
    return Record(trial, "done", "", score, 0.55 * score, score, 9.0, "1", curve)


def test_runs_are_those_of_the_authors_at_the_scale_of_the_paper():
    trials = figure_grid("fig5", "curves", "paper").trials()
    assert {t.seed for t in trials} == set(range(10))
    assert {t["learning_rate"] for t in trials} == {
        3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2,
    }  # fmt: skip
    for trial in trials:
        long = trial["env_id"] == "Humanoid-v5"
        assert trial["total_timesteps"] == (10_000_000 if long else 2_000_000)
        assert not trial["bootstrap_at_time_limit"] and not trial["anneal_lr"]
        assert trial["variance_network"] and trial["max_grad_norm"] == math.inf
        assert (trial["eps"], trial["betas"], trial["ent_coef"]) == (1e-5, (0.9, 0.999), 0.0)
        if trial.agent == "a2c":
            assert (trial["num_steps"], trial["num_envs"]) == (5, 1) and trial["progress"]
    scaled = figure_grid("fig6", "sensitivity", "paper").trials()
    assert {t["optimizer"] for t in scaled} == {"adam", "scaled-adam", "scaled-adahesscale"}
    assert max(t["learning_rate"] for t in scaled) == 1.0


def test_figures_share_runs():
    curves = {t.id for t in figure_grid("fig5", "curves", "small").trials()}
    shared = [t for t in figure_grid("fig6", "sensitivity", "small").trials() if t.id in curves]
    assert {t["optimizer"] for t in shared} == {"adam"} and len(shared) == 4 * 6 * 5


@pytest.mark.parametrize(("figure", "kind"), KINDS.items())
def test_every_figure_has_runs_at_every_scale(figure, kind):
    counts = []
    for scale in ("smoke", "small", "paper"):
        if (figure, scale) == ("fig13", "small"):
            with pytest.raises(UserError, match="fig13 has only environments that are too long"):
                figure_grid(figure, kind, scale)
        else:
            counts.append(len(figure_grid(figure, kind, scale).trials()))
    assert counts == sorted(counts) and counts[0] > 0


def test_the_authors_choose_by_the_whole_run_without_what_diverged():
    runs = [record("adam", 1e-4, seed, 100) for seed in (1, 2)]
    runs += [record("adam", 1e-3, 1, 900), record("adam", 1e-3, 2, math.nan)]
    runs += [record("adam", 1e-2, seed, 50, role="tuning") for seed in (1, 2)]
    results = Results(runs)
    theirs = results.by_reported_seeds(ANT, "adam")
    assert theirs is not None and theirs.learning_rate == 1e-4 and theirs.diverged == 0
    np.testing.assert_array_equal(theirs.final, [100, 100])
    only_diverged = Results([record("adam", 1e-3, 1, math.nan)])
    assert only_diverged.by_reported_seeds(ANT, "adam") is None


def test_fresh_seeds_are_those_of_the_best_mean_and_a_diverged_run_counts_as_the_lowest():
    runs = [record("adam", 1e-4, seed, 100) for seed in (1, 2)]
    runs += [record("adam", 1e-3, 1, 900), record("adam", 1e-3, 2, math.nan)]
    results = Results(runs)
    assert results.by_fresh_seeds(ANT, "adam") is None
    runs += [record("adam", 1e-3, 101, 800, role="test")]
    runs += [record("adam", 1e-3, 102, math.nan, role="test")]
    fresh = Results(runs).by_fresh_seeds(ANT, "adam")
    assert fresh is not None and fresh.learning_rate == 1e-3 and fresh.diverged == 1
    np.testing.assert_array_equal(fresh.final, [800, 100])
    assert fresh.curves.shape == (2, 100) and fresh.curves[0, -1] == 800
    np.testing.assert_array_equal(fresh.curves[1, [0, 2, 3, 99]], [10, 30, 100, 100])


def test_returns_are_normalized_over_the_optimizers_of_an_environment():
    runs = [record("adam", rate, s, x) for rate, x in ((1e-4, 200), (1e-2, 1000)) for s in (1, 2)]
    runs += [record("scaled-adam", rate, s, 600) for rate in (1e-4, 1e-2) for s in (1, 2)]
    runs += [record("scaled-adam", 1e-2, 3, 600)]  # a seed that others still lack
    values = sensitivity.normalize(Results(runs), ANT)
    np.testing.assert_allclose(values["adam"], [[0, 0], [1, 1]])
    np.testing.assert_allclose(values["scaled-adam"], [[0.5, 0.5], [0.5, 0.5]])
    np.testing.assert_allclose(sensitivity.spread(values["adam"]), [1, 1])


def test_a_verdict_needs_an_interval_that_leaves_no_doubt():
    assert Interval(1, 0.5, 1.5).is_above() is True
    assert Interval(-1, -1.5, -0.5).is_above() is False
    assert Interval(1, -0.5, 2.5).is_above() is None
    assert Interval(1, math.nan, math.nan).is_above() is None
    gain = difference(np.array([3.0, 4, 5]), np.array([1.0, 1, 1]))
    assert gain.value == 3 and gain.low < 3 < gain.high
    assert Interval(1234.5, 1000, 2000).text("+,.0f") == "+1,234 (+1,000 to +2,000)"
    assert Interval(2, math.nan, math.nan).text("+,.0f") == "+2"


def claims_of_curves(adahesscale: float, adam: float, hessian: float, agent: str, spread: float):
    task = Task(agent, "Ant-v5")
    runs = []
    scores = {"adahesscale": adahesscale, "adam": adam, "adahessian": hessian}
    for name, score in scores.items():
        for role, seeds in (("tuning", (1, 2, 3)), ("test", (4, 5, 6))):
            runs += [
                record(name, 1e-3, s, score + spread * (s % 3), role=role, task=task) for s in seeds
            ]
    results = Results(runs)
    found = learning_curves.chosen_runs(results)
    return [claim.holds for claim in learning_curves.find_claims(results, found)]


def test_claims_of_learning_curves_follow_from_the_scores():
    assert claims_of_curves(900, 500, 300, "a2c", 1) == [True]
    assert claims_of_curves(400, 500, 300, "a2c", 1) == [False]
    assert claims_of_curves(510, 500, 300, "a2c", 100) == [None]
    assert claims_of_curves(505, 500, 300, "ppo", 1) == [True, True]
    assert claims_of_curves(900, 500, 950, "ppo", 1) == [False, False]
    assert claims_of_curves(500, 500, 490, "ppo", 200) == [None, None]


@pytest.mark.parametrize(
    ("env_id", "flat", "holds"),
    [("Ant-v5", True, True), ("Ant-v5", False, None), ("Humanoid-v5", True, False)],
)
def test_claims_of_step_sizes_follow_from_the_spreads(env_id, flat, holds):
    task = Task("ppo", env_id)
    runs = []
    for seed in (1, 2, 3):
        for rate, score in ((1e-4, 100), (1e-3, 900 + seed)):
            runs.append(record("adam", rate, seed, score, task=task))
            other = 700 + seed if flat else score
            runs.append(record("scaled-adam", rate, seed, other, task=task))
    (claim,) = sensitivity.find_claims({task: sensitivity.normalize(Results(runs), task)})
    assert claim.holds is holds


def test_the_figures_run_from_nothing_and_share_a_store(tmp_path: Path, capsys):
    """Every figure's whole command; what one has run the next one does not."""
    store = tmp_path / "store"
    for figure, kind in KINDS.items():
        module = import_module(f"hesrl.paper.{figure}")
        args = module.Args(store=store, out=tmp_path / figure, jobs=2)
        assert module.main(args) == 0
        assert (args.out / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
        with (args.out / f"{figure}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert {row["env_id"] for row in rows} == {"InvertedPendulum-v5"}
        assert {row["status"] for row in rows} <= {"done", "diverged"}
        with (args.out / f"{figure}-points.csv").open() as file:
            assert {row["optimizer"] for row in csv.DictReader(file)} >= {"adam"}
        page = (args.out / f"{figure}.md").read_text()
        assert "runs of 600 steps with `--paper`, by hesrl " in page
        assert ("fresh seeds" in page) == (kind == "curves")
    with Store.open(store, read_only=True) as opened:
        records = opened.records()
    assert len(records) == 2 * (3 + 3) + 2 * 3
    capsys.readouterr()
    again = fig5.Args(store=store, out=tmp_path / "again", draw_only=True)
    assert fig5.main(again) == 0
    command = f"    hesrl paper fig5 --store {store} --draw-only\n"
    assert command in (again.out / "fig5.md").read_text()
    assert (again.out / "fig5.csv").read_bytes() == (tmp_path / "fig5" / "fig5.csv").read_bytes()
    with pytest.raises(UserError, match=r"no results in .*: give the folder of a hesrl sweep"):
        fig5.main(replace(again, store=tmp_path / "none"))
    with pytest.raises(UserError, match=r"^no run of fig5 in .* is finished yet"):
        fig5.main(replace(again, scale="paper"))
