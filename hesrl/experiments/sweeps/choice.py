"""Which settings of a grid the tuning seeds choose: per task, and one for all environments.

A task is an agent with an optimizer in an environment. The best settings of a task have the
largest mean score over the tuning seeds. The best settings for all environments have the largest
mean of normalized scores: in each environment the lowest mean of the grid is 0 and the highest 1.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from hesrl.experiments.sweeps.run_results import last_value
from hesrl.experiments.sweeps.store import Record
from hesrl.experiments.sweeps.trial import Settings, Trial


class Candidate(NamedTuple):
    """An agent with settings, to be run with several seeds."""

    agent: str
    settings: Settings

    def in_env(self, env_id: str) -> Candidate:
        """Return the same settings in another environment."""
        return Candidate(
            self.agent, tuple(sorted({**dict(self.settings), "env_id": env_id}.items()))
        )


def chosen(
    candidates: Sequence[Candidate], seeds: Sequence[int], finished: Iterable[Record]
) -> list[Candidate]:
    """Return the candidates that the tuning seeds choose, in the order of the candidates.

    Nothing is chosen for a task until all of its tuning runs have finished, and no settings for
    all environments until all runs of agent and optimizer have.

    Args:
        candidates: Among which to choose.
        seeds: The tuning seeds.
        finished: Records of runs that are done or have diverged.
    """
    means = mean_scores(candidates, seeds, finished)
    tasks: dict[tuple[str, str], dict[str, list[Candidate]]]
    tasks = defaultdict(lambda: defaultdict(list))
    for candidate in candidates:
        trial = Trial(*candidate, seed=0)
        tasks[candidate.agent, trial.get("optimizer")][trial["env_id"]].append(candidate)
    best = set()
    for envs in tasks.values():
        for several in envs.values():
            if all(c in means for c in several):
                best.add(max(several, key=means.__getitem__))
        if len(envs) > 1 and all(c in means for several in envs.values() for c in several):
            one = best_for_all([{c.in_env(""): means[c] for c in cs} for cs in envs.values()])
            best |= {c for several in envs.values() for c in several if c.in_env("") == one}
    return [candidate for candidate in candidates if candidate in best]


def mean_scores(
    candidates: Iterable[Candidate], seeds: Sequence[int], finished: Iterable[Record]
) -> dict[Candidate, float]:
    """Return the mean score of each candidate of which all tuning runs have finished."""
    scores = {r.trial.id: (r.trial["env_id"], score_of(r)) for r in finished}
    lowest: dict[str, float] = {}
    for env_id, score in scores.values():
        if not math.isnan(score):
            lowest[env_id] = min(score, lowest.get(env_id, score))
    means = {}
    for candidate in candidates:
        ids = [Trial(*candidate, seed).id for seed in seeds]
        if all(i in scores for i in ids):
            found = [scores[i] for i in ids]
            means[candidate] = fmean(
                lowest.get(env_id, 0.0) if math.isnan(score) else score for env_id, score in found
            )
    return means


def score_of(record: Record) -> float:
    """Return the score that settings are chosen by.

    It is the final score; NaN for a run that diverged, which counts as the lowest in its
    environment. Earlier stores have no final score where no episode ended in the last tenth.
    """
    if not math.isnan(record.final) or record.status == "diverged":
        return record.final
    return last_value(record.curve)


def best_for_all(envs: Sequence[Mapping[Candidate, float]]) -> Candidate | None:
    """Return which settings are best over environments, of those that are there in every one.

    In each environment the lowest mean is 0 and the highest 1.

    Args:
        envs: Mean scores in each environment, by the settings without it.
    """
    normalized: dict[Candidate, list[float]] = defaultdict(list)
    for means in envs:
        low, high = min(means.values()), max(means.values())
        for candidate, mean in means.items():
            normalized[candidate].append((mean - low) / (high - low) if high > low else 1.0)
    common = {c: fmean(shares) for c, shares in normalized.items() if len(shares) == len(envs)}
    return max(common, key=common.__getitem__, default=None)
