"""A sweep runs its grid, is not repeated, and tabulates the evaluation returns."""

from pathlib import Path

import pytest

from hesrl.errors import UserError
from hesrl.experiments.sweep import Args, Result, Trial, main, markdown_table, read_results


def test_table_has_mean_and_range_of_the_seeds():
    results = [
        Result(Trial("Hopper-v5", "adam", rate, seed), value, "run")
        for rate, seed, value in [(1e-3, 1, 10.0), (1e-3, 2, 1030.0), (3e-4, 1, -5.0)]
    ]
    assert markdown_table(results).splitlines() == [
        "| environment | optimizer | 0.0003 | 0.001 |",
        "|---|---|---:|---:|",
        "| Hopper-v5 | adam | -5 (-5 to -5) | 520 (10 to 1,030) |",
    ]


def small(folder: Path, **settings: object) -> Args:
    defaults = {
        "env_ids": ("InvertedPendulum-v5",), "optimizers": ("adahesscale",), "seeds": 2,
        "learning_rates": (1e-3,), "total_timesteps": 2048, "folder": folder,
    }  # fmt: skip
    return Args(**{**defaults, **settings})


def test_finished_runs_are_not_repeated(tmp_path, capsys):
    assert main(small(tmp_path)) == 0
    assert "2 runs, 2 to do" in capsys.readouterr().out
    assert main(small(tmp_path)) == 0
    assert "2 runs, 0 to do" in capsys.readouterr().out
    assert {result.trial.seed for result in read_results(small(tmp_path))} == {1, 2}
    assert (tmp_path / "results.csv").read_text().count("\n") == 3
    assert "InvertedPendulum-v5 | adahesscale" in (tmp_path / "table.md").read_text()


def test_failed_run_ends_the_sweep_with_its_error(tmp_path):
    with pytest.raises(UserError, match="total-timesteps 100: is less than one rollout"):
        main(small(tmp_path, total_timesteps=100))


@pytest.mark.parametrize("settings", [{"optimizers": ("adamw",)}, {"seeds": 0}, {"processes": 0}])
def test_impossible_grid_is_refused(tmp_path, settings):
    with pytest.raises(UserError):
        main(small(tmp_path, **settings))
