"""The scores of a sweep's runs: what is compared, which settings were chosen, and on which seeds.

A *method* is an agent with what is compared, the optimizer unless something else is named. A
*configuration* is a method with all other settings but environment and seed. A task is an
environment. Each method gets the configuration that is best in a task, and the one that is best
over all tasks, by the mean score over the tuning seeds. The test seeds are shown.

A run that diverged, and a run in which no episode ended, have the lowest score that any run of
the store has in that environment. Runs that failed or are not done have none.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hesrl.experiments.sweeps.choice import Candidate, best_for_all, score_of
from hesrl.experiments.sweeps.store import Record
from hesrl.experiments.sweeps.trial import Trial, step_size_name
from hesrl.runs.figures import OPTIMIZER_COLORS, SCALED, line_styles

SCORES = ("final", "area", "evaluation")
FINISHED = ("done", "diverged")
Seeds = dict[int, Record]


class Method(NamedTuple):
    """What is compared."""

    agent: str
    optimizer: str
    """Name of the optimizer, which has a colour; the label where no optimizers are compared."""
    label: str


@dataclass
class Scores:
    """The finished runs of a store in order, as `collect` gathers them."""

    score: str
    """One of `SCORES`."""
    env_ids: list[str]
    """The tasks, sorted."""
    methods: dict[Method, list[Candidate]]
    """Configurations of each method; their ``env_id`` is empty."""
    runs: dict[tuple[Candidate, str, str], Seeds]
    """Finished runs by seed, of a configuration in an environment in one role."""
    lowest: dict[tuple[str, str], float] = field(default_factory=dict)
    """The lowest score of all runs, by name of the score and environment."""
    scale: dict[str, tuple[float, float]] = field(default_factory=dict)
    """The scores that count as 0 and 1 in each environment."""
    differing: tuple[str, ...] = ()
    """Names of the settings in which the configurations of a method differ."""
    shown: str = field(init=False)
    """``test``, or ``tuning`` in a store without test seeds."""
    chosen_by: str = field(init=False)
    """``tuning``, or ``test`` in a store without tuning seeds."""
    styles: dict[Method, dict[str, Any]] = field(init=False)
    """Colour and dashes of the methods in all figures."""

    def __post_init__(self) -> None:
        roles = {role for _, _, role in self.runs}
        self.shown = "test" if "test" in roles else "tuning"
        self.chosen_by = "tuning" if "tuning" in roles else "test"
        styles = line_styles((method.optimizer, method.label) for method in self.methods)
        self.styles = dict(zip(self.methods, styles.values(), strict=True))

    def by_seed(
        self, candidate: Candidate, env_id: str, role: str, score: str = ""
    ) -> dict[int, float]:
        """Return the scores of a configuration in an environment, by seed."""
        name = score or self.score
        lowest = self.lowest.get((name, env_id), math.nan)
        runs = self.runs.get((candidate, env_id, role), {})
        values = {seed: value_of(runs[seed], name) for seed in sorted(runs)}
        return {seed: lowest if math.isnan(v) else v for seed, v in values.items()}

    def normalized(self, env_id: str, values: Any) -> Any:
        """Return scores of an environment on the scale from 0 to 1 (`scale`)."""
        low, high = self.scale[env_id]
        return (np.asarray(values) - low) / (high - low) if high != low else np.ones_like(values)

    @property
    def flat(self) -> bool:
        """Whether there is no scale in any environment, as with one configuration."""
        return all(low == high for low, high in self.scale.values())

    def best(self, method: Method, env_id: str) -> Candidate | None:
        """Return the configuration of a method with the best mean in an environment."""
        means = self._means(method, env_id)
        return max(means, key=means.__getitem__, default=None)

    def best_for_all(self, method: Method) -> Candidate | None:
        """Return the configuration of a method with the best mean over the environments."""
        return best_for_all([means for e in self.env_ids if (means := self._means(method, e))])

    def _means(self, method: Method, env_id: str) -> dict[Candidate, float]:
        """Return the means of the configurations with as many finished runs as any has."""
        found = {
            candidate: list(self.by_seed(candidate, env_id, self.chosen_by).values())
            for candidate in self.methods[method]
        }
        most = max(map(len, found.values()), default=0)
        return {c: float(np.mean(v)) for c, v in found.items() if most and len(v) == most}

    def matrix(
        self, choice: Mapping[str, Candidate | None], env_ids: Sequence[str]
    ) -> tuple[NDArray[np.float64], list[int]]:
        """Return normalized scores (tasks, seeds) of the seeds that all tasks have, and these.

        Args:
            choice: The configuration in each environment.
            env_ids: The tasks.
        """
        rows = [
            self.by_seed(candidate, env_id, self.shown) if (candidate := choice[env_id]) else {}
            for env_id in env_ids
        ]
        seeds = sorted(set.intersection(*map(set, rows))) if rows else []
        scores = [
            self.normalized(env_id, [row[seed] for seed in seeds])
            for env_id, row in zip(env_ids, rows, strict=True)
        ]
        return np.array(scores, dtype=np.float64).reshape(len(rows), len(seeds)), seeds

    def label(self, candidate: Candidate | None) -> str:
        """Return the settings of a configuration in which others of its method differ."""
        if candidate is None:
            return "none"
        given = dict(candidate.settings)
        return ", ".join(f"{name} {text(given[name])}" for name in self.differing if name in given)


def value_of(record: Record, score: str) -> float:
    """Return a score of a run; NaN if it diverged, or if no episode ended."""
    if score == "final":
        return score_of(record)
    return float(getattr(record, score)) if record.status == "done" else math.nan


def step_size(candidate: Candidate) -> float | None:
    """Return the step size of a configuration, None for the agent's default."""
    value = dict(candidate.settings).get(step_size_name(candidate.agent))
    return None if value is None else float(value)


