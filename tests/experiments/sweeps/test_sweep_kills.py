"""A sweep of 40 runs in which everything is killed once ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from hesrl.experiments.sweeps.grid import load_grid
from hesrl.experiments.sweeps.store import Store
from hesrl.experiments.sweeps.sweep import run_grid

GRID = {
    "agent": "a2c",
    "settings": {
        "env_id": "InvertedPendulum-v5", "optimizer": ["adam", "adahesscale"],
        "total_timesteps": 160, "hidden_sizes": [[8]], "compile": "off", "eval_episodes": 1,
        "log_interval": 1, "checkpoint_interval": 1,
    },
    "test_seeds": {"first": 1, "count": 20},
}  # fmt: skip
PATIENCE = 600.0


def wait_until(condition):
    """Wait for a condition and return its value."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def processes():
    """Return the parent of each process that has not ended, and its command."""
    command = ["ps", "-Aww", "-o", "pid=,ppid=,stat=,args="]
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    found = (line.split(maxsplit=3) for line in lines)
    return {int(pid): (int(ppid), args) for pid, ppid, stat, args in found if stat[0] != "Z"}


def family(pid):
    """Return a process and all that descend from it."""
    everyone = processes()
    found = {pid}
    while more := {p for p, (parent, _) in everyone.items() if parent in found} - found:
        found |= more
    return found


def gone(pids):
    return not pids & processes().keys()


class Sweep:
    """`hesrl sweep` in a process of its own."""

    def __init__(self, file: Path, folder: Path, *options: str) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "hesrl.cli", "sweep", str(file), f"--out={folder}"]
        self.process = subprocess.Popen(
            [*command, "--jobs=2", *options],
            stdout=subprocess.PIPE if "--executor=ray" in options else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        """Leave nothing behind, whatever has failed."""
        self.process.kill()
        self.process.communicate()

    def done(self):
        """Return when each run ended that is done."""
        assert self.process.poll() is None, self.process.stderr.read()
        return {path: path.stat().st_mtime_ns for path in self.folder.glob("runs/*/*/summary.json")}

    def running(self):
        """Return the processes of runs that have a checkpoint and are not done."""
        assert self.process.poll() is None, self.process.stderr.read()
        runs = [p for p in self.folder.glob("runs/*/*/checkpoint.pt")]
        runs = [p for p in runs if not p.with_name("summary.json").exists()]
        return {
            int((p.parents[1] / "run.lock").read_text() or 0) for p in runs
        } & processes().keys()


def finals(records):
    return np.array([(r.final, r.area, r.evaluation) for r in records])


@pytest.mark.cluster
def test_a_sweep_survives_kills_of_a_run_of_itself_and_of_ray(tmp_path):
    file, folder = tmp_path / "grid.yaml", tmp_path / "killed"
    file.write_text(yaml.safe_dump(GRID))

    with Sweep(file, folder) as sweep:
        wait_until(lambda: len(sweep.done()) >= 3)
        os.kill(wait_until(sweep.running).pop(), signal.SIGKILL)
        already = len(sweep.done())
        wait_until(lambda: len(sweep.done()) >= already + 5)
        wait_until(sweep.running)
        everyone = family(sweep.process.pid)
        sweep.process.kill()
        sweep.process.wait()
        wait_until(lambda: gone(everyone))
    with Store.open(folder, read_only=True) as store:
        assert {r.status for r in store.records()} == {"done", "running", "pending"}
    before = {p: p.stat().st_mtime_ns for p in folder.glob("runs/*/*/summary.json")}

    with Sweep(file, folder, "--executor=ray") as sweep:
        wait_until(lambda: len(sweep.done()) >= len(before) + 5)
        wait_until(sweep.running)
        everyone = family(sweep.process.pid)
        (raylet,) = (
            p for p, (_, args) in processes().items() if p in everyone and "/raylet " in args
        )
        os.kill(raylet, signal.SIGKILL)
        out, err = sweep.process.communicate(timeout=PATIENCE)
        assert sweep.process.returncode == 1
        assert err.startswith("error: Ray's node process has gone: run the same command again")
        assert err.count("\n") == 1 and "raylet" not in out
        wait_until(lambda: gone(everyone))
    with Store.open(folder, read_only=True) as store:
        assert {r.status for r in store.records()} == {"done", "pending"}

    records = run_grid(load_grid(file), folder, jobs=2)
    assert before.items() <= {p: p.stat().st_mtime_ns for p in before}.items()
    assert len(records) == 40 and {r.status for r in records} == {"done"}
    assert len({r.trial.id for r in records}) == 40
    for record in records:
        assert len(list(folder.glob(f"runs/{record.trial.id}/*/config.yaml"))) == 1
    undisturbed = run_grid(load_grid(file), tmp_path / "undisturbed", jobs=2)
    assert [r.trial for r in records] == [r.trial for r in undisturbed]
    np.testing.assert_array_equal(finals(records), finals(undisturbed))
    for record, other in zip(records, undisturbed, strict=True):
        np.testing.assert_array_equal(record.curve[:, [0, 2]], other.curve[:, [0, 2]])
