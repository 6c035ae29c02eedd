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
    """

    def __init__(self, seed: int, steps: NDArray[np.int64], returns: NDArray[np.float64]) -> None:
        self.seed = seed
        self.steps = steps[SMOOTHED - 1 :]
        self.returns = np.convolve(returns, np.full(SMOOTHED, 1 / SMOOTHED), mode="valid")

    @property
    def peak(self) -> float:
        """Its largest value."""
        return float(self.returns.max())

    @property
    def peak_step(self) -> int:
        """Environment steps to its largest value."""
        return int(self.steps[self.returns.argmax()])

    @property
    def final(self) -> float:
        """Its last value."""
        return float(self.returns[-1])

    @property
    def drop(self) -> float:
        """How far the last value is below the largest."""
        return self.peak - self.final

    @property
    def deteriorates(self) -> bool:
        """Whether that is more than chance."""
        return self.drop > DETERIORATED

    @property
    def steps_to_good(self) -> int | None:
        """Environment steps until it is at least `GOOD`; None if it never is."""
        good = np.flatnonzero(self.returns >= GOOD)
        return int(self.steps[good[0]]) if good.size else None


def means(returns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of every `EPISODES` returns that follow one another; no rest is left."""
    whole = len(returns) // EPISODES
    mean: NDArray[np.float64] = returns[: whole * EPISODES].reshape(whole, EPISODES).mean(axis=1)
    return mean


def curves(rows: Iterable[Row]) -> dict[str, list[Curve]]:
    """Return the curves of all runs by optimizer, in the order of the rows."""
    runs: dict[str, dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        runs[row.optimizer][row.seed].append(row)
    return {
        optimizer: [
            Curve(
                seed,
                np.array([row.step for row in run]),
                np.array([row.mean_return for row in run]),
            )
            for seed, run in seeds.items()
        ]
        for optimizer, seeds in runs.items()
    }
