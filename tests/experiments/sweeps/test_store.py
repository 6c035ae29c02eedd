"""The store of a sweep: what goes in comes out, whole, and only from a store of this version."""

import math
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from hesrl.errors import UserError
from hesrl.experiments.sweeps.grid import make_grid
from hesrl.experiments.sweeps.store import FILE, Record, Store
from hesrl.experiments.sweeps.sweep_loop import SweepLoop
from hesrl.experiments.sweeps.sweep_table import write_tables
from hesrl.experiments.sweeps.trial import Trial

SETTINGS = (("env_id", "Hopper-v5"), ("eps", math.inf), ("hidden_sizes", (8, 8)), ("paper", True))
CURVE = np.array([[1.0, 0.1, math.nan], [2.0, 0.2, -3.5]])


def test_records_come_back_as_they_were(tmp_path):
    trial = Trial("ppo", SETTINGS, 3, "tuning")
    record = Record(trial, "done", "", 1.5, -2.0, math.nan, 7.25, "0.1", CURVE)
    failed = Record(Trial("ppo", SETTINGS, 4), "failed", "no “disk” left")
    with Store.open(tmp_path) as store:
        store.write(Record(trial), failed)
        store.write(record)
        with Store.open(tmp_path, read_only=True) as reader:
            found, other = reader.records()
    assert found.trial == trial and found[1:6] == record[1:6] and found[7] == "0.1"
    assert math.isnan(found.evaluation) and found.seconds == 7.25
    np.testing.assert_array_equal(found.curve, CURVE)
    assert other[:3] == failed[:3] and math.isnan(other.final) and other.curve.shape == (0, 3)


def test_trials_are_removed(tmp_path):
    trials = [Trial("ppo", SETTINGS, seed) for seed in range(3)]
    with Store.open(tmp_path) as store:
        store.write(*map(Record, trials))
        store.remove(trials[:2])
        assert [record.trial for record in store.records()] == trials[2:]


def test_a_full_disk_leaves_the_store_as_it_was(tmp_path, full_disk):
    trials = [Trial("ppo", SETTINGS, seed) for seed in range(200)]
    with Store.open(tmp_path) as store:
        store.write(Record(trials[0], "done", curve=CURVE))
        full_disk((tmp_path / FILE).stat().st_size)
        with pytest.raises(UserError, match=r"results.sqlite: .*; check the folder and the free"):
            store.write(*(Record(t, "done", curve=np.ones((100, 3))) for t in trials))
        assert [record.trial for record in store.records()] == trials[:1]


KILLED_WRITER = """
import os, signal, sys
from hesrl.experiments.sweeps.store import FILE, Store
with Store.open(sys.argv[1]) as store:
    connection = store._connection
    connection.execute("PRAGMA cache_size = 1")  # changed pages reach the file before a commit
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE results SET status = 'lost', curve = zeroblob(100000)")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_is_read_without_what_it_did_not_finish(tmp_path):
    trials = [Trial("ppo", SETTINGS, seed) for seed in range(20)]
    with Store.open(tmp_path) as store:
        store.write(*(Record(trial, "done", curve=CURVE) for trial in trials))
    subprocess.run([sys.executable, "-c", KILLED_WRITER, str(tmp_path)])
    assert (tmp_path / f"{FILE}-journal").stat().st_size > 0
    with Store.open(tmp_path, read_only=True) as store:
        assert [record.status for record in store.records()] == ["done"] * 20
        with pytest.raises(UserError, match="attempt to write a readonly database"):
            store.write(Record(trials[0]))


def test_a_store_that_is_just_being_made_is_not_read(tmp_path):
    (tmp_path / FILE).touch()
    with pytest.raises(UserError, match=r"^no results in .* yet: the sweep is just beginning"):
        Store.open(tmp_path, read_only=True)
    assert (tmp_path / FILE).stat().st_size == 0


def test_what_is_no_store_of_this_version_is_refused(tmp_path):
    with pytest.raises(UserError, match=f"^no results in {tmp_path}: give the folder of a"):
        Store.open(tmp_path, read_only=True)
    Store.open(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    for read_only in (True, False):
        with pytest.raises(UserError, match="has version 2, this hesrl reads up to 1"):
            Store.open(tmp_path, read_only)
    (tmp_path / FILE).unlink()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(UserError, match="is not a store of hesrl: choose another folder"):
        Store.open(tmp_path)
    (tmp_path / FILE).write_bytes(b"something else" * 100)
    with pytest.raises(UserError, match="is damaged or not a store"):
        Store.open(tmp_path)
    with pytest.raises(UserError, match=r"^cannot use .*: File exists; choose a writable folder"):
        Store.open(tmp_path / FILE)


def test_a_thousand_runs_are_listed_and_tabulated_in_seconds(tmp_path):
    content = {
        "agents": ["a2c", "ppo"],
        "settings": {
            "env_id": ["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5"],
            "optimizer": ["adam", "adahesscale", "adahesscalegn", "adahessian", "scaled-adam"],
            "learning_rate": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2],
        },
        "tuning_seeds": [1, 2, 3, 4, 5],
        "test_seeds": [101],
        "test": "best",
    }
    start = time.perf_counter()
    grid = make_grid(content)
    trials = grid.trials()
    assert len(trials) == 1000
    curve = np.random.default_rng(1).normal(size=(100, 3))
    with Store.open(tmp_path) as store:
        store.write(*(Record(t, "done", "", t.seed, 1.0, 2.0, 3.0, "0", curve) for t in trials))
    with Store.open(tmp_path) as store:
        loop = SweepLoop(grid, tmp_path, store, pool=None, display=None)
    assert len(loop.results()) == 1000 + 40  # the first of equal settings is the best for all, too
    assert "| a2c | Ant-v5 | adahesscale | tuning | 3 ± 2 |" in write_tables(
        tmp_path, loop.results()
    )
    assert time.perf_counter() - start < 5.0
