"""A trial has one run, which goes on where it can; its record says what came of it."""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest

from hesrl.errors import EnvironmentFault
from hesrl.experiments.sweeps import trial_process
from hesrl.experiments.sweeps.choice import score_of
from hesrl.experiments.sweeps.executors import LocalProcesses, _no_main
from hesrl.experiments.sweeps.grid import make_grid
from hesrl.experiments.sweeps.run_results import record_of
from hesrl.experiments.sweeps.trial import Trial
from hesrl.experiments.sweeps.trial_process import run_trial
from hesrl.runs.directory import RunDirectory, lock_folder
from hesrl.runs.metrics import MetricsLog

SETTINGS = {
    "env_id": "InvertedPendulum-v5", "optimizer": "adam", "total_timesteps": 60, "compile": "off",
    "hidden_sizes": [[8]], "eval_episodes": 1, "log_interval": 1, "checkpoint_interval": 2,
}  # fmt: skip


def make_trial(**settings):
    grid = {"agent": "a2c", "settings": {**SETTINGS, **settings}, "test_seeds": [1]}
    (trial,) = make_grid(grid).trials()
    return trial


def runs_in(folder):
    return [path for path in folder.iterdir() if path.is_dir()]


def make_run(folder, trial, returns, seconds):
    """Write a run with returns and seconds at steps, and return it."""
    names = {name: trial[name] for name in ("env_id", "optimizer")}
    run = RunDirectory.create(folder, agent="a2c", seed=1, config={}, **names)
    with MetricsLog(run) as metrics:
        for step, value in returns:
            metrics.log(step, {"charts/episodic_return": value})
        for step, value in seconds:
            metrics.log(step, {"charts/seconds": value})
    return run


def test_scores_are_those_of_the_episodes(tmp_path):
    trial = make_trial(total_timesteps=200)
    returns = [(2, 1.0), (3, 3.0), (4, 5.0), (100, 10.0), (180, 7.0), (181, 20.0), (200, 40.0)]
    with make_run(tmp_path, trial, returns, [(100, 4.0), (200, 12.0)]) as run:
        run.summary.write_text(json.dumps({"evaluation_returns": [1.0, 2.0]}))
        record = record_of(trial, run, "done")
    assert (record.final, record.evaluation, record.seconds) == (30.0, 1.5, 12.0)
    points = {1: 1.0, 2: 4.0, 50: 10.0, 90: 7.0, 91: 20.0, 100: 40.0}
    expected = [points.get(i, math.nan) for i in range(1, 101)]
    np.testing.assert_array_equal(record.curve[:, 2], expected)
    np.testing.assert_array_equal(record.curve[:, 0], np.arange(2, 201, 2))
    np.testing.assert_allclose(record.curve[[24, 49, 74], 1], [2.0, 4.0, 8.0])
    # Each value holds until the next one.
    area = 1.0 * 1 + 4.0 * 48 + 10.0 * 40 + 7.0 * 1 + 20.0 * 9 + 40.0 * 1
    assert record.area == pytest.approx(area / 100)


def test_episodes_that_end_together_before_the_last_tenth_make_the_score(tmp_path):
    trial = make_trial(total_timesteps=1_000_000)
    returns = [(128_000 * i, 10.0 * i + j) for i in range(1, 8) for j in range(128)]
    with make_run(tmp_path, trial, returns, [(1_000_000, 9.0)]) as run:
        run.summary.write_text(json.dumps({"evaluation_returns": [1.0]}))
        record = record_of(trial, run, "done")
    assert record.final == 70.0 + np.mean(range(128))
    assert score_of(record._replace(final=math.nan)) == record.final  # of an earlier store


def test_a_run_without_episodes_has_no_score_and_a_diverged_one_ends_where_it_came(tmp_path):
    trial = make_trial(total_timesteps=100)
    with make_run(tmp_path / "none", trial, [], [(60, 6.0)]) as run:
        run.summary.write_text(json.dumps({"evaluation_returns": [2.0]}))
        record = record_of(trial, run, "done")
        assert math.isnan(record.final) and math.isnan(record.area) and record.evaluation == 2.0
    with make_run(tmp_path / "one", trial, [(50, 3.0)], [(60, 6.0)]) as run:
        record = record_of(trial, run, "diverged", "not finite")
    assert record.curve[-1, 0] == 60 and record.line == "not finite"
    assert all(map(math.isnan, (record.final, record.area, record.evaluation)))


def test_a_run_goes_on_from_its_checkpoint_or_begins_anew_in_one_directory(tmp_path, monkeypatch):
    trial = make_trial()
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    undisturbed = run_trial(trial, whole)
    assert undisturbed.status == "done"

    class Killed(BaseException):
        pass

    def killed(*arguments):
        raise Killed

    for place in ("hesrl.runs.session.save_checkpoint", "hesrl.runs.session.plot_learning_curve"):
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(place, killed)  # before the first checkpoint, and behind the last
            run_trial(trial, cut)
        (first,) = runs_in(cut)
        assert not (first / "summary.json").exists()
    record = run_trial(trial, cut)
    assert runs_in(cut) == [first] and record.status == "done"
    assert record[3:6] == undisturbed[3:6]
    np.testing.assert_array_equal(record.curve[:, [0, 2]], undisturbed.curve[:, [0, 2]])
    written = (first / "metrics.csv").read_bytes()
    assert run_trial(trial, cut)[3:6] == record[3:6]  # of a sweep that had not taken note
    assert (first / "metrics.csv").read_bytes() == written


