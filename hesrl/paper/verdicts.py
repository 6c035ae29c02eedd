"""What an interval says about a claim: it holds, it does not, or the numbers leave it open."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from hesrl.experiments.reports.statistics import Interval, bootstrap_interval

Array = NDArray[np.float64]


def difference(x: Array, y: Array) -> Interval:
    """Return the difference of the means of two groups of seeds (N,), (K,), with its interval."""
    return bootstrap_interval(
        lambda a, b: np.mean(a, axis=(-2, -1)) - np.mean(b, axis=(-2, -1)), x[None], y[None]
    )


def all_of(verdicts: Iterable[bool | None]) -> bool | None:
    """Return whether all hold; False if one does not, None if one is open."""
    found = list(verdicts)
    return False if False in found else None if None in found else True
