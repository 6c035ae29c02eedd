"""Presets: settings of an agent in ``configs/``, which its options change one by one."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any, TypeVar

import yaml

ArgsT = TypeVar("ArgsT")


def preset(args_class: type[ArgsT], name: str) -> ArgsT:
    """Return settings whose defaults are those of a preset.

    Args:
        args_class: The ``Args`` of an agent, with a flag of the preset's name and the class
            attribute ``PRESETS``.
        name: Key of ``PRESETS``, which holds the name of its file in ``configs/``.
    """
    file = args_class.PRESETS[name]  # type: ignore[attr-defined]
    settings = yaml.safe_load((files("hesrl.configs") / file).read_text(encoding="utf-8"))
    return args_class(**settings, **{name: True})


def defaults_for(args_class: type[ArgsT], argv: Sequence[str]) -> ArgsT | None:
    """Return the defaults that a command line asks for with a preset's flag, None without one.

    A run that is resumed takes its own settings, so that ``--resume`` leaves presets out.
    """
    options = {word.split("=")[0] for word in argv}
    for name in getattr(args_class, "PRESETS", ()):
        if f"--{name}" in options and "--resume" not in options:
            return preset(args_class, name)
    return None


def is_of_preset(args: Any, name: str) -> bool:
    """Return whether a setting has the value that the preset among the settings gives it.

    Args:
        args: Settings of an agent.
        name: Which of them.
    """
    for key in getattr(args, "PRESETS", ()):
        if getattr(args, key):
            return bool(getattr(args, name) == getattr(preset(type(args), key), name))
    return False