def test_a_full_disk_or_a_broken_environment_fails_the_run(tmp_path, full_disk, monkeypatch):
    trial = make_trial()
    full_disk(100)
    record = run_trial(trial, tmp_path)
    assert record.status == "failed" and record.line.startswith(f"cannot write {tmp_path}")

    def broken(args):
        raise EnvironmentFault("the arm\nis stuck")

    monkeypatch.setattr("hesrl.agents.a2c.main", broken)
    assert run_trial(trial, tmp_path)[1:3] == ("failed", "the arm is stuck")


def test_what_is_damaged_fails_and_begins_anew_on_request(tmp_path):
    trial = make_trial()
    done = run_trial(trial, tmp_path)
    (run,) = runs_in(tmp_path)
    checkpoint = (run / "checkpoint.pt").read_bytes()
    for name, line in [
        ("summary.json", f"cannot read {run}/summary.json: delete it, to evaluate again"),
        ("metrics.csv", f"{run}/metrics.csv was not written by hesrl"),
    ]:
        (run / name).write_bytes(b"\x01")
        record = run_trial(trial, tmp_path)
        assert record.status == "failed" and record.line.startswith(line)
    record = run_trial(trial, tmp_path, retry=True)
    assert record.status == "done" and record[3:6] == done[3:6]
    (run,) = runs_in(tmp_path)
    (run / "summary.json").unlink()
    (run / "checkpoint.pt").write_bytes(checkpoint[:-1])
    record = run_trial(trial, tmp_path)
    assert record[1:3] == (
        "failed", f"checkpoint {run}/checkpoint.pt is damaged or cut short: restore it from a copy"
    )  # fmt: skip
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "checkpoint.pt").touch()
    assert "has 2 run directories of one trial" in run_trial(trial, tmp_path).line


def test_a_trial_waits_for_a_run_that_has_lost_its_sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(trial_process, "GRACE_SECONDS", 0.1)
    lock = lock_folder(tmp_path)
    timer = threading.Timer(1.0, os.close, [lock])
    timer.start()
    assert run_trial(make_trial(), tmp_path).status == "done"
    timer.join()


def test_a_trial_whose_folder_is_never_free_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(trial_process, "HELD_SECONDS", 0.1)
    lock = lock_folder(tmp_path)
    record = run_trial(make_trial(), tmp_path)
    os.close(lock)
    assert record.status == "failed" and f"is in use by process {os.getpid()}" in record.line


def start_a_trial_and_wait(trial, folder, started):
    """Be a sweep that starts a trial and is killed."""
    pool = LocalProcesses(1)
    pool.submit(trial, folder, retry=False)
    started.send(None)
    time.sleep(600)


def test_a_run_ends_with_its_parent_and_leaves_a_checkpoint(tmp_path):
    trial = make_trial(total_timesteps=10_000_000, checkpoint_interval=1_000_000)
    context = multiprocessing.get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    parent = context.Process(target=start_a_trial_and_wait, args=(trial, tmp_path, sender))
    with _no_main():
        parent.start()
    sender.close()
    receiver.recv()
    deadline = time.monotonic() + 120
    while not (logs := list(tmp_path.glob("*/metrics.csv"))) or logs[0].stat().st_size < 100:
        assert time.monotonic() < deadline and parent.is_alive()
        time.sleep(0.05)
    parent.kill()
    parent.join()
    (run,) = runs_in(tmp_path)
    while not (run / "checkpoint.pt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            os.close(lock_folder(tmp_path))
            break
        time.sleep(0.05)
    assert "stopped by SIGTERM" in (tmp_path / "output.txt").read_text()


def test_a_process_that_dies_without_a_word_is_told_from_one_that_fails(tmp_path):
    pool = LocalProcesses(1)
    (tmp_path / "output.txt").write_text("\n")
    pool.submit(make_trial(total_timesteps=10_000_000), tmp_path, retry=False)
    (running,) = pool._running
    while not runs_in(tmp_path):
        time.sleep(0.02)
    os.kill(running.process.pid, signal.SIGKILL)
    (record,) = pool.wait(60)
    assert record[1:3] == ("pending", "killed, perhaps for want of memory")
    broken = Trial(
        "a2c", (("env_id", "InvertedPendulum-v5"), ("env_options", ("frame_skip=0",))), 1
    )
    pool.submit(broken, tmp_path, retry=False)
    (record,) = pool.wait(60)
    assert record[1:3] == ("failed", "ZeroDivisionError: float division by zero")
    pool.close()
