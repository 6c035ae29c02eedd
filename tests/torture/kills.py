"""Processes that are killed at random moments, and go on from what is on the disk."""

from __future__ import annotations

import contextlib
import io
import itertools
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

from hesrl.errors import UserError
from hesrl.experiments.sweeps.grid import load_grid
from hesrl.experiments.sweeps.store import Record
from hesrl.experiments.sweeps.sweep import run_grid
from hesrl.runs.checkpoint import load_checkpoint
from tests.agents.processes import (
    SMALL,
    finish,
    only_run,
    rows,
    run_small,
    start,
    start_small,
)
from tests.experiments.sweeps.test_sweep_kills import processes
from tests.rl.comparison import assert_same
from tests.runs.test_checkpoint import SAVE_FOREVER
from tests.torture.faults import Fault

ENVIRONMENT = "--env-id=InvertedPendulum-v5"
STEPS = {"ppo": 2048, "a2c": 2048, "stream_ac": 1024}


def _killed(process, seconds: float) -> bool:
    """Kill a process after a time, and return whether it was still running."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()
    return process.returncode == -9


def _same_run(run: Path, undisturbed: Path) -> str:
    try:
        assert_same(*(load_checkpoint(r / "checkpoint.pt") for r in (run, undisturbed)))
    except (AssertionError, UserError) as error:
        return f"{run.name}: {error}"
    return "" if rows(run) == rows(undisturbed) else f"{run.name}: other metrics"


def training(rng: random.Random, count: int, folder: Path) -> Iterator[Fault]:
    """Kill each agent in turn, and resume it until it ends: equal to a run without a kill."""
    left = count
    for number, agent in enumerate(itertools.cycle(SMALL)):
        if not left:
            return
        base = folder / agent
        if not base.exists():
            base.mkdir()
            begin = time.monotonic()
            run_small(agent, ENVIRONMENT, cwd=base, steps=STEPS[agent])
            took = time.monotonic() - begin
        undisturbed = only_run(base)
        cwd = folder / str(number)
        cwd.mkdir()
        kills, run, status, err = 0, None, None, ""
        while status is None:
            if run is None:
                process = start_small(agent, ENVIRONMENT, cwd=cwd, steps=STEPS[agent])
            else:
                process = start(agent, "--resume", str(run), cwd=cwd)
            if kills < left and _killed(process, rng.uniform(0, 0.8 * took)):
                kills += 1
            else:
                status, _, err = finish(process)
            found = [p.parent for p in cwd.glob("runs/*/checkpoint.pt")]
            run = found[0] if found else None
            if run is None:  # killed before there was anything to lose
                shutil.rmtree(cwd / "runs", ignore_errors=True)
        if status or run is None:
            lost = f"{agent} ended with {status}: {err}"
        else:
            lost = _same_run(run, undisturbed)
        yield from (Fault(lost) for _ in range(kills))
        left -= kills


def saving(rng: random.Random, count: int, folder: Path) -> Iterator[Fault]:
    """Kill a process that saves checkpoints without a pause: the last one is whole."""
    path = folder / "checkpoint.pt"
    for _ in range(count):
        before = load_checkpoint(path)["step"] if path.exists() else None
        process = subprocess.Popen([sys.executable, "-c", SAVE_FOREVER, str(path)])
        began = path.stat().st_mtime_ns if path.exists() else 0
        while process.poll() is None and not (path.exists() and path.stat().st_mtime_ns != began):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        process.wait()
        try:
            state = load_checkpoint(path)
        except UserError as error:
            yield Fault(f"after {before}: {error}")
        else:
            whole = bool((state["weight"] == state["step"]).all())
            yield Fault("" if whole else "a checkpoint of two moments")


GRID = {
    "agent": "a2c",
    "settings": {
        "env_id": "InvertedPendulum-v5", "optimizer": ["adam", "adahesscale"],
        "total_timesteps": 640, "hidden_sizes": [[8]], "compile": "off", "eval_episodes": 1,
        "log_interval": 1, "checkpoint_interval": 1,
    },
    "test_seeds": {"first": 1, "count": 2},
}  # fmt: skip


def sweeping(rng: random.Random, count: int, folder: Path) -> Iterator[Fault]:
    """Kill a sweep again and again: its results are those of an undisturbed one."""
    file = folder / "grid.yaml"
    file.write_text(yaml.safe_dump(GRID))
    begin = time.monotonic()
    undisturbed = results_of(file, folder / "undisturbed")
    took = time.monotonic() - begin
    left = count
    for number in itertools.count():
        if not left:
            return
        out, kills, process = folder / str(number), 0, None
        while process is None or process.returncode == -9:
            process = _start_sweep(file, out)
            if kills < left and _works(process):
                kills += _killed(process, rng.uniform(0, took / 2))
            else:
                process.communicate()
        lost = f"status {process.returncode}" if process.returncode else ""
        if not lost:
            lost = other_results(results_of(file, out), undisturbed)
        yield from (Fault(lost) for _ in range(kills))
        left -= kills


def _start_sweep(file: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "hesrl.cli", "sweep", str(file), f"--out={out}", "--jobs=2"]
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, **nowhere)


def _works(process: subprocess.Popen[bytes]) -> bool:
    """Wait until a sweep has started a run; return False if it has ended before.

    A kill while it imports PyTorch would cost as much time, and try little.
    """
    while process.poll() is None:
        parents = {pid: parent for pid, (parent, _) in processes().items()}
        # The server that forks the runs is a child of the sweep.
        if any(parents.get(parent) == process.pid for parent in parents.values()):
            return True
        time.sleep(0.2)
    return False


def results_of(file: Path, out: Path) -> list[Record]:
    with contextlib.redirect_stdout(io.StringIO()):
        return run_grid(load_grid(file), out, jobs=2)


def other_results(records: list[Record], undisturbed: list[Record]) -> str:
    if [r.trial for r in records] != [r.trial for r in undisturbed]:
        return "runs are missing or doubled"
    for one, other in zip(records, undisturbed, strict=True):
        results = [(r.status, r.final, r.area, r.evaluation) for r in (one, other)]
        if not np.array_equal(*(np.array(r[1:]) for r in results)) or results[0][0] != "done":
            return f"run {one.trial.id} has other results"
    return ""


def exporting(rng: random.Random, count: int, folder: Path) -> Iterator[Fault]:
    """Kill an export: a file is whole or not there, and the next export ends well."""
    run = run_small("ppo", ENVIRONMENT, cwd=folder, steps=256)
    out = folder / "export"
    command = [sys.executable, "-m", "hesrl.cli", "export", str(run), f"--out={out}"]

    def export() -> subprocess.Popen[bytes]:
        nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, **nowhere)

    begin = time.monotonic()
    export().wait()
    took = time.monotonic() - begin
    whole = {path.name: path.stat().st_size for path in out.iterdir()}
    for _ in range(count):
        shutil.rmtree(out)
        process = export()
        process_ended = not _killed(process, rng.uniform(0.5 * took, took))
        left = {p.name: p.stat().st_size for p in out.glob("[!.]*")} if out.exists() else {}
        halves = {n for n in left if n.endswith((".onnx", ".pt2")) and left[n] != whole[n]}
        status = process.returncode if process_ended else export().wait()
        again = {path.name for path in out.glob("[!.]*")}
        lost = f"half a file: {sorted(halves)}" if halves else ""
        yield Fault(lost or ("" if status == 0 and again == {*whole} else f"status {status}"))
