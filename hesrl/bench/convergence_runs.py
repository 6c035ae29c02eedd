"""The runs of the convergence table: training, and the search for the best step size.

A search starts with five step sizes, half a decade apart, and extends them at an edge as long as
the best lies there. The best step size is the one with which most seeds reach the threshold, then
the one with the lowest median of their steps, then the one with the lowest median final loss.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from hesrl.bench.convergence_problems import PROBLEMS
from hesrl.measuring.updates import eager_update
from hesrl.optim import get

OPTIMIZERS = {
    "torch-adam": "torch Adam",
    "adahessian": "AdaHessian",
    "adahesscale": "AdaHesScale",
    "adahesscale-unbounded": "AdaHesScale, no bound",
    "adahesscalegn": "AdaHesScaleGN",
    "scaled-adahesscale": "Scaled AdaHesScale",
}
"""Names on the command line and in the figure; the first is torch's, the others are hesrl's."""

START = range(-4, 1)
"""Indices of the first step sizes, 0.01 to 1; see `step_size_at`."""
LIMITS = range(-12, 7)
"""Indices beyond which no search goes, 1e-6 to 1e3."""


class Point(NamedTuple):
    """The loss of one run after some steps."""

    problem: str
    optimizer: str
    step_size: float
    seed: int
    step: int
    """Updates made."""
    seconds: float
    """What they took, without the looks at the loss."""
    loss: float
    """The judged loss; infinite after a step that left no finite one, which ends the run."""


Run = list[Point]
"""The points of one run in order: the last, and the first at the threshold if there is one."""


@dataclass(frozen=True)
class Trial:
    """One optimizer with one step size on one problem: a run for each seed."""

    problem: str
    optimizer: str
    step_size: float
    runs: list[Run]

    @property
    def hits(self) -> list[Point]:
        """Where the runs that reached the threshold did so."""
        threshold = PROBLEMS[self.problem].threshold
        firsts = (next((p for p in run if p.loss <= threshold), None) for run in self.runs)
        return [point for point in firsts if point is not None]

    @property
    def steps(self) -> float:
        """Median of the steps to the threshold over those that reached it; infinite if none."""
        return median([p.step for p in self.hits] or [math.inf])

    @property
    def seconds(self) -> float:
        """Median of the seconds to the threshold over those that reached it; infinite if none."""
        return median([p.seconds for p in self.hits] or [math.inf])

    @property
    def final_loss(self) -> float:
        """Median of the losses at the end."""
        return median(run[-1].loss for run in self.runs)

    def rank(self) -> tuple[float, float, float]:
        """Return what the best has least of."""
        return -len(self.hits), self.steps, self.final_loss

    def curve(self) -> list[tuple[int, float, float]]:
        """Return step, median seconds and median loss where there is a point of every run."""
        at: dict[int, list[Point]] = {}
        for run in self.runs:
            for point in run:
                at.setdefault(point.step, []).append(point)
        return [
            (step, median(p.seconds for p in points), median(p.loss for p in points))
            for step, points in sorted(at.items())
            if len(points) == len(self.runs)
        ]


def step_size_at(index: int) -> float:
    """Return 1 for 0, and 3, 10, 30, … or 0.3, 0.1, 0.03, … for the indices above and below."""
    return float(f"{(1, 3)[index % 2]}e{index // 2}")


@dataclass(frozen=True)
class Training:
    """How to train an optimizer on a problem; all that is not here is the optimizer's default."""

    problem: str
    optimizer: str
    steps: int
    """How many each run takes."""
    options: dict[str, float]
    """Options of the optimizer besides its step size."""
    mnist: Path | None
    """Path of the digits."""

    def run(self, step_size: float, seed: int) -> Run:
        """Train once and return points about evenly spaced on a log scale of steps.

        Args:
            step_size: Of the optimizer.
            seed: Decides the starting point, the noise, the batches and what is sampled.
        """
        task = PROBLEMS[self.problem]
        instance = task.instance(seed, self.mnist)
        torch.manual_seed(seed)
        make: Callable[..., torch.optim.Optimizer] = torch.optim.Adam
        if self.optimizer != "torch-adam":
            make = get(self.optimizer.removesuffix("-unbounded"))
        method = make(instance.params, lr=step_size, **self.options)
        update = eager_update(method, instance.training_loss)
        looks = range(0, self.steps + 1, task.every)
        kept = _spread_out(looks)
        run: Run = []
        seconds, reached = 0.0, False
        for step in range(self.steps + 1):
            if step > 0:
                start = time.perf_counter()
                update()
                seconds += time.perf_counter() - start
            if step not in looks:
                continue
            with torch.no_grad():
                loss = float(f"{instance.judged_loss().item():.4g}")
            finite, arrives = math.isfinite(loss), not reached and loss <= task.threshold
            if step in kept or arrives or not finite:
                name, clock = self.optimizer, round(seconds, 6)
                value = loss if finite else math.inf
                run.append(Point(self.problem, name, step_size, seed, step, clock, value))
            if not finite:
                break
            reached = reached or arrives
        return run

    def trial(self, step_size: float, seeds: Iterable[int]) -> Trial:
        """Return a run for each seed."""
        runs = [self.run(step_size, seed) for seed in seeds]
        return Trial(self.problem, self.optimizer, step_size, runs)

    def search(self, seeds: Iterable[int]) -> list[Trial]:
        """Return the trials of all step sizes that it takes to have the best inside of them."""
        trials = {index: self.trial(step_size_at(index), seeds) for index in START}
        while (index := _beyond(trials)) is not None:
            trials[index] = self.trial(step_size_at(index), seeds)
        return [trials[index] for index in sorted(trials)]


def best_of(trials: Iterable[Trial]) -> Trial:
    """Return the best trial of one optimizer on one problem."""
    return min(trials, key=Trial.rank)


def _beyond(trials: dict[int, Trial]) -> int | None:
    """Return the index beyond the edge at which the best lies, or None if it does not."""
    best = min(trials, key=lambda index: trials[index].rank())
    for edge, index in ((min(trials), best - 1), (max(trials), best + 1)):
        if best == edge and index in LIMITS:
            return index
    return None


def _spread_out(looks: range) -> set[int]:
    """Return the first and last of some steps, and between them each 1.3 times the one before."""
    kept = [looks[0]]
    for step in looks:
        if step >= max(1, 1.3 * kept[-1]):
            kept.append(step)
    return {*kept, looks[-1]}


def without_curve(run: Run) -> Run:
    """Return the points that decide: the last, and the first at the threshold if there is one."""
    hit = next((p for p in run[:-1] if p.loss <= PROBLEMS[p.problem].threshold), None)
    return [run[-1]] if hit is None else [hit, run[-1]]


def to_trials(points: Iterable[Point]) -> list[Trial]:
    """Return the trials that some points are of, in the points' order."""
    runs: dict[tuple[str, str, float], dict[int, Run]] = {}
    for point in points:
        of_trial = runs.setdefault((point.problem, point.optimizer, point.step_size), {})
        of_trial.setdefault(point.seed, []).append(point)
    return [Trial(*names, list(of_seed.values())) for names, of_seed in runs.items()]
