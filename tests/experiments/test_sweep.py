"""A sweep runs its grid, is not repeated, and tabulates the returns."""

import math
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from hesrl.errors import UserError
from hesrl.experiments import sweep
from hesrl.experiments.sweep import (
    Args,
    Result,
    Trial,
    grid,
    main,
    read_results,
    returns_table,
    write_results,
)
from hesrl.measuring.tables import mean_and_margin


def test_table_has_mean_and_interval_of_the_seeds():
    results = [
        Result(Trial("ppo", "Hopper-v5", "adam", rate, seed, 1000, options), value, 0.0)
        for rate, seed, value, options in [
            (1e-3, 1, 10.0, ""),
            (1e-3, 2, 1030.0, ""),
            (3e-4, 1, -5.0, ""),
            (1e-3, 1, 7.0, "--eps=1e-2"),
        ]
    ]
    assert returns_table(results).splitlines() == [
        "| agent | environment | optimizer | 0.0003 | 0.001 |",
        "| --- | --- | --- | ---: | ---: |",
        "| ppo | Hopper-v5 | adam | -5 | 520 ± 6,480 |",
        "| ppo --eps=1e-2 | Hopper-v5 | adam |  | 7 |",
    ]


def test_margin_is_that_of_students_test():
    values = [1.0, 4.0, 2.5, 7.0]
    mean, margin = mean_and_margin(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean - margin == pytest.approx(low) and mean + margin == pytest.approx(high)
    assert math.isnan(mean_and_margin([1.0])[1])
    assert np.isnan(mean_and_margin([1.0, math.nan, 2.0])).all()


def small(folder: Path, **settings: object) -> Args:
    defaults = {
        "agents": ("ppo", "a2c"), "env_ids": ("InvertedPendulum-v5",), "seeds": 1,
        "optimizers": ("adahesscale",), "learning_rates": (1e-3,), "total_timesteps": 2048,
        "folder": folder,
    }  # fmt: skip
    return Args(**{**defaults, **settings})


def test_finished_runs_are_not_repeated(tmp_path, capsys):
    assert main(small(tmp_path)) == 0
    assert "2 runs, 2 to do" in capsys.readouterr().out
    before = (tmp_path / "results.csv").read_text()
    assert main(small(tmp_path)) == 0
    assert "2 runs, 0 to do" in capsys.readouterr().out
    assert (tmp_path / "results.csv").read_text() == before and before.count("\n") == 3
    assert {trial.agent for trial in read_results(tmp_path)} == {"ppo", "a2c"}
    assert "| InvertedPendulum-v5 | adahesscale |" in (tmp_path / "table.md").read_text()


def test_a_run_is_on_disk_once_it_has_ended(tmp_path, monkeypatch):
    def run(trial, args):
        deadline = time.monotonic() + 60
        while trial.agent == "ppo" and not read_results(tmp_path):  # until the other is written
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return Result(trial, 1.0, 2.0)

    monkeypatch.setattr(sweep, "_run", run)
    assert main(small(tmp_path)) == 0
    assert [trial.agent for trial in read_results(tmp_path)] == ["a2c", "ppo"]


def test_results_go_to_disk_and_back(tmp_path):
    trial = Trial("a2c", "Ant-v5", "adam", 3e-4, 2, 1000, "--no-anneal-lr '--robot-host=a b'")
    results = {trial: Result(trial, math.nan, -12.5)}
    write_results(tmp_path, results)
    (result,) = read_results(tmp_path).values()
    assert result.trial == trial and math.isnan(result.training_return)
    assert result.evaluation_return == -12.5


def test_runs_with_other_options_are_other_runs(tmp_path):
    options = ("--no-anneal-lr", "--hidden-sizes", "8", "4")
    args = small(tmp_path, agents=("ppo",), options=options)
    (trial,) = grid(args)
    plain = trial._replace(options="")
    write_results(tmp_path, {plain: Result(plain, 1.0, 1.0)})
    assert main(args) == 0
    assert set(read_results(tmp_path)) == {trial, plain}
    (config,) = tmp_path.glob("runs/*/*/config.yaml")
    settings = yaml.safe_load(config.read_text())["settings"]
    assert settings["hidden_sizes"] == [8, 4] and not settings["anneal_lr"]


def test_results_of_other_columns_are_refused_and_kept(tmp_path):
    text = "agent,env_id\nppo,Ant-v5\n"
    (tmp_path / "results.csv").write_text(text)
    with pytest.raises(UserError, match="its columns must be agent,env_id,optimizer,"):
        main(small(tmp_path))
    assert (tmp_path / "results.csv").read_text() == text


def test_grid_without_step_sizes_takes_the_defaults_and_goes_seed_by_seed():
    trials = grid(Args(agents=("ppo",), env_ids=("A", "B"), learning_rates=(), seeds=2))
    assert [trial.seed for trial in trials] == [1, 1, 1, 1, 2, 2, 2, 2]
    assert {trial.learning_rate for trial in trials if trial.optimizer == "adam"} == {3e-4}


def test_failed_run_ends_the_sweep_with_its_error(tmp_path):
    with pytest.raises(UserError, match=r"^ppo .* 100: --total-timesteps 100: is less"):
        main(small(tmp_path, agents=("ppo",), total_timesteps=100))


@pytest.mark.parametrize(
    "settings",
    [{"optimizers": ("adamw",)}, {"seeds": 0}, {"processes": 0}, {"agents": ("dqn",)}],
)
def test_impossible_grid_is_refused(tmp_path, settings):
    with pytest.raises(UserError):
        main(small(tmp_path, **settings))
