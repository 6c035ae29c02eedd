"""How often 95 % intervals hold the truth, on synthetic scores whose truth is known.

``python -m tests.experiments.reports.coverage`` measures and writes ``coverage.csv`` beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hesrl.experiments.reports import statistics
from hesrl.measuring.tables import write_csv

TASKS, SEEDS = (1, 4, 8), (5, 10)
REPEATS = 2000


class Coverage(NamedTuple):
    statistic: str
    scores: str
    tasks: int
    seeds: int
    repeats: int
    percentile: float
    """Coverage of the percentiles of the resamples (%), for comparison."""
    ours: float
    """Coverage of the interval of `hesrl.experiments.reports.statistics` (%)."""


def normal(rng, shape):
    """Seeds of a task are normal; means and spreads differ between the tasks."""
    tasks = shape[0]
    centre, spread = (np.linspace(*ends, tasks)[:, None] for ends in ((0.2, 0.8), (0.1, 0.2)))
    return centre + spread * rng.standard_normal(shape)


def skewed(rng, shape):
    """As `normal`, but gamma with shape 4: skewness 1."""
    tasks = shape[0]
    centre, spread = (np.linspace(*ends, tasks)[:, None] for ends in ((0.2, 0.8), (0.1, 0.2)))
    return centre + spread * (rng.gamma(4, size=shape) - 4) / 2


def failing(rng, shape):
    """As `normal`, but one run of five learns nothing: four deviations below."""
    tasks = shape[0]
    spread = np.linspace(0.1, 0.2, tasks)[:, None]
    return normal(rng, shape) - 4 * spread * (rng.random(shape) < 0.2)


def profile(scores):
    return statistics.performance_profile(scores, [0.5])[..., 0]


STATISTICS: dict[str, Callable] = {
    "mean": statistics.mean,
    "iqm": statistics.iqm,
    "optimality gap": statistics.optimality_gap,
    "share above 0.5": profile,
    "probability of improvement": statistics.probability_of_improvement,
}


def coverage(name, draw, tasks, seeds, repeats, shift=0.1):
    """Return the coverage of percentiles and of our interval (%)."""
    rng = np.random.default_rng([tasks, seeds])
    groups = 2 if name == "probability of improvement" else 1
    statistic = STATISTICS[name]

    def drawn(runs):
        return [draw(rng, (tasks, runs)) + shift * number for number in range(groups)]

    truth = np.mean([statistic(*drawn(1000)) for _ in range(50)])
    interval = statistics.share_interval if name[0] in "sp" else statistics.bootstrap_interval
    hits = np.zeros(2)
    for _ in range(repeats):
        scores = drawn(seeds)
        samples = [
            np.take_along_axis(group[None], rng.integers(seeds, size=(1000, *group.shape)), -1)
            for group in scores
        ]
        low, high = np.quantile(statistic(*samples), [0.025, 0.975])
        _, our_low, our_high = interval(statistic, *scores)
        hits += (low <= truth <= high), (our_low <= truth <= our_high)
    return 100 * hits / repeats


def main(repeats=REPEATS):
    rows = []
    for name in STATISTICS:
        for draw in (normal, skewed, failing):
            for tasks in TASKS:
                for seeds in SEEDS:
                    found = coverage(name, draw, tasks, seeds, repeats)
                    rows.append(Coverage(name, draw.__name__, tasks, seeds, repeats, *found))
                    print(*rows[-1], flush=True)
    write_csv(Path(__file__).with_suffix(".csv"), Coverage._fields, rows)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
