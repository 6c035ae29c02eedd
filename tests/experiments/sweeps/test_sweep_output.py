"""What a sweep shows while it runs, and its table of the returns."""

import io
import math
from collections import Counter

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from hesrl.experiments.sweeps.store import Record
from hesrl.experiments.sweeps.sweep_display import Display
from hesrl.experiments.sweeps.sweep_table import returns_table
from hesrl.experiments.sweeps.trial import Trial
from hesrl.measuring.tables import mean_and_margin


def test_the_time_left_is_that_of_the_last_runs(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    console = Console(file=io.StringIO())
    trials = [Trial("a2c", (("env_id", "X"), ("total_timesteps", 500)), s) for s in range(4)]
    with Display(console) as display:
        display.show(Counter(pending=4), {}, trials, 2)
        display.ended(Record(trials[0], "done"), 50.0)  # 10 steps/s
        clock[0] += 31
        display.show(Counter(done=1, running=2, pending=1), {trials[1].id: 1011.0}, trials[1:], 2)
        display.show(Counter(done=1, running=2, pending=1), {trials[1].id: 1011.0}, trials[1:], 2)
    ended, state = console.file.getvalue().splitlines()
    assert ended.endswith("seed 0: –, evaluation –")
    assert state == "1 done, 2 running, 1 pending; 1:05 left"  # (30 + 50 + 50) / 2


def test_a_cluster_without_nodes_has_a_time_left():
    trial = Trial("a2c", (("env_id", "X"), ("total_timesteps", 500)), 1)
    with Display(Console(file=io.StringIO(), force_terminal=True)) as display:
        display.ended(Record(trial, "done"), 50.0)
        display.show(Counter(pending=1), {}, [trial], 0)


def test_a_terminal_has_a_live_table():
    console = Console(file=io.StringIO(), force_terminal=True, force_interactive=True, width=90)
    with Display(console) as display:
        display.show(Counter(done=17, failed=4), {}, [], 2)
    text = console.file.getvalue()
    assert "17" in text and "diverged" in text and "0:00" in text


def test_table_has_mean_and_interval_of_the_seeds():
    def record(seed, rate, final, status="done", role="test", **settings):
        given = {"env_id": "Hopper-v5", "optimizer": "adam", "learning_rate": rate, **settings}
        return Record(Trial("ppo", tuple(given.items()), seed, role), status, final=final)

    records = [
        record(1, 1e-3, 10.0), record(2, 1e-3, 1030.0), record(1, 3e-4, -5.0),
        record(2, 3e-4, math.nan, "diverged"), record(1, 1e-3, 7.0, eps=1e-2),
        record(1, 3e-4, math.nan, eps=1e-2),
    ]  # fmt: skip
    assert returns_table(records).splitlines() == [
        "| agent | environment | optimizer | 0.0003 | 0.001 |",
        "| --- | --- | --- | ---: | ---: |",
        "| ppo | Hopper-v5 | adam | -5 (1 diverged) | 520 ± 6,480 |",
        "| ppo eps=0.01 | Hopper-v5 | adam | – | 7 |",
    ]
    both = returns_table([record(1, None, 1.0), record(2, None, 2.0, role="tuning")])
    assert "| ppo | Hopper-v5 | adam | tuning | 2 |" in both and "| seeds | default |" in both


def test_margin_is_that_of_students_test():
    values = [1.0, 4.0, 2.5, 7.0]
    mean, margin = mean_and_margin(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean - margin == pytest.approx(low) and mean + margin == pytest.approx(high)
    assert math.isnan(mean_and_margin([1.0])[1])
    assert np.isnan(mean_and_margin([1.0, math.nan, 2.0])).all()
