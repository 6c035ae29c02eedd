"""The learning curves that Figure 7 is about: rows of its data and what to find in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

EPISODES = 20
"""Episodes whose mean return is a row of the data."""
SMOOTHED = 5
"""Rows whose mean is a point of a smoothed curve: 100 episodes."""
GOOD = 200
"""Return of a policy that has learned the task."""
DETERIORATED = 50.0
"""A run that ends this far below its peak has deteriorated.

Returns of a trained policy deviate by about 107, the mean of 100 by 11. The peak, the largest of
many such means, lies some 25 above the true mean.
"""


class Row(NamedTuple):
    """The mean of a few episodes of one run."""

    optimizer: str
    seed: int
    step: int
    """Environment steps at the end of the last episode."""
    mean_return: float
    """Mean return of `EPISODES` training episodes."""


class Curve:
    """The smoothed learning curve of one run.

    Args:
        seed: Seed of the run.
        steps: Environment steps (n,), n ≥ `SMOOTHED`.
        returns: Mean returns (n,).

    Attributes:
        seed: Seed of the run.
        steps: Environment steps (n − `SMOOTHED` + 1,).
        returns: Means of the last `SMOOTHED` returns, likewise.
        peak: The largest of them.
        peak_step: Environment steps to it.
        final: The last of them.
        drop: How far the last one is below the largest.
        deteriorates: Whether that is more than chance.
        steps_to_good: Environment steps until one is at least `GOOD`; None if none ever is.
    """

    def __init__(self, seed: int, steps: NDArray[np.int64], returns: NDArray[np.float64]) -> None:
        self.seed = seed
        self.steps = steps[SMOOTHED - 1 :]
        self.returns = np.convolve(returns, np.full(SMOOTHED, 1 / SMOOTHED), mode="valid")
        best, good = self.returns.argmax(), np.flatnonzero(self.returns >= GOOD)
        self.peak, self.peak_step = float(self.returns[best]), int(self.steps[best])
        self.final = float(self.returns[-1])
        self.drop = self.peak - self.final
        self.deteriorates = self.drop > DETERIORATED
        self.steps_to_good = int(self.steps[good[0]]) if good.size else None


def means(returns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of every `EPISODES` returns that follow one another; no rest is left."""
    whole = len(returns) // EPISODES
    mean: NDArray[np.float64] = returns[: whole * EPISODES].reshape(whole, EPISODES).mean(axis=1)
    return mean


def curves(rows: Iterable[Row]) -> dict[str, list[Curve]]:
    """Return the curves of all runs by optimizer, in the order of the rows."""
    runs: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in rows:
        runs[row.optimizer, row.seed].append(row)
    found: dict[str, list[Curve]] = defaultdict(list)
    for (optimizer, seed), run in runs.items():
        steps, returns = (np.array(column) for column in list(zip(*run, strict=True))[2:])
        found[optimizer].append(Curve(seed, steps, returns))
    return found
