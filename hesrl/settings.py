"""The settings of an agent, an ``Args`` dataclass: checks, and those of a run that is resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from hesrl.errors import UserError, one_line
from hesrl.runs.directory import RunDirectory


class Settings(Protocol):
    """What a session needs to know of an agent's ``Args``, a dataclass."""

    seed: int
    runs_dir: Path
    resume: Path | None
    env_id: str
    total_timesteps: int
    optimizer: str


ArgsT = TypeVar("ArgsT", bound=Settings)


def settings_in_force(args: ArgsT) -> ArgsT:
    """Return the settings to train with: ``args``, or those of the run that it resumes.

    Args:
        args: The settings of the command line, an instance of a dataclass.

    Raises:
        UserError: ``args`` resumes a run and sets something besides, the run is not one of this
            agent, or it has no checkpoint.
    """
    if args.resume is None:
        return args
    fields = {field.name: field for field in dataclasses.fields(args)}  # type: ignore[arg-type]
    defaults = type(args)()
    for name in fields.keys() - {"resume"}:
        if getattr(args, name) != getattr(defaults, name):
            raise UserError(
                f"{flag(name)} does not go with --resume, which takes the run's own settings"
            )
    run = RunDirectory.open(args.resume, read_only=True)
    settings = dict(run.settings)
    if run.settings.keys() | {"resume"} != fields.keys():
        odd = ", ".join(sorted((run.settings.keys() | {"resume"}) ^ fields.keys()))
        raise UserError(f"{run.config} is of another agent or version (differs in: {odd})")
    if not run.checkpoint.exists():
        raise UserError(f"{run.path} has no checkpoint yet: start the run anew")
    for name, value in settings.items():
        default = getattr(defaults, name)
        if isinstance(default, tuple | Path):
            settings[name] = type(default)(value)
    return type(args)(**{**settings, "resume": args.resume})


def flag(name: str) -> str:
    """Return the command-line option of a setting: ``--num-envs`` for ``num_envs``."""
    return "--" + name.replace("_", "-")


def require_positive(args: Any, names: str) -> None:
    """Refuse settings that are zero, negative or not a number; None passes.

    Args:
        args: The settings, numbers or tuples of numbers.
        names: Which of them, separated by spaces.

    Raises:
        UserError: The message names the option and its value.
    """
    for name in names.split():
        value = getattr(args, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(number is None or number > 0 for number in numbers):
            raise UserError(f"{flag(name)} {value}: must be greater than zero")


def require_choice(args: Any, name: str, choices: Iterable[str]) -> None:
    """Refuse a setting that is none of the choices.

    Args:
        args: The settings.
        name: Which of them.
        choices: What it may be.

    Raises:
        UserError: The message names the option, its value and the choices.
    """
    value = getattr(args, name)
    if value not in choices:
        raise UserError(f"{flag(name)} {value}: choose one of {', '.join(choices)}")


def require_device(device: str) -> None:
    """Refuse a device that is not there.

    Args:
        device: As PyTorch names it.

    Raises:
        UserError: The message names it, and what PyTorch says.
    """
    try:
        torch.empty(0, device=device)
    # PyTorch raises RuntimeError, AssertionError and others, by device and build.
    except Exception as error:
        raise UserError(f"--device {device}: cannot be used: {one_line(error)}") from error


def require_between(args: Any, names: str, low: float, high: float) -> None:
    """Refuse settings outside ``low ≤ value ≤ high``, and infinity.

    Args:
        args: The settings.
        names: Which of them, separated by spaces.
        low: Lower bound.
        high: Upper bound; infinity for none.

    Raises:
        UserError: The message names the option and its value.
    """
    for name in names.split():
        value = getattr(args, name)
        if not (low <= value <= high and value < float("inf")):
            bounds = f"at least {low}" if high == float("inf") else f"from {low} to {high}"
            raise UserError(f"{flag(name)} {value}: must be {bounds}")
