r"""Statistics over seeds and tasks, with 95 % intervals, after Agarwal et al. (2021).

"Deep Reinforcement Learning at the Edge of the Statistical Precipice", arXiv 2108.13264. Scores
x_mi of task m ≤ M and seed i ≤ N are arrays of shape (…, M, N); axes before these are kept.

The intervals come from a stratified bootstrap: θ* is the statistic of scores that were drawn again
with replacement, within each task. Percentiles of θ*, as the paper takes them, cover too little at
few seeds (``coverage.csv`` in ``tests/experiments/reports``): 81 % of the means of one task with 5
seeds, 89 % of four. Student's interval is closer to 95 % than basic, expanded and scaled percentile
are, with 93 to 97 % for means and IQM of normal scores, and it is used here:

    θ ± t₀.₉₇₅(ν) √(N/(N − 1)) sd(θ*),    ν = (Σ_m v_m)² / Σ_m v_m²/(N − 1)

where v_m is the variance of θ* when task m alone is drawn again (Welch and Satterthwaite). For the
mean of one task it is the t interval of its seeds. A share p in [0, 1] has Wilson's interval with
p(1 − p)/var(θ*) runs, but with no more than there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from hesrl.measuring.tables import UPPER_END, mean_and_margin

Array = NDArray[np.float64]
Statistic = Callable[..., Array]
RESAMPLES = 2000
PARTS = 200  # resamples of one task alone, for the degrees of freedom


class Interval(NamedTuple):
    """A statistic with its 95 % interval, of which the ends are NaN where a task has one seed."""

    value: Any
    low: Any
    high: Any

    def is_above(self, bound: float = 0.0) -> bool | None:
        """Return whether the interval is above or below a bound; None if the bound lies in it."""
        if self.low > bound:
            return True
        return False if self.high < bound else None

    def text(self, form: str = "") -> str:
        """Return ``value (low to high)``; the value alone where there is no interval.

        Args:
            form: Format of the numbers; without one, `number` writes them.
        """
        if np.isnan(self.value):
            return "no score"
        value, low, high = (f"{float(x):{form}}" if form else number(float(x)) for x in self)
        return value if np.isnan(self.low) else f"{value} ({low} to {high})"


def number(value: float) -> str:
    """Return a number as people read it: 4,210 or 0.0312."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def mean(scores: Array) -> Array:
    """1/(MN) Σ_m Σ_i x_mi."""
    return np.mean(scores, axis=(-2, -1))


def median(scores: Array) -> Array:
    """Median over the tasks of their means, 1/N Σ_i x_mi."""
    return np.median(np.mean(scores, axis=-1), axis=-1)


def iqm(scores: Array) -> Array:
    """Interquartile mean: of all MN scores, without the ⌊MN/4⌋ lowest and the ⌊MN/4⌋ highest."""
    runs = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = runs.shape[-1] // 4
    return np.mean(runs[..., cut : runs.shape[-1] - cut], axis=-1)


def optimality_gap(scores: Array) -> Array:
    """γ − 1/(MN) Σ_m Σ_i min(x_mi, γ) with γ = 1: what is missing to the score 1."""
    return 1 - np.mean(np.minimum(scores, 1), axis=(-2, -1))


def probability_of_improvement(x: Array, y: Array) -> Array:
    """P(X > Y) = 1/M Σ_m 1/(NK) Σ_i Σ_j S(x_mi, y_mj), S = 1 if x > y, ½ if equal, 0 if less.

    Each task's term is the U of Mann and Whitney over NK.
    """
    difference = x[..., :, None] - y[..., None, :]
    return np.mean(np.heaviside(difference, 0.5), axis=(-3, -2, -1))


def performance_profile(scores: Array, thresholds: ArrayLike) -> Array:
    """F(τ) = 1/(MN) Σ_m Σ_i [x_mi > τ]: the share of runs above each threshold (…, T)."""
    above = scores[..., None] > np.asarray(thresholds)
    return np.mean(above, axis=(-3, -2))


def mean_interval(values: Array) -> Interval:
    """Mean over the first axis, the seeds of one task, and their t interval s/√N · t₀.₉₇₅(N − 1).

    The bootstrap's interval becomes this one for many resamples.
    """
    centre, margin = mean_and_margin(values)
    return Interval(centre, centre - margin, centre + margin)


def bootstrap_interval(statistic: Statistic, *scores: Array) -> Interval:
    """Return a statistic and Student's interval of its stratified bootstrap.

    Args:
        statistic: Takes the arrays, with further axes before; may have several values.
        scores: Arrays (M, N) of the groups that the statistic compares; N may differ.
    """
    value = statistic(*scores)
    variance, freedom = _variance(statistic, scores)
    margin = stdtrit(freedom, UPPER_END) * np.sqrt(variance)
    return Interval(value, value - margin, value + margin)


def share_interval(statistic: Statistic, *scores: Array) -> Interval:
    """Return a statistic that is a share of runs, or of pairs of runs, and Wilson's interval.

    (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n), where the runs n are p(1 − p)/var(θ*), but
    no more than there are runs: else no interval has a width where all runs are alike.

    The arguments are those of `bootstrap_interval`.
    """
    share = statistic(*scores)
    variance, _ = _variance(statistic, scores)
    runs = len(scores) * min(group.size for group in scores)
    with np.errstate(divide="ignore", invalid="ignore"):
        n = np.fmin(share * (1 - share) / variance, runs)
    n = np.where(np.isnan(variance), np.nan, n)
    z2 = ndtri(UPPER_END) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    margin = np.sqrt(z2 * share * (1 - share) / n + (z2 / (2 * n)) ** 2) / (1 + z2 / n)
    return Interval(share, centre - margin, centre + margin)


def _variance(statistic: Statistic, groups: Sequence[Array]) -> tuple[Array, Array]:
    """Return the variance of a statistic over seeds, and its degrees of freedom."""
    rng = np.random.default_rng(0)
    samples = [_resampled(group, RESAMPLES, rng) for group in groups]
    total = np.var(statistic(*samples), axis=0)
    parts, seeds = [], []
    for number, group in enumerate(groups):
        for task in range(len(group)):
            fixed = [np.broadcast_to(other, (PARTS, *other.shape)) for other in groups]
            fixed[number] = fixed[number].copy()
            fixed[number][:, task] = _resampled(group[task : task + 1], PARTS, rng)[:, 0]
            parts.append(np.var(statistic(*fixed), axis=0))
            seeds.append(group.shape[1])
    v, n = np.array(parts), np.array(seeds).reshape(-1, *[1] * np.ndim(total))
    if n.min() < 2:
        return np.full_like(total, np.nan), np.full_like(total, np.nan)
    v = np.where(v.sum(0) > 0, v, 1.0)
    freedom = v.sum(0) ** 2 / (v**2 / (n - 1)).sum(0)
    return total * (v * n / (n - 1)).sum(0) / v.sum(0), freedom


def _resampled(group: Array, count: int, rng: np.random.Generator) -> Array:
    """Draw scores (count, M, N) again from (M, N), with replacement, within each task."""
    index = rng.integers(group.shape[1], size=(count, *group.shape))
    return np.take_along_axis(group[None], index, axis=-1)
