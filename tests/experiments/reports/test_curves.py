"""Learning curves of runs: what is averaged, what is told apart, and what is refused."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from hesrl.errors import UserError
from hesrl.experiments.reports.curves import Args, learning_curves, main
from hesrl.experiments.reports.curves_plot import plot_curves, seeds_text
from hesrl.experiments.reports.learning_runs import find_runs
from hesrl.experiments.sweeps.store import Record, Store
from hesrl.experiments.sweeps.trial import Trial
from hesrl.runs.directory import RunDirectory
from hesrl.runs.metrics import MetricsLog

KEY = "charts/episodic_return"


def make_run(root, rows, *, seed=1, agent="ppo", key=KEY, finished=True, **settings):
    """Write a run with returns at steps, as (step, return), and return its folder."""
    config = {
        "env_id": "Hopper-v5", "optimizer": "adam", "seed": seed, "total_timesteps": 100,
        "learning_rate": 1e-3, "runs_dir": f"{root}", "threads": seed, **settings,
    }  # fmt: skip
    names = {name: config[name] for name in ("env_id", "optimizer", "seed")}
    with (
        RunDirectory.create(root, agent=agent, config=config, **names) as run,
        MetricsLog(run) as metrics,
    ):
        for step, value in rows:
            metrics.log(step, {key: value})
        if finished:
            run.summary.write_text("{}")
    return run.path


def curves_of(root, points=4):
    return learning_curves(find_runs([root], KEY), points)


def test_points_are_means_of_the_seeds_intervals(tmp_path):
    make_run(tmp_path / "a", [(10, 1.0), (25, 3.0), (26, 10.0), (75, 20.0), (100, 30.0)], seed=1)
    make_run(tmp_path / "b", [(20, 4.0), (50, 0.0), (60, 5.0), (76, 6.0), (99, 8.0)], seed=2)
    (curve,) = curves_of(tmp_path)
    assert (curve.env_id, curve.label, curve.seeds) == ("Hopper-v5", "ppo adam", (1, 2))
    assert [point.global_step for point in curve.points] == [25, 50, 75, 100]
    pairs = [(2.0, 4.0), (10.0, 0.0), (20.0, 5.0), (30.0, 7.0)]
    for point, pair in zip(curve.points, pairs, strict=True):
        low, high = stats.ttest_1samp(pair, 0).confidence_interval(0.95)
        assert point.mean == pytest.approx(np.mean(pair))
        assert (point.mean - point.margin, point.mean + point.margin) == pytest.approx((low, high))


def test_an_interval_without_values_has_the_one_before_and_none_is_made_up(tmp_path):
    rows = [(30, 1.0), (80, 2.0), (110, 9.0)]
    make_run(tmp_path, rows, total_timesteps=200, finished=False)
    (curve,) = curves_of(tmp_path, points=10)
    assert [point.global_step for point in curve.points] == [20, 40, 60, 80, 100]
    np.testing.assert_array_equal([point.mean for point in curve.points], [math.nan, 1, 1, 2, 2])
    assert all(math.isnan(point.margin) for point in curve.points)


def test_a_curve_ends_where_its_shortest_run_ends(tmp_path):
    make_run(tmp_path, [(25, 1.0), (50, 2.0), (75, 3.0), (100, 4.0)], seed=1)
    make_run(tmp_path, [(25, 3.0), (50, 4.0)], seed=2, finished=False)
    make_run(tmp_path, [(25, 3.0), (60, 4.0)], total_timesteps=60)
    long, short = curves_of(tmp_path)
    assert [point[:2] for point in long.points] == [(25, 2), (50, 3)]
    assert [point.global_step for point in short.points] == [15, 30, 45, 60]


def test_runs_are_told_apart_by_what_may_change_learning(tmp_path):
    rows = [(50, 1.0), (100, 2.0)]
    make_run(tmp_path, rows, seed=1)
    make_run(tmp_path, rows, seed=2)
    make_run(tmp_path, rows, seed=1, learning_rate=1e-2)
    make_run(tmp_path, rows, optimizer="adahesscale")
    make_run(tmp_path, rows, agent="sb3-ppo", extra=True)
    make_run(tmp_path, rows, env_id="Ant-v5")
    assert [(curve.env_id, curve.label, len(curve.seeds)) for curve in curves_of(tmp_path)] == [
        ("Ant-v5", "ppo adam", 1),
        ("Hopper-v5", "ppo adahesscale", 1),
        ("Hopper-v5", "ppo adam, learning_rate 0.001", 2),
        ("Hopper-v5", "ppo adam, learning_rate 0.01", 1),
        ("Hopper-v5", "sb3-ppo adam", 1),
    ]


def test_a_seed_counts_once(tmp_path):
    make_run(tmp_path, [(50, 1.0)])
    make_run(tmp_path, [(50, 1.0)])
    with pytest.raises(UserError, match=r"have the same settings and seed; give one of them$"):
        curves_of(tmp_path)


def test_a_run_that_is_given_twice_counts_once(tmp_path):
    run = make_run(tmp_path, [(50, 1.0)])
    assert [found.name for found in find_runs([tmp_path, run], KEY)] == [str(run)]


def test_picture_and_numbers_are_written(tmp_path, capsys):
    make_run(tmp_path / "runs", [(50, 1.0), (100, 2.0)], seed=1)
    make_run(tmp_path / "runs", [(50, 3.0), (100, 8.0)], seed=2)
    make_run(tmp_path / "runs", [(50, 3.0), (100, 4.0)], env_id="Ant-v5")
    out = tmp_path / "picture.png"
    assert main(Args(runs=(tmp_path / "runs",), points=2, out=out)) == 0
    assert out.read_bytes().startswith(b"\x89PNG") and len(out.read_bytes()) > 10_000
    with out.with_suffix(".csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["env_id"], row["global_step"], row["mean"]) for row in rows] == [
        ("Ant-v5", "50", "3"), ("Ant-v5", "100", "4"),
        ("Hopper-v5", "50", "2"), ("Hopper-v5", "100", "5"),
    ]  # fmt: skip
    assert float(rows[3]["margin"]) == pytest.approx(38.12, abs=0.01)  # 12.706 · 3
    printed = capsys.readouterr().out
    assert "Ant-v5 ppo adam: 1 run(s), 4 at step 100" in printed
    assert "Hopper-v5 ppo adam: 2 run(s), 5 ± 38.12 at step 100" in printed
    assert printed.splitlines()[-2:] == [str(out), str(out.with_suffix(".csv"))]


def test_numbers_of_another_kind_are_not_replaced(tmp_path):
    run, picture = make_run(tmp_path / "runs", [(50, 1.0), (100, 2.0)]), tmp_path / "curves.png"
    table = picture.with_suffix(".csv")
    table.write_text("seed,score\n1,2\n")
    with pytest.raises(UserError, match=r"curves.csv is there and has no curves: move it away"):
        main(Args((run,), out=picture))
    assert table.read_text() == "seed,score\n1,2\n" and not picture.exists()
    table.unlink()
    assert main(Args((run,), out=picture)) == main(Args((run,), out=picture)) == 0


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^no runs: give folders"):
        main(Args(runs=()))
    with pytest.raises(UserError, match=f"^no runs in {tmp_path}: give folders"):
        main(Args(runs=(tmp_path,)))
    run = make_run(tmp_path, [(1, 1.0)], key="other")
    with pytest.raises(UserError, match=f"^{run} has no metric {KEY}: see its metrics.csv$"):
        main(Args(runs=(tmp_path,), out=tmp_path / "x.png"))
    with pytest.raises(UserError, match=r"^--out x.gif: must end with .png, .pdf or .svg$"):
        main(Args(runs=(tmp_path,), out=Path("x.gif")))
    with pytest.raises(UserError, match=r"^--points 0: must be greater than zero$"):
        main(Args(runs=(tmp_path,), points=0))
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(("form", "start"), [("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_pictures_for_print_are_written_too(tmp_path, form, start):
    make_run(tmp_path, [(50, 1.0), (100, 2.0)])
    out = tmp_path / f"picture.{form}"
    assert main(Args(runs=(tmp_path,), points=2, out=out)) == 0
    assert out.read_bytes().startswith(start) and out.with_suffix(".csv").exists()


@pytest.mark.parametrize("envs", [1, 4])
def test_a_legend_of_21_curves_is_whole(tmp_path, envs):
    for number in range(21):
        make_run(
            tmp_path, [(50, 1.0)], learning_rate=1e-3 / (number + 1), weight=f"{number:08}",
            env_id=f"Env{number % envs}-v5",
        )  # fmt: skip
    figure = plot_curves(curves_of(tmp_path), KEY)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box, page = legend.get_window_extent(), figure.bbox
    assert len(legend.get_texts()) == 21
    assert box.x0 >= 0 and box.x1 <= page.x1 and box.y0 >= 0
    assert all(ax.bbox.y0 > box.y1 and ax.bbox.height > 200 for ax in figure.axes[:envs])


def test_the_store_of_a_sweep_is_read_like_run_directories(tmp_path):
    settings = (("env_id", "Hopper-v5"), ("optimizer", "adam"), ("total_timesteps", 100))
    points = np.array([(25, 1, math.nan), (50, 2, 3.0), (75, 3, 5.0), (100, 4, 7.0)])
    with Store.open(tmp_path / "sweep") as store:
        store.write(
            Record(Trial("ppo", settings, 1), "done", curve=points),
            Record(Trial("ppo", settings, 2), "diverged", curve=points[:3]),
            Record(Trial("ppo", settings, 3), "failed"),
        )
    make_run(tmp_path / "sweep" / "runs", [(1, 1.0)])
    (curve,) = curves_of(tmp_path)
    assert (curve.label, curve.seeds) == ("ppo adam", (1, 2))
    assert [point.global_step for point in curve.points] == [25, 50, 75]
    np.testing.assert_array_equal([point.mean for point in curve.points], [math.nan, 3, 5])
    with pytest.raises(UserError, match="has no metric losses/entropy"):
        find_runs([tmp_path], "losses/entropy")


def test_seeds_are_written_as_ranges():
    assert seeds_text([3]) == "seed 3"
    assert seeds_text([5, 1, 2, 3, 101]) == "seeds 1–3, 5, 101"


def test_bands_far_wider_than_the_lines_are_cut(tmp_path):
    make_run(tmp_path, [(50, 0.0), (100, 10.0)], seed=1)
    make_run(tmp_path, [(50, 2.0), (100, 12.0)], seed=2)  # ± 12.7
    make_run(tmp_path, [(50, 0.0), (100, 0.1)], env_id="Ant-v5", seed=1)
    make_run(tmp_path, [(50, 9.0), (100, 9.1)], env_id="Ant-v5", seed=2)  # ± 57
    ant, hopper = plot_curves(curves_of(tmp_path, points=2), KEY).axes
    assert hopper.get_ylim() == pytest.approx((1 - 12.706, 11 + 12.706), abs=2)
    assert ant.get_ylim() == pytest.approx((4.5 - 0.15, 4.6 + 0.15))
