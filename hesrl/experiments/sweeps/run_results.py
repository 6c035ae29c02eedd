"""What a training run has come to: scores and learning curve, from its run directory."""

from __future__ import annotations

import json
import math
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

import hesrl
from hesrl.errors import UserError
from hesrl.experiments.sweeps.store import Record
from hesrl.experiments.sweeps.trial import Trial
from hesrl.runs.directory import RunDirectory
from hesrl.runs.metrics import read_metric

LAST_PART = 0.1
"""Part of the run at its end whose training episodes make the final score."""
POINTS = 100
"""Points of a whole curve."""


def record_of(trial: Trial, run: RunDirectory, status: str, line: str = "") -> Record:
    """Return the record of a run.

    Args:
        trial: What was run.
        run: Its directory; with a summary if it is done.
        status: ``done`` or ``diverged``, which has a curve but no scores.
        line: What ended a run that has diverged.

    Raises:
        UserError: A file of the run is damaged.
    """
    total = trial["total_timesteps"]
    steps, returns = read_metric(run, "charts/episodic_return")
    log_steps, log_seconds = read_metric(run, "charts/seconds")
    curve = _curve(total, steps, returns, log_steps, log_seconds)
    seconds = float(log_seconds[-1]) if len(log_seconds) else math.nan
    record = Record(trial, status, line, seconds=seconds, version=hesrl.__version__, curve=curve)
    if status == "diverged":
        reached = max([0, *steps[-1:], *log_steps[-1:]])
        return record._replace(curve=curve[curve[:, 0] <= reached])
    last = returns[steps > (1 - LAST_PART) * total]
    return record._replace(
        final=float(last.mean()) if len(last) else last_value(curve),
        area=_area(curve[:, 2]),
        evaluation=_evaluation(run),
    )


def last_value(curve: NDArray[np.float64]) -> float:
    """Return the mean return of the last episodes that ended, by a curve; NaN if none did.

    Environments with episodes of one length end them together, the last ones perhaps before the
    last part of the run.
    """
    known = curve[~np.isnan(curve[:, 2]), 2]
    return float(known[-1]) if len(known) else math.nan


def _evaluation(run: RunDirectory) -> float:
    try:
        return fmean(json.loads(run.summary.read_text())["evaluation_returns"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"cannot read {run.summary}: delete it, to evaluate again") from error


def _curve(
    total: int,
    steps: NDArray[np.int64],
    returns: NDArray[np.float64],
    log_steps: NDArray[np.int64],
    log_seconds: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return step, seconds and mean return at 1 %, 2 %, …, 100 % of the run (100, 3)."""
    edges = total * np.arange(1, POINTS + 1) / POINTS
    bins = np.searchsorted(edges, steps)
    counts = np.bincount(bins, minlength=POINTS)[:POINTS]
    sums = np.bincount(bins, weights=returns, minlength=POINTS)[:POINTS]
    means = np.full(POINTS, math.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    seconds = np.full(POINTS, math.nan)
    if len(log_steps):
        seconds = np.interp(edges, [0, *log_steps], [0.0, *log_seconds])
    return np.column_stack((edges, seconds, means))


def _area(means: NDArray[np.float64]) -> float:
    """Return the mean over the run of a curve that keeps its value until the next one."""
    return float(filled(means).mean())


def filled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values (n,) of which each NaN is the one before, at the beginning the first one."""
    known = np.flatnonzero(~np.isnan(values))
    if not known.size:
        return values
    before = np.searchsorted(known, np.arange(len(values)), side="right") - 1
    kept: NDArray[np.float64] = values[known[np.maximum(before, 0)]]
    return kept
