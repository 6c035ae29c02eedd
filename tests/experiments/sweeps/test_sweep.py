"""A sweep runs what is missing, and writes down how each run ends."""

import csv
import io
import math
import os
import signal
import sys
from collections import Counter

import pytest
import yaml
from rich.console import Console

from hesrl.cli import main
from hesrl.errors import EnvironmentFault, UserError
from hesrl.experiments.sweeps import sweep, sweep_agents
from hesrl.experiments.sweeps.grid import make_grid
from hesrl.experiments.sweeps.store import Record, Store
from hesrl.experiments.sweeps.sweep import run_grid
from hesrl.experiments.sweeps.sweep_display import Display
from hesrl.experiments.sweeps.sweep_loop import LIVES, SweepLoop
from hesrl.runs.directory import lock_folder
from hesrl.runs.interrupts import StopRequest

TINY = {
    "agent": "a2c",
    "settings": {
        "env_id": "CartPole-v1", "optimizer": "adam", "total_timesteps": 100, "compile": "off",
        "hidden_sizes": [[8]], "eval_episodes": 1, "log_interval": 1, "checkpoint_interval": 4,
    },
    "test_seeds": [1, 2],
}  # fmt: skip


def tiny(**changes):
    return make_grid({**TINY, **changes})


class FakePool:
    """Ends trials at once, as `ends` says of each start."""

    def __init__(self, ends=lambda trial, start: Record(trial, "done", final=1.0), slots=2):
        self.ends, self.running, self.starts, self.most = ends, [], Counter(), 0
        self.slots = lambda: slots
        self.retried = []

    def submit(self, trial, folder, retry):
        assert folder.is_dir()
        self.starts[trial.seed] += 1
        self.retried += [trial.seed] * retry
        self.running.append(self.ends(trial, self.starts[trial.seed]))
        self.most = max(self.most, len(self.running))

    def wait(self, seconds):
        ended, self.running = self.running, []
        return ended

    def stop(self):
        self.running = [Record(r.trial, "pending", "stopped") for r in self.running]


def loop_over(grid, folder, pool, store, retry_failed=False):
    console = Console(file=io.StringIO())
    with Display(console) as display, StopRequest() as stop:
        loop = SweepLoop(grid, folder, store, pool, display, retry_failed)
        loop.run(stop)
    return loop, console.file.getvalue()


def statuses(records):
    return {record.trial.seed: record.status for record in records}