def collect(
    records: Iterable[Record],
    score: str = "final",
    compare: Sequence[str] = ("optimizer",),
    reference: Mapping[str, tuple[float, float]] | None = None,
) -> Scores:
    """Gather the finished runs of a store.

    Args:
        records: The runs.
        score: One of `SCORES`.
        compare: Settings whose values are compared; the best of all others are chosen.
        reference: Scores that count as 0 and 1, by environment; else the lowest and the highest
            mean of the configurations in the store.
    """
    finished = [record for record in records if record.status in FINISHED]
    several_agents = len({record.trial.agent for record in finished}) > 1
    methods: dict[Method, list[Candidate]] = defaultdict(list)
    runs: dict[tuple[Candidate, str, str], Seeds] = defaultdict(dict)
    for record in finished:
        trial = record.trial
        candidate = Candidate(trial.agent, trial.settings).in_env("")
        words = [text(trial.get(name)) for name in compare]
        label = " ".join([trial.agent] * several_agents + words) or trial.agent
        optimizer = text(trial.get("optimizer")) if "optimizer" in compare else label
        method = Method(trial.agent, optimizer, label)
        if candidate not in methods[method]:
            methods[method].append(candidate)
        runs[candidate, trial["env_id"], trial.role][trial.seed] = record
    scores = Scores(
        score, sorted({env_id for _, env_id, _ in runs}),
        dict(sorted(methods.items(), key=lambda item: _order(item[0]))), dict(runs),
        lowest=_lowest(finished), differing=_differing(methods, compare),
    )  # fmt: skip
    for env_id in scores.env_ids:
        means = [
            float(np.mean(list(scores.by_seed(candidate, env_id, role).values())))
            for candidate, other, role in runs
            if other == env_id
        ]
        scores.scale[env_id] = (reference or {}).get(env_id) or (min(means), max(means))
    return scores


def _order(method: Method) -> tuple[Any, ...]:
    """Return a key by which each optimizer comes before its scaled form, and Adam comes early."""
    family = method.optimizer.removeprefix(SCALED)
    known = list(OPTIMIZER_COLORS)
    place = known.index(family) if family in known else len(known)
    return method.agent, place, method.optimizer if place < len(known) else ""


def _lowest(records: Iterable[Record]) -> dict[tuple[str, str], float]:
    lowest: dict[tuple[str, str], float] = {}
    for record in records:
        for name in SCORES:
            value, key = value_of(record, name), (name, record.trial["env_id"])
            if not math.isnan(value):
                lowest[key] = min(value, lowest.get(key, value))
    return lowest


def _differing(
    methods: Mapping[Method, Sequence[Candidate]], compare: Sequence[str]
) -> tuple[str, ...]:
    names = []
    for candidates in methods.values():
        given = [dict(candidate.settings) for candidate in candidates]
        for name in sorted({name for settings in given for name in settings} - {*compare}):
            if len({settings.get(name) for settings in given}) > 1 and name not in names:
                names.append(name)
    return tuple(names)


def text(value: Any) -> str:
    """Return the value of a setting as people write it."""
    if isinstance(value, tuple):
        return " ".join(map(text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def trial_of(candidate: Candidate, env_id: str) -> Trial:
    """Return a trial of a configuration in an environment, to ask for its settings."""
    return Trial(*candidate.in_env(env_id), seed=0)
