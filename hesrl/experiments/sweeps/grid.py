"""A grid of training runs: agents, settings that vary, and seeds, from a YAML file."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from hesrl.envs.mujoco import make_env
from hesrl.errors import UserError
from hesrl.experiments.sweeps.choice import Candidate, chosen
from hesrl.experiments.sweeps.store import Record
from hesrl.experiments.sweeps.trial import AGENTS, Trial, checked_name, converted, is_tuple
from hesrl.rl.env_options import env_options
from hesrl.safe_yaml import UniqueKeys, load_yaml
from hesrl.settings import MAX_SEED

KEYS = ("name", "agent", "agents", "settings", "tuning_seeds", "test_seeds", "test", "grids")
TEST = ("all", "best")


class Product(NamedTuple):
    """Every one of several settings with every one of several seeds."""

    candidates: tuple[Candidate, ...]
    """Agents with their settings."""
    tuning_seeds: tuple[int, ...]
    """Seeds that settings are chosen by."""
    test_seeds: tuple[int, ...]
    """Seeds that are reported."""
    best: bool
    """Whether only the chosen settings run with the test seeds."""


class Grid(NamedTuple):
    """Trials, in the order in which they run: seed by seed, tuning before test."""

    name: str
    products: tuple[Product, ...]

    def trials(self, records: Iterable[Record] = ()) -> list[Trial]:
        """Return the trials that are known so far.

        Args:
            records: What has run; where only the best settings are tested, it decides them.
        """
        finished = [record for record in records if record.status in ("done", "diverged")]
        tuning = [(p.tuning_seeds, p.candidates) for p in self.products]
        test = [
            (p.test_seeds, chosen(p.candidates, p.tuning_seeds, finished))
            if p.best
            else (p.test_seeds, p.candidates)
            for p in self.products
        ]
        return [*_seed_by_seed(tuning, "tuning"), *_seed_by_seed(test, "test")]

    def waiting(self, trials: Iterable[Trial]) -> list[Trial]:
        """Return trials in place of those that wait until the tuning seeds have chosen them.

        Args:
            trials: What is known; of a task without a choice, any settings take the place.
        """
        known = {_task(trial) for trial in trials if trial.role == "test"}
        found = []
        for product in self.products:
            if product.best:
                first = {_task(t): t for c in product.candidates if (t := Trial(*c, seed=0))}
                open_tasks = [t for task, t in first.items() if task not in known]
                found += [replace(t, seed=s) for s in product.test_seeds for t in open_tasks]
        return found


def _task(trial: Trial) -> tuple[str, str, str]:
    return trial.agent, trial["env_id"], trial["optimizer"]


def _seed_by_seed(
    products: Iterable[tuple[tuple[int, ...], Iterable[Candidate]]], role: str
) -> Iterator[Trial]:
    rows = [
        [[Trial(*candidate, seed, role) for candidate in candidates] for seed in seeds]
        for seeds, candidates in products
    ]
    for several in itertools.zip_longest(*rows, fillvalue=()):
        yield from itertools.chain(*several)


def load_grid(path: Path) -> Grid:
    """Read a grid's file and check every trial.

    Raises:
        UserError: The file cannot be read, or something in it is impossible; one line names it.
    """
    try:
        return make_grid(load_yaml(path.read_bytes(), UniqueKeys), path.stem)
    except OSError as error:
        raise UserError(f"cannot read the grid {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def make_grid(content: Any, name: str = "grid") -> Grid:
    """Return the grid that the content of a file describes, with every trial checked.

    Args:
        content: What YAML made of the file; docs/experiments.md has the keys.
        name: Name of the grid, unless the content has one.

    Raises:
        UserError: Something is impossible; one line names it.
    """
    _check_keys(content)
    outside = {key: value for key, value in content.items() if key not in ("name", "grids")}
    inside = content.get("grids", [{}])
    if not isinstance(inside, list) or not inside:
        raise UserError("grids: must be a list of grids")
    products = []
    for part in inside:
        _check_keys(part)
        settings = {**_settings(outside), **_settings(part)}
        products.append(_product({**outside, **part, "settings": settings}))
    grid = Grid(str(content.get("name", name)), tuple(products))
    _check_trials(grid)
    return grid


def _check_keys(content: Any) -> None:
    if not isinstance(content, dict):
        raise UserError("a grid is a mapping with the keys agent, settings and test_seeds")
    for key in content:
        if key not in KEYS:
            near = get_close_matches(str(key), KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(KEYS)}"
            raise UserError(f"unknown key {key}: {hint}")


def _settings(content: Mapping[str, Any]) -> dict[str, Any]:
    settings = content.get("settings") or {}
    if not isinstance(settings, dict):
        raise UserError("settings: must be a mapping of settings to values")
    return settings


def _product(content: Mapping[str, Any]) -> Product:
    if "agent" in content and "agents" in content:
        raise UserError("agent and agents: give one of them")
    agents = content.get("agents", content.get("agent", []))
    agents = agents if isinstance(agents, list) else [agents]
    candidates = [c for agent in agents for c in _candidates(agent, content["settings"])]
    tuning, test = _seeds(content, "tuning_seeds"), _seeds(content, "test_seeds")
    if not candidates or not (tuning or test):
        missing = "tuning_seeds or test_seeds" if candidates else "agent"
        raise UserError(f"the grid is empty: give {missing}")
    rule = content.get("test", "all")
    if rule not in TEST:
        raise UserError(f"test: {rule}: choose one of {', '.join(TEST)}")
    if rule == "best" and not (tuning and test):
        raise UserError("test: best: needs tuning_seeds to choose by, and test_seeds")
    if both := sorted({*tuning} & {*test}):
        raise UserError(f"seed {both[0]} is both a tuning seed and a test seed: choose others")
    return Product(tuple(candidates), tuning, test, rule == "best")


def _candidates(agent: Any, settings: Mapping[str, Any]) -> Iterator[Candidate]:
    if agent not in AGENTS:
        near = get_close_matches(str(agent), AGENTS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(AGENTS)}"
        raise UserError(f"unknown agent {agent}: {hint}")
    axes = []
    for name in sorted(settings, key=str):
        checked_name(agent, name)
        values = settings[name]
        varied = isinstance(values, list)
        if (
            varied
            and is_tuple(agent, name)
            and not all(isinstance(v, list | tuple) for v in values)
        ):
            raise UserError(
                f"settings: {name}: one value of it is a list: write [{values}], or several lists"
            )
        if varied and not values:
            raise UserError(f"the grid is empty: settings: {name} has no value")
        axes.append([(name, converted(agent, name, v)) for v in (values if varied else [values])])
    for combination in itertools.product(*axes):
        yield Candidate(agent, combination)


def _seeds(content: Mapping[str, Any], key: str) -> tuple[int, ...]:
    seeds = content.get(key) or []
    if isinstance(seeds, dict) and seeds.keys() == {"first", "count"}:
        numbers = list(seeds.values())
        if all(type(number) is int for number in numbers):
            seeds = list(range(seeds["first"], seeds["first"] + seeds["count"]))
    if not isinstance(seeds, list) or not all(type(s) is int and 0 <= s <= MAX_SEED for s in seeds):
        raise UserError(f"{key}: write [1, 2, 3] or {{first: 1, count: 3}}, from 0 to {MAX_SEED}")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"{key}: a seed is there twice")
    return tuple(seeds)


def _check_trials(grid: Grid) -> None:
    """Refuse impossible settings and runs that are there twice."""
    seen: dict[str, Trial] = {}
    environments = set()
    for product in grid.products:
        for candidate in product.candidates:
            effective, environment = _effective(candidate)
            environments.add(environment)
            for seed in (*product.tuning_seeds, *product.test_seeds):
                trial = Trial(*candidate, seed)
                other = seen.setdefault(f"{effective} {seed}", trial)
                if other is not trial:
                    same = "" if other == trial else f", which is the same as {other.label}"
                    raise UserError(f"a run is there twice: {trial.label}{same}")
    for env_id, options in sorted(environments):
        make_env(env_id, **env_options(options, None)).close()


def _effective(candidate: Candidate) -> tuple[str, tuple[str, tuple[str, ...]]]:
    """Return all settings in force as text, and environment and options."""
    trial = Trial(*candidate, seed=0)
    args = trial.args()
    try:
        args.check()
    except UserError as error:
        raise UserError(f"{trial.label.removesuffix(' seed 0')}: {error}") from error
    if hasattr(args, "fill_in"):
        args.fill_in()
    settings = asdict(args)
    return f"{candidate.agent} {settings}", (args.env_id, args.env_options)
