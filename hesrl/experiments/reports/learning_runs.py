"""What runs have learned, from run directories and from the stores of sweeps alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hesrl.errors import UserError
from hesrl.experiments.sweeps import store
from hesrl.experiments.sweeps.store import Record, Store
from hesrl.runs.directory import RunDirectory
from hesrl.runs.metrics import read_metric

RETURN = "charts/episodic_return"
"""The metric of a store's curves."""


class LearningRun(NamedTuple):
    """One metric of one run."""

    name: str
    """What an error calls the run."""
    agent: str
    """Name of the agent, such as ``ppo``."""
    settings: Mapping[str, Any]
    """All settings of the run."""
    end: int
    """Environment steps that the run has done."""
    steps: NDArray[np.float64]
    """Environment steps of the values (n,)."""
    values: NDArray[np.float64]
    """The metric (n,)."""


def find_runs(paths: Iterable[Path], key: str) -> list[LearningRun]:
    """Return the runs that are, or lie in, these folders.

    Args:
        paths: Run directories, folders of sweeps, or folders with any of them.
        key: Name of the metric. The returns of a sweep are in its store; its other metrics are in
            its run directories.

    Raises:
        UserError: A folder has no runs, or a run has no such metric.
    """
    found: dict[Path, list[LearningRun]] = {}
    for path in paths:
        stores = [file.parent for file in path.rglob(store.FILE)] if key == RETURN else []
        found |= {folder.resolve(): _of_store(folder) for folder in sorted(stores)}
        folders = sorted(file.parent for file in path.rglob("config.yaml"))
        folders = [f for f in folders if not any(other in f.parents for other in stores)]
        found |= {folder.resolve(): [_of_directory(folder, key)] for folder in folders}
        if not folders and not stores:
            raise UserError(f"no runs in {path}: give folders that training runs or sweeps made")
    if not found:
        raise UserError("no runs: give folders that training runs made, such as runs/")
    return [run for several in found.values() for run in several]


def _of_directory(folder: Path, key: str) -> LearningRun:
    run = RunDirectory.open(folder, read_only=True)
    steps, values = read_metric(run, key)
    if not steps.size:
        raise UserError(f"{run.path} has no metric {key}: see its {run.metrics_csv.name}")
    end = int(run.settings["total_timesteps"] if run.summary.exists() else steps[-1])
    return LearningRun(f"{run.path}", run.agent, run.settings, end, steps.astype(float), values)


def _of_store(folder: Path) -> list[LearningRun]:
    with Store.open(folder, read_only=True) as results:
        runs = [_of_record(record) for record in results.records() if len(record.curve)]
    if not runs:
        raise UserError(f"no run of {folder} has finished: wait, or see hesrl sweep")
    return runs


def _of_record(record: Record) -> LearningRun:
    trial, curve = record.trial, record.curve
    settings = vars(trial.args())
    end = settings["total_timesteps"] if record.status == "done" else curve[-1, 0]
    known = ~np.isnan(curve[:, 2])
    steps, values = curve[known][:, 0], curve[known][:, 2]
    return LearningRun(trial.label, trial.agent, settings, int(end), steps, values)


def binned(
    steps: NDArray[np.float64], values: NDArray[np.float64], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the means of a metric between edges.

    An interval without values has the mean of the one before; those before the first value have
    NaN.

    Args:
        steps: Environment steps of the values (n,).
        values: The metric (n,).
        edges: Ends of the intervals (m,); the first begins at zero.
    """
    bins = np.searchsorted(edges + 1e-3, steps)  # an edge is the end of its own interval
    inside = bins < len(edges)
    bins, values = bins[inside], values[inside]
    counts = np.bincount(bins, minlength=len(edges))
    with np.errstate(invalid="ignore"):
        means = np.bincount(bins, weights=values, minlength=len(edges)) / counts
    filled = np.maximum.accumulate(np.where(counts > 0, np.arange(len(edges)), 0))
    means_or_nan: NDArray[np.float64] = means[filled]
    return means_or_nan
