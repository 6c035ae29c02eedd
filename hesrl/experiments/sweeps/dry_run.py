"""How long a grid would take: its runs are counted, and their speeds are measured."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from rich.console import Console

from hesrl.errors import UserError
from hesrl.experiments.sweeps.executors import LocalProcesses
from hesrl.experiments.sweeps.grid import Grid
from hesrl.experiments.sweeps.store import FILE, Store
from hesrl.experiments.sweeps.sweep_display import say
from hesrl.experiments.sweeps.trial import Trial
from hesrl.runs.directory import RunDirectory
from hesrl.runs.metrics import read_metric
from hesrl.runs.progress import format_duration

PROBE_STEPS = 3000
"""Environment steps that the speed of a run is measured over."""
TICK_SECONDS = 0.2

Kind = tuple[str, str, str]
"""Agent, environment and optimizer."""


def estimate(grid: Grid, folder: Path, jobs: int | None, console: Console) -> None:
    """Print how many runs there are, how many are done, and how long the others would take.

    One run of each agent, environment and optimizer begins in a folder that is removed, with the
    settings that it would have in the sweep, and is stopped after some steps.

    Args:
        grid: The grid.
        folder: Folder of the sweep.
        jobs: Runs at the same time; None: all cores.
        console: Where to print.

    Raises:
        UserError: A run fails, or the store cannot be read.
    """
    records = []
    if (folder / FILE).exists():
        with Store.open(folder, read_only=True) as store:
            records = store.records()
    status = {record.trial.id: record.status for record in records}
    trials = grid.trials(records)
    todo = [t for t in trials if status.get(t.id, "pending") in ("pending", "running")]
    later = grid.waiting(trials)
    failed = sum(status.get(t.id) == "failed" for t in trials)
    counts = f"{len(trials)} runs: {len(trials) - len(todo) - failed} done, {len(todo)} to do"
    counts += f", {failed} failed" if failed else ""
    counts += f"; at least {len(later)} more once settings are chosen" if later else ""
    say(console, counts)
    speeds: dict[Kind, float] = {}
    pool = LocalProcesses(jobs)
    probes = iter({_kind(t): t for t in reversed([*todo, *later])}.values())
    while batch := list(islice(probes, pool.slots())):
        for trial, speed in _measure(batch, pool):
            speeds[_kind(trial)] = speed
            say(console, f"{' '.join(_kind(trial))}: {speed:,.0f} steps/s")
    seconds = sum(t["total_timesteps"] / speeds[_kind(t)] for t in [*todo, *later])
    left = format_duration(seconds / pool.slots())
    say(
        console, f"about {left} for {pool.slots()} run(s) at a time, without starts and evaluations"
    )


def _kind(trial: Trial) -> Kind:
    return trial.agent, trial["env_id"], trial["optimizer"]


def _measure(trials: Sequence[Trial], pool: LocalProcesses) -> Iterator[tuple[Trial, float]]:
    """Run trials side by side until each has made some steps; yield their steps per second."""
    with tempfile.TemporaryDirectory(prefix="hesrl-probe-") as scratch:
        folders = {trial: Path(scratch, trial.id) for trial in trials}
        ended = set()
        try:
            for trial, folder in folders.items():
                folder.mkdir()
                pool.submit(trial, folder, retry=False)
            while any(_speed(folders[t]) is None for t in trials if t not in ended):
                for record in pool.wait(TICK_SECONDS):
                    if record.status == "failed":
                        raise UserError(f"{record.trial.label}: {record.line}")
                    ended.add(record.trial)
            pool.stop()
            while len(ended) < len(trials):
                ended |= {record.trial for record in pool.wait(TICK_SECONDS)}
        finally:
            pool.close()
        for trial, folder in folders.items():
            yield trial, _speed(folder, least=0) or float("nan")


def _speed(folder: Path, least: int = PROBE_STEPS) -> float | None:
    """Return the steps per second of a run behind its first row; None before ``least`` steps."""
    for path in folder.glob("*/metrics.csv"):
        run = RunDirectory(path.parent, "", {}, lock=None)
        steps, seconds = read_metric(run, "charts/seconds")
        if len(steps) > 1 and steps[-1] - steps[0] >= least:
            return float((steps[-1] - steps[0]) / (seconds[-1] - seconds[0]))
        if len(steps) and not least:
            return float(steps[-1] / seconds[-1])
    return None
