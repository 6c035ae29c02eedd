"""A trial: one training run of a grid, by agent, settings and seed."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any

from hesrl.cli import given_by, parsed, unknown_option
from hesrl.commands import COMMANDS
from hesrl.errors import UserError
from hesrl.presets import preset, tuned
from hesrl.settings import flag
from hesrl.settings_from_yaml import typed_settings

TRAIN = "train "
AGENTS = tuple(name.removeprefix(TRAIN) for name in COMMANDS if name.startswith(TRAIN))
"""The agents, by the names that ``hesrl train`` has for them."""

OF_THE_SWEEP = ("seed", "runs_dir", "resume", "config")
"""Settings that a grid does not name: the sweep gives them to each run."""

Settings = tuple[tuple[str, Any], ...]
"""Values by the fields of an agent's ``Args``, sorted by name."""


@dataclass(frozen=True)
class Trial:
    """One training run of a grid."""

    agent: str
    """A name of ``hesrl train``, such as ``ppo``."""
    settings: Settings
    """What the grid gives; everything else is the agent's default."""
    seed: int
    """Seed of the run."""
    role: str = "test"
    """``tuning`` for a seed that settings are chosen by, ``test`` for one that is reported."""

    @property
    def id(self) -> str:
        """12 hex digits of the SHA-256 of agent, settings and seed."""
        canonical = json.dumps(
            {"agent": self.agent, "seed": self.seed, "settings": dict(self.settings)},
            sort_keys=True,
            separators=(",", ":"),
        )
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """The trial in one line: agent, environment, optimizer, other settings, seed."""
        return self.label_without(())

    def label_without(self, shared: Collection[tuple[str, Any]]) -> str:
        """Return the label without some of the other settings, such as those of all trials."""
        others = (
            f"{name}={_text(value)}"
            for name, value in self.settings
            if name not in ("env_id", "optimizer") and (name, value) not in shared
        )
        words = self.agent, self["env_id"], self["optimizer"], *others, f"seed {self.seed}"
        return " ".join(words)

    def __getitem__(self, name: str) -> Any:
        """Return a setting by its name: what the grid gives, else the agent's default."""
        given = dict(self.settings)
        return given[name] if name in given else getattr(base(self.agent, given), name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a setting by its name, or ``default`` if the agent has no such setting."""
        try:
            return self[name]
        except AttributeError:
            return default

    def args(self, **of_the_sweep: Any) -> Any:
        """Return the agent's ``Args`` with the settings and the seed."""
        given = dict(self.settings)
        args = base(self.agent, given)
        return dataclasses.replace(args, **given, seed=self.seed, **of_the_sweep)


def shared_settings(trials: Iterable[Trial]) -> set[tuple[str, Any]]:
    """Return the settings that are the same in all trials."""
    several = [{*trial.settings} for trial in trials]
    return set.intersection(*several) if several else set()


def _text(value: Any) -> str:
    return ",".join(map(_text, value)) if isinstance(value, tuple) else str(value)


def module_of(agent: str) -> Any:
    """Return the module of an agent, which has ``Args`` and ``main``."""
    return importlib.import_module(COMMANDS[TRAIN + agent][0])


def base(agent: str, given: Mapping[str, Any]) -> Any:
    """Return what ``given`` changes: the agent's defaults, a preset, or tuned settings."""
    args_class = module_of(agent).Args
    if given.get("tuned"):
        return tuned(args_class, given.get("env_id", args_class.env_id), given.get("optimizer"))
    for name in getattr(args_class, "PRESETS", ()):
        if given.get(name):
            return preset(args_class, name)
    return args_class()


def settings_of(agent: str, options: Sequence[str]) -> dict[str, Any]:
    """Return what options of ``hesrl train`` set, by setting.

    Args:
        agent: The agent.
        options: Its options, as on a command line.

    Raises:
        UserError: An option is unknown, or its value is impossible.
    """
    try:
        args, unknown = parsed(module_of(agent).Args, options)
    except UserError as error:
        raise UserError(f"--options: {error}") from error
    if unknown:
        raise UserError(f"--options: {unknown_option(unknown[0], args)}")
    return {name: getattr(args, name) for name in given_by(options)}


def step_size_name(agent: str) -> str:
    """Return the name of the setting that is the step size of an agent."""
    return "eta_policy" if agent == "stream-ac" else "learning_rate"


@cache
def _types(agent: str) -> dict[str, Any]:
    args_class = module_of(agent).Args
    hints = typing.get_type_hints(args_class)
    return {field.name: hints[field.name] for field in dataclasses.fields(args_class)}


def is_tuple(agent: str, name: str) -> bool:
    """Return whether one value of a setting is several numbers or words."""
    return typing.get_origin(_types(agent).get(name)) is tuple


def checked_name(agent: str, name: str) -> None:
    """Refuse a setting that the agent does not have.

    Raises:
        UserError: The message names the most similar setting.
    """
    known = _types(agent)
    if name in OF_THE_SWEEP:
        remedy = "give tuning_seeds or test_seeds" if name == "seed" else "leave it out"
        raise UserError(f"settings: {name}: the sweep gives it to each run: {remedy}")
    if name not in known:
        hints = getattr(module_of(agent).Args, "HINTS", {})
        near = get_close_matches(name, known, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"see hesrl train {agent} --help"
        remedy = hints.get(flag(name), remedy)
        raise UserError(f"settings: {agent} has no setting {name}: {remedy}")


def converted(agent: str, name: str, value: Any) -> Any:
    """Return the value of a setting in the type that the agent's ``Args`` has for it.

    Raises:
        UserError: It has another type.
    """
    hint = _types(agent)[name]
    if isinstance(value, bool) and hint in (str, str | None):
        value = "on" if value else "off"  # YAML takes on and off for booleans
    return typed_settings(module_of(agent).Args, {name: value}, "settings")[name]
