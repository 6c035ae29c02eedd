"""Methods beside each other: their learning curves, aggregates, and who improves on whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hesrl.experiments.reports import statistics
from hesrl.experiments.reports.learning_runs import binned
from hesrl.experiments.reports.scores import Method, Scores, step_size, trial_of
from hesrl.experiments.reports.statistics import Interval
from hesrl.experiments.sweeps.choice import Candidate

AGGREGATES: dict[str, Callable[..., Any]] = {
    "IQM": statistics.iqm,
    "mean": statistics.mean,
    "median": statistics.median,
    "optimality gap": statistics.optimality_gap,
}
"""What sums up a method over all environments; less is better of the last."""

POINTS = 100
"""Points of a learning curve."""

BASELINE = "adam"
"""The optimizer that others are compared with, where it is there."""


class Comparison(NamedTuple):
    """Methods with one choice of their settings, over the same environments."""

    title: str
    env_ids: list[str]
    """Environments in which every method has runs."""
    choices: dict[Method, dict[str, Candidate | None]]
    """The configuration of each method, by environment."""
    scores: dict[Method, NDArray[np.float64]]
    """Normalized scores (environments, seeds), of methods with a seed that all environments
    have; none without a scale."""
    seeds: dict[Method, list[int]]
    """These seeds."""
    aggregates: dict[str, dict[Method, Interval]]
    """Aggregates of the normalized scores, by their name and method."""
    improvements: dict[Method, tuple[Method, Interval]]
    """Its baseline, and the probability to improve on it, by method."""


class Learned(NamedTuple):
    """The learning curve of a configuration."""

    steps: NDArray[np.float64]
    """Environment steps (points,)."""
    seconds: NDArray[np.float64]
    """Mean time of training until then (s)."""
    returns: Interval
    """Mean return over the seeds."""


def comparisons(scores: Scores) -> list[Comparison]:
    """Return the methods with their best settings in each environment, and with one for all.

    There is one comparison where both are the same.
    """
    best: dict[Method, dict[str, Candidate | None]]
    best = {m: {e: scores.best(m, e) for e in scores.env_ids} for m in scores.methods}
    one: dict[Method, dict[str, Candidate | None]] = {}
    for method in scores.methods:
        one[method] = dict.fromkeys(scores.env_ids, scores.best_for_all(method))
    if all(len(candidates) == 1 for candidates in scores.methods.values()):
        return [_comparison(scores, "the only settings", best)]
    several = [_comparison(scores, "best settings in each environment", best)]
    if len(scores.env_ids) > 1:
        several.append(_comparison(scores, "one setting for all environments", one))
    return several


def _comparison(
    scores: Scores, title: str, choices: dict[Method, dict[str, Candidate | None]]
) -> Comparison:
    with_runs = {
        method: {e for e, c in choice.items() if c and (c, e, scores.shown) in scores.runs}
        for method, choice in choices.items()
    }
    common = [e for e in scores.env_ids if all(e in envs for envs in with_runs.values() if envs)]
    found = {m: scores.matrix(choices[m], common) for m, envs in with_runs.items() if envs}
    whole = {m: matrix for m, (matrix, seeds) in found.items() if seeds and not scores.flat}
    seeds = {method: found[method][1] for method in whole}
    aggregates = {
        name: {m: statistics.bootstrap_interval(statistic, x) for m, x in whole.items()}
        for name, statistic in AGGREGATES.items()
    }
    baselines = {method: baseline_of(method, list(whole)) for method in whole}
    improvements = {
        method: (other, improvement(whole, method, other))
        for method, other in baselines.items()
        if method != other
    }
    return Comparison(title, common, choices, whole, seeds, aggregates, improvements)


def improvement(
    scores: Mapping[Method, NDArray[np.float64]], method: Method, other: Method
) -> Interval:
    """Return the probability that a run of a method scores higher than one of another."""
    return statistics.share_interval(
        statistics.probability_of_improvement, scores[method], scores[other]
    )


def baseline_of(method: Method, methods: Sequence[Method]) -> Method:
    """Return what a method is compared with: its agent with Adam, else the agent's first."""
    same = [other for other in methods if other.agent == method.agent]
    return next((other for other in same if other.optimizer == BASELINE), same[0])


def profiles(
    comparison: Comparison,
) -> tuple[NDArray[np.float64], dict[Method, Interval]]:
    """Return thresholds, and the share of each method's runs above them."""
    highest = max([1.0, *(float(scores.max()) for scores in comparison.scores.values())])
    thresholds = np.linspace(0, highest, 61)

    def above(scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return statistics.performance_profile(scores, thresholds)

    found = {m: statistics.share_interval(above, x) for m, x in comparison.scores.items()}
    return thresholds, found


def learned(scores: Scores, candidate: Candidate | None, env_id: str) -> Learned | None:
    """Return the learning curve of a configuration; None without runs, or without episodes.

    From where a run diverged it has the lowest score in its environment.
    """
    if candidate is None or not (runs := scores.runs.get((candidate, env_id, scores.shown))):
        return None
    edges = np.linspace(0, trial_of(candidate, env_id)["total_timesteps"], POINTS + 1)[1:]
    returns, seconds = [], []
    for record in runs.values():
        curve = record.curve
        known = curve[~np.isnan(curve[:, 2])]
        values = binned(known[:, 0], known[:, 2], edges)
        ended = edges > (curve[-1, 0] if len(curve) else 0.0) * (1 + 1e-9)
        if record.status == "diverged":
            values[ended] = scores.lowest.get(("final", env_id), np.nan)
        returns.append(values)
        if not ended.any():
            seconds.append(np.interp(edges, curve[:, 0], curve[:, 1]))
    if np.isnan(returns).all():
        return None
    mean_seconds = np.mean(seconds, axis=0) if seconds else np.full_like(edges, np.nan)
    return Learned(edges, mean_seconds, statistics.mean_interval(np.array(returns)))


def sensitivity(scores: Scores, method: Method, env_id: str) -> Mapping[float, Interval]:
    """Return the mean score at each step size, of the best other settings there.

    The scores are those that settings are chosen by.
    """
    found: dict[float, Interval] = {}
    for candidate in scores.methods[method]:
        values = list(scores.by_seed(candidate, env_id, scores.chosen_by).values())
        size = step_size(candidate)
        if values and size is not None:
            interval = statistics.mean_interval(np.array(values))
            if size not in found or interval.value > found[size].value:
                found[size] = interval
    return dict(sorted(found.items()))