def test_a_sweep_is_run_once_and_tabulated(tmp_path, capsys):
    file, folder = tmp_path / "grid.yaml", tmp_path / "results"
    file.write_text(yaml.safe_dump(TINY))
    command = "sweep", str(file), f"--out={folder}", "--jobs=2"
    assert main((*command, "--dry-run")) == 0 and not folder.exists()
    counts, speed, left = capsys.readouterr().out.splitlines()
    assert counts == "2 runs: 0 done, 2 to do" and speed.startswith("a2c CartPole-v1 adam: ")
    assert left.startswith("about 0:0")
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert printed.count("a2c CartPole-v1 adam") == 2 and "| a2c | CartPole-v1 | adam |" in printed
    summaries = {p: p.stat().st_mtime_ns for p in folder.glob("runs/*/*/summary.json")}
    assert len(summaries) == 2
    with Store.open(folder, read_only=True) as store:
        records = store.records()
    assert statuses(records) == {1: "done", 2: "done"}
    assert all(8 <= r.area <= 100 and r.seconds > 0 and r.curve.shape == (100, 3) for r in records)
    with (folder / "results.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["seed"] for row in rows] == ["1", "2"] and rows[0]["env_id"] == "CartPole-v1"
    assert float(rows[0]["area"]) == pytest.approx(records[0].area, rel=1e-5)
    assert main((*command, "--dry-run")) == 0
    assert "2 runs: 2 done, 0 to do\n" in capsys.readouterr().out
    assert main(command) == 0
    assert summaries == {p: p.stat().st_mtime_ns for p in folder.glob("runs/*/*/summary.json")}


def test_runs_that_fail_or_diverge_are_named_and_the_others_go_on(tmp_path):
    settings = {**TINY["settings"], "optimizer": ["adam", "sgd"], "learning_rate": [1e-3, 3e38]}
    grid = tiny(settings=settings, test_seeds=[1])
    damaged = next(t for t in grid.trials() if t["optimizer"] == "sgd" and t["learning_rate"] < 1)
    run = tmp_path / "runs" / damaged.id / "run"
    run.mkdir(parents=True)
    (run / "checkpoint.pt").write_bytes(b"half of")
    console = Console(file=io.StringIO())
    records = run_grid(grid, tmp_path, jobs=2, console=console)
    found = {(r.trial["optimizer"], r.trial["learning_rate"]): r for r in records}
    failed = found["sgd", 1e-3]
    assert failed.status == "failed" and failed.line.startswith(f"{run} is not a run directory: it")
    assert found["adam", 1e-3].status == "done"
    diverged = found["sgd", 3e38]
    assert diverged.status == "diverged" and "not finite" in diverged.line
    assert math.isnan(diverged.final) and len(diverged.curve) < 100
    assert "a2c CartPole-v1 sgd learning_rate=0.001 seed 1: failed: " in console.file.getvalue()

    again = run_grid(grid, tmp_path, jobs=2, console=console)
    assert [r.status for r in again] == [r.status for r in records]
    retried = run_grid(grid, tmp_path, jobs=2, retry_failed=True, console=console)
    assert [r.status for r in retried] == ["done" if r is failed else r.status for r in records]


def test_a_killed_trial_is_started_again_but_not_for_ever(tmp_path):
    def ends(trial, start):
        last = trial.seed == 1 and start > 1
        return Record(trial, "done") if last else Record(trial, "pending", "killed by somebody")

    pool = FakePool(ends)
    with Store.open(tmp_path) as store:
        loop, printed = loop_over(tiny(), tmp_path, pool, store)
        assert statuses(store.records()) == statuses(loop.results()) == {1: "done", 2: "failed"}
    assert pool.starts == {1: 2, 2: LIVES}
    assert "seed 2: failed: killed by somebody" in printed


def test_as_many_trials_run_as_there_is_room_for_and_failed_ones_on_request(tmp_path):
    grid = tiny(test_seeds=list(range(7)))
    pool = FakePool(lambda t, start: Record(t, "failed" if t.seed == 3 else "done"), slots=3)
    with Store.open(tmp_path) as store:
        loop_over(grid, tmp_path, pool, store)
        assert pool.most == 3 and sum(pool.starts.values()) == 7
        again = FakePool()
        loop_over(grid, tmp_path, again, store)
        assert again.starts == {}
        loop, _ = loop_over(grid, tmp_path, again, store, retry_failed=True)
        assert again.starts == {3: 1} and again.retried == [3]
        assert set(statuses(loop.results()).values()) == {"done"}


def test_test_seeds_wait_for_the_choice_of_the_tuning_seeds(tmp_path):
    settings = {**TINY["settings"], "learning_rate": [1e-3, 1e-2]}
    grid = tiny(settings=settings, tuning_seeds=[1, 2], test_seeds=[11, 12], test="best")
    pool = FakePool(lambda t, start: Record(t, "done", final=t["learning_rate"]), slots=1)
    with Store.open(tmp_path) as store:
        loop, _ = loop_over(grid, tmp_path, pool, store)
        assert len(store.records()) == 6
    tested = {(r.trial.seed, r.trial["learning_rate"]) for r in loop.results()[4:]}
    assert tested == {(11, 1e-2), (12, 1e-2)} and list(pool.starts) == [1, 2, 11, 12]


def test_ctrl_c_stops_the_runs_and_the_next_sweep_goes_on(tmp_path):
    def ends(trial, start):
        signal.raise_signal(signal.SIGTERM)
        return Record(trial, "done")

    grid = tiny(test_seeds=[1, 2, 3])
    with Store.open(tmp_path) as store:
        loop, _ = loop_over(grid, tmp_path, FakePool(ends, slots=1), store)
        assert loop.stopped
        assert set(statuses(store.records()).values()) <= {"done", "pending"}
        pool = FakePool()
        loop, _ = loop_over(grid, tmp_path, pool, store)
        assert set(statuses(loop.results()).values()) == {"done"} and sum(pool.starts.values()) >= 2


def test_trials_that_a_grid_no_longer_has_are_forgotten_unless_they_have_run(tmp_path):
    with Store.open(tmp_path) as store:
        loop_over(tiny(test_seeds=[1]), tmp_path, FakePool(), store)
        store.write(*(Record(t, "running") for t in tiny(test_seeds=[2]).trials()))
        loop_over(tiny(test_seeds=[3]), tmp_path, FakePool(), store)
        assert statuses(store.records()) == {1: "done", 3: "done"}


def test_a_store_on_a_full_disk_fails_one_run_and_the_rest_goes_on(tmp_path, monkeypatch):
    write = Store.write

    def full(store, *records):
        if records and records[0].trial.seed == 1 and records[0].status == "done":
            raise UserError("cannot use results.sqlite: database or disk is full")
        write(store, *records)

    monkeypatch.setattr(Store, "write", full)
    with Store.open(tmp_path) as store:
        loop, printed = loop_over(tiny(), tmp_path, FakePool(), store)
        assert statuses(loop.results()) == {1: "failed", 2: "done"}
        assert "seed 1: failed: cannot use results.sqlite: database or disk is full" in printed
        assert statuses(store.records()) == {1: "running", 2: "done"}  # another sweep takes it up


@pytest.mark.parametrize("error", [UserError, EnvironmentFault, KeyboardInterrupt])
def test_nothing_runs_after_an_error_or_ctrl_c(error, tmp_path, monkeypatch):
    class Broken(FakePool):
        def wait(self, seconds):
            with Store.open(tmp_path, read_only=True) as reader:
                assert statuses(reader.records()) == {1: "running", 2: "running"}
            raise error("of any kind")

        def close(self):
            self.running.clear()

    monkeypatch.setattr(sweep, "LocalProcesses", lambda _: Broken())
    with pytest.raises(error, match=r"^of any kind$"):
        run_grid(tiny(), tmp_path)
    with Store.open(tmp_path, read_only=True) as store:
        assert statuses(store.records()) == {1: "pending", 2: "pending"}


def test_what_a_killed_sweep_left_is_pending_even_if_the_next_cannot_start(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with Store.open(tmp_path) as store:
        store.write(*(Record(trial, "running") for trial in tiny().trials()))
    with pytest.raises(UserError, match=r"^--executor ray needs Ray"):
        run_grid(tiny(), tmp_path, "ray")
    with Store.open(tmp_path, read_only=True) as store:
        assert set(statuses(store.records()).values()) == {"pending"}


def test_one_sweep_at_a_time_uses_a_folder(tmp_path):
    lock = lock_folder(tmp_path)
    with pytest.raises(UserError, match=f"^{tmp_path} is in use by process {os.getpid()}: wait"):
        run_grid(tiny(), tmp_path)
    os.close(lock)


def test_impossible_ways_to_run_are_refused(tmp_path):
    for options, message in [
        ({"executor": "slurm"}, "^--executor slurm: choose one of local, ray$"),
        ({"jobs": 0}, "^--jobs 0: must be at least 1$"),
        ({"address": "auto"}, "^--address goes with --executor ray only$"),
    ]:
        with pytest.raises(UserError, match=message):
            run_grid(tiny(), tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_the_options_of_sweep_agents_are_a_grid():
    args = sweep_agents.Args(
        agents=("ppo", "stream-ac"), env_ids=("Hopper-v5",), optimizers=("intentional",), seeds=1
    )
    with pytest.raises(UserError, match="--optimizer intentional: unknown"):
        sweep_agents.grid_of(args)
    args = sweep_agents.Args(
        agents=("stream-ac",), env_ids=("Hopper-v5",), optimizers=("intentional",), seeds=2,
        first_seed=7, learning_rates=(0.05, 0.1), options=("--hidden-sizes", "8", "4"),
    )  # fmt: skip
    trials = sweep_agents.grid_of(args).trials()
    assert [(t.seed, t["eta_policy"]) for t in trials] == [(7, 0.05), (7, 0.1), (8, 0.05), (8, 0.1)]
    assert all(t["hidden_sizes"] == (8, 4) and t["total_timesteps"] == 300_000 for t in trials)
    args = sweep_agents.Args(agents=("a2c",), learning_rates=(), seeds=1, options=("--paper",))
    trials = sweep_agents.grid_of(args).trials()
    assert len(trials) == 6 and all(t["paper"] and not t["anneal_lr"] for t in trials)
    assert all(t.get("learning_rate") is None for t in trials)
    with pytest.raises(UserError, match=r"^--options: unknown option --papr: did you mean --paper"):
        sweep_agents.grid_of(sweep_agents.Args(agents=("a2c",), options=("--papr",)))
    with pytest.raises(UserError, match=r"^--seeds must be at least 1"):
        sweep_agents.grid_of(sweep_agents.Args(seeds=0))
