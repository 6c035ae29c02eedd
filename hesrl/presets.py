"""Settings that hesrl ships in ``configs/``: presets, and tuned settings per environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import yaml

from hesrl.errors import UserError
from hesrl.settings_from_yaml import typed_settings

ArgsT = TypeVar("ArgsT")


def preset(args_class: type[ArgsT], name: str) -> ArgsT:
    """Return the settings of a preset, a file in ``configs/``.

    Args:
        args_class: The ``Args`` of an agent. It has a flag of the preset's name.
        name: Key of the class attribute ``PRESETS``, which holds the name of the file.
    """
    file = args_class.PRESETS[name]  # type: ignore[attr-defined]
    return args_class(**_content(file), **{name: True})


@cache  # since the runs of a grid ask for it thousands of times
def _content(file: str) -> dict[str, Any]:
    """Return what a file of ``configs/`` holds."""
    content: dict[str, Any] = yaml.safe_load(
        (files("hesrl.configs") / file).read_text(encoding="utf-8")
    )
    return content


def is_of_preset(args: Any, name: str) -> bool:
    """Return whether a setting has the value that the chosen preset gives it.

    Args:
        args: Settings of an agent.
        name: Name of the setting.
    """
    for key in getattr(args, "PRESETS", ()):
        if getattr(args, key):
            return bool(getattr(args, name) == getattr(preset(type(args), key), name))
    return False


@dataclasses.dataclass(frozen=True)
class Tuned:
    """Settings that were tuned for one environment."""

    source: str
    """Who tuned or published them, and where."""
    measured: str
    """What they reached, after how many steps."""
    settings: Mapping[str, Any]
    """Settings by name, whatever the optimizer."""
    optimizers: Mapping[str, Mapping[str, Any]]
    """Further settings by optimizer; the first optimizer is taken unless another one is asked for,
    and one that is not here brings its own defaults."""
    not_taken: str = ""
    """What the source has besides, and hesrl has not."""


def tuned_entries(args_class: type) -> dict[str, Tuned]:
    """Return the tuned settings of an agent by environment.

    Args:
        args_class: The ``Args`` of the agent, whose attribute ``TUNED`` names the file. A key of
            the file that begins with a dot is what several environments share.
    """
    content = _content(args_class.TUNED)  # type: ignore[attr-defined]
    return {key: Tuned(**entry) for key, entry in content.items() if not key.startswith(".")}


def tuned(args_class: type[ArgsT], env_id: str, optimizer: str | None = None) -> ArgsT:
    """Return the settings that were tuned for an environment.

    Args:
        args_class: The ``Args`` of an agent with tuned settings.
        env_id: Gymnasium id of the environment.
        optimizer: Name of the optimizer; None: that of the tuned settings.

    Raises:
        UserError: There are none for the environment; the message names those that have some.
    """
    entries = tuned_entries(args_class)
    if env_id not in entries:
        raise UserError(
            f"--tuned: nothing is tuned for {env_id}; there are settings for {', '.join(entries)}"
        )
    entry = entries[env_id]
    optimizer = optimizer or next(iter(entry.optimizers))
    given = {**entry.settings, **entry.optimizers.get(optimizer, {})}
    settings = typed_settings(args_class, given, args_class.TUNED)  # type: ignore[attr-defined]
    settings |= {"env_id": env_id, "optimizer": optimizer, "tuned": True}
    return args_class(**settings)
