"""The runs of a figure on learning, by agent, environment, optimizer and step size.

A run that has diverged counts as the lowest score of its environment.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hesrl.experiments.sweeps.choice import Candidate, mean_scores, score_of
from hesrl.experiments.sweeps.run_results import filled
from hesrl.experiments.sweeps.store import Record

Array = NDArray[np.float64]


class Task(NamedTuple):
    """What optimizers are compared on."""

    agent: str
    env_id: str

    @property
    def label(self) -> str:
        """Agent and environment for people: ``A2C, Ant``."""
        return f"{self.agent.upper()}, {self.env_id.rpartition('-v')[0]}"


class Row(NamedTuple):
    """A run in the table of a figure."""

    agent: str
    env_id: str
    optimizer: str
    learning_rate: float
    seed: int
    role: str
    """``tuning`` or ``test``."""
    status: str
    """``done``, ``diverged`` or ``failed``."""
    final: float
    """Mean return of the training episodes in the last tenth."""
    area: float
    """Mean return over the whole run."""
    seconds: float
    """Time of training (s)."""


class Chosen(NamedTuple):
    """Runs at the step size that was chosen."""

    learning_rate: float
    final: Array
    """Scores of the seeds (N,)."""
    curves: Array
    """Returns over the run (N, 100)."""
    diverged: int
    """How many of the runs diverged."""


class Results:
    """The finished runs of a grid.

    Args:
        records: What the sweep has left.

    Attributes:
        tasks: Agents with environments, in the order of the records.
        optimizers: The optimizers, in the same order.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = [r for r in records if r.status in ("done", "diverged")]
        self._cells: dict[tuple[Task, str], dict[float, list[Record]]]
        self._cells = defaultdict(lambda: defaultdict(list))
        for record in self._records:
            trial = record.trial
            task = Task(trial.agent, trial["env_id"])
            self._cells[task, trial["optimizer"]][trial["learning_rate"]].append(record)
        self.tasks = list(dict.fromkeys(task for task, _ in self._cells))
        self.optimizers = list(dict.fromkeys(optimizer for _, optimizer in self._cells))
        self._lowest = {task: self._lowest_scores(task) for task in self.tasks}

    def _lowest_scores(self, task: Task) -> tuple[float, float]:
        """Return the lowest final score and the lowest area of an environment."""
        found = [r for r in self._records if r.trial["env_id"] == task.env_id]
        scores = np.array([(score_of(r), r.area) for r in found])
        known = np.where(np.isnan(scores), np.inf, scores).min(0)
        final, area = (float(x) if math.isfinite(x) else 0.0 for x in known)
        return final, area

    def rows(self) -> list[Row]:
        """Return all runs in order, for a table."""
        rows = [
            Row(
                r.trial.agent, r.trial["env_id"], r.trial["optimizer"], r.trial["learning_rate"],
                r.trial.seed, r.trial.role, r.status, round(r.final, 2), round(r.area, 2),
                round(r.seconds, 1),
            )
            for r in self._records
        ]  # fmt: skip
        return sorted(rows, key=lambda row: row[:6])

    def steps(self, task: Task) -> int:
        """Return the length of the runs of a task (environment steps)."""
        found = [r for r in self._records if (r.trial.agent, r.trial["env_id"]) == task]
        return max(int(r.trial["total_timesteps"]) for r in found)

    def step_sizes(self, task: Task, optimizer: str) -> list[float]:
        """Return the step sizes that have run with tuning seeds, in ascending order."""
        cells = self._cells[task, optimizer].items()
        return sorted(rate for rate, records in cells if _of_role(records, "tuning"))

    def areas(self, task: Task, optimizer: str) -> Array:
        """Return the mean return over the run for step sizes and tuning seeds (L, N).

        Seeds that some step size lacks are left out, so that a sweep may still be running.
        """
        cells = self._cells[task, optimizer]
        rates = self.step_sizes(task, optimizer)
        by_seed = [{r.trial.seed: r for r in _of_role(cells[rate], "tuning")} for rate in rates]
        common = sorted(set.intersection(*map(set, by_seed))) if by_seed else []
        areas = np.array([[row[seed].area for seed in common] for row in by_seed])
        return np.where(np.isnan(areas), self._lowest[task][1], areas)

    def by_reported_seeds(self, task: Task, optimizer: str) -> Chosen | None:
        """Return the runs that the authors' way reports: those of the seeds that chose.

        The step size has the largest mean return over the whole run, among those of which no seed
        has diverged; None if there is no such step size.
        """
        cells = self._cells[task, optimizer]
        means = {}
        for rate in self.step_sizes(task, optimizer):
            runs = _of_role(cells[rate], "tuning")
            if all(r.status == "done" for r in runs):
                means[rate] = float(
                    np.mean([-math.inf if math.isnan(r.area) else r.area for r in runs])
                )
        if not means:
            return None
        best = max(means, key=means.__getitem__)
        return self._chosen(task, best, _of_role(cells[best], "tuning"))

    def by_fresh_seeds(self, task: Task, optimizer: str) -> Chosen | None:
        """Return the runs of seeds that nothing was chosen by; None if there are none yet.

        The step size has the largest mean of the last tenth over the tuning seeds, as in `hesrl
        sweep`.
        """
        cells = self._cells[task, optimizer]
        tuning = [r for runs in cells.values() for r in _of_role(runs, "tuning")]
        seeds = sorted({r.trial.seed for r in tuning})
        candidates = [Candidate(r.trial.agent, r.trial.settings) for r in tuning]
        means = mean_scores(dict.fromkeys(candidates), seeds, self._records)
        if not means:
            return None
        rate = dict(max(means, key=means.__getitem__).settings)["learning_rate"]
        runs = _of_role(cells[rate], "test")
        return self._chosen(task, rate, runs) if runs else None

    def _chosen(self, task: Task, rate: float, runs: Sequence[Record]) -> Chosen:
        lowest, _ = self._lowest[task]
        final = np.array([score_of(r) for r in runs])
        return Chosen(
            rate,
            np.where(np.isnan(final), lowest, final),
            np.array([_whole_curve(r, lowest) for r in runs]),
            sum(r.status == "diverged" for r in runs),
        )


def _of_role(records: Iterable[Record], role: str) -> list[Record]:
    return [record for record in records if record.trial.role == role]


def _whole_curve(record: Record, lowest: float) -> Array:
    """Return the returns at 1 %, …, 100 % of a run; each keeps its value until the next one.

    What a run that has diverged lacks is its environment's lowest score.
    """
    returns = np.full(100, math.nan)
    returns[: len(record.curve)] = record.curve[:, 2]
    returns = filled(returns)
    if record.status == "diverged":
        returns[len(record.curve) :] = lowest
    return np.where(np.isnan(returns), lowest, returns)
