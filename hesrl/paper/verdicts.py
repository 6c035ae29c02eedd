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


def in_words(interval: Interval, form: str = "+,.0f") -> str:
    """Return ``value (low to high)``; the value alone where there is no interval."""
    value, low, high = (float(x) for x in interval)
    return f"{value:{form}}" if np.isnan(low) else f"{value:{form}} ({low:{form}} to {high:{form}})"


def verdict(interval: Interval, *, above: float = 0.0) -> bool | None:
    """Return whether an interval is above or below a bound; None if the bound lies in it."""
    if interval.low > above:
        return True
    return False if interval.high < above else None


def all_of(verdicts: Iterable[bool | None]) -> bool | None:
    """Return whether all hold; False if one does not, None if one is open."""
    found = list(verdicts)
    return False if False in found else None if None in found else True
