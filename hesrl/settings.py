"""The settings of a command: where they begin, those of a resumed run, and checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from hesrl.errors import Finished, UserError, one_line
from hesrl.presets import preset, tuned
from hesrl.runs.directory import OF_A_COMMAND, RunDirectory
from hesrl.settings_from_yaml import settings_in_file, typed_settings


class SessionSettings(Protocol):
    """The settings that `hesrl.runs.session.Session` reads."""

    seed: int
    runs_dir: Path
    resume: Path | None
    yes: bool
    env_id: str
    total_timesteps: int
    optimizer: str
    given: ClassVar[frozenset[str]]
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def planned_timesteps(self) -> int:
        """Environment steps that the run will take; at most ``total_timesteps``."""


MAX_SEED = 2**32 - 1
"""The largest seed that Stable-Baselines3 takes."""

MAX_STEPS = 10**12
"""More steps than a run could ever take: a year of the fastest agent has some 10¹¹."""

Scale = Literal["smoke", "small", "paper"]
"""How much of a figure: seconds, an hour or a night, or all that the paper has."""

ArgsT = TypeVar("ArgsT")
SessionSettingsT = TypeVar("SessionSettingsT", bound=SessionSettings)


def defaults_for(args_class: type[ArgsT], argv: Sequence[str]) -> ArgsT | None:
    """Return the settings from which a command line begins, or None for those of the class.

    They are those of the preset whose flag is there, changed by those of the file of ``--config``.
    ``--tuned`` asks for those that were tuned for the environment and the optimizer of the command
    line. ``--resume`` leaves both out, because a resumed run takes its own settings. ``--scale``
    stands for what the class attribute ``SCALES`` has under its value.

    Raises:
        UserError: The file of ``--config`` cannot be used, nothing is tuned for the environment, or
            ``--tuned`` stands beside a file or a preset.
    """
    options = {word.split("=")[0] for word in argv}
    file = _value_of("--config", argv) if hasattr(args_class, "config") else None
    start = None
    if "--resume" not in options:
        named = [name for name in getattr(args_class, "PRESETS", ()) if f"--{name}" in options]
        if hasattr(args_class, "TUNED") and "--tuned" in options:
            others = [*named, *(["config"] if file is not None else [])]
            if others:
                raise UserError(f"--tuned does not go with {flag(others[0])}: give one of them")
            env_id = _value_of("--env-id", argv) or args_class.env_id  # type: ignore[attr-defined]
            return tuned(args_class, env_id, _value_of("--optimizer", argv))
        start = preset(args_class, named[0]) if named else None
    if file is not None:
        return dataclasses.replace(  # type: ignore[type-var]
            start or args_class(), **settings_in_file(args_class, Path(file))
        )
    scale = _value_of("--scale", argv)
    if scale is not None and scale in getattr(args_class, "SCALES", {}):
        return at_scale(args_class, scale)
    return start


def _value_of(option: str, argv: Sequence[str]) -> str | None:
    """Return what follows an option on a command line the last time, or None."""
    value = None
    for word, following in zip_longest(argv, argv[1:]):
        name, equals, after = word.partition("=")
        if name.replace("_", "-") == option:
            value = after if equals else following
    return value


def at_scale(args_class: type[ArgsT], scale: str, **settings: Any) -> ArgsT:
    """Return the settings of a figure at a scale, and others beside them."""
    of_scale = getattr(args_class, "SCALES", {}).get(scale, {})
    return args_class(**{"scale": scale, **of_scale, **settings})


def settings_in_force(args: SessionSettingsT) -> SessionSettingsT:
    """Return the settings to train with: ``args``, or the settings of the run that it resumes.

    Args:
        args: The settings of the command line, an instance of a dataclass.

    Raises:
        Finished: The run has ended, and is not to be extended.
        UserError: ``args`` sets something besides ``resume``, ``yes`` and a larger
            ``total_timesteps``,
            another agent or version made the run, a value in its config.yaml has another type, or
            the run has no checkpoint.
    """
    if args.resume is None:
        return args
    fields = {field.name: field for field in dataclasses.fields(args)}
    defaults = type(args)()
    given = {n for n in fields if getattr(args, n) != getattr(defaults, n)} | args.given
    for name in sorted(given - {"resume", "yes", "total_timesteps"}):
        raise UserError(
            f"{flag(name)} does not go with --resume, which takes the run's own settings"
        )
    run = RunDirectory.open(args.resume, read_only=True)
    of_a_run = fields.keys() - OF_A_COMMAND
    if run.settings.keys() != of_a_run:
        odd = ", ".join(sorted(run.settings.keys() ^ of_a_run))
        raise UserError(
            f"{run.config} is of another agent or version (differs in: {odd}): resume it with the "
            "one that wrote it, or start anew"
        )
    if not run.checkpoint.exists():
        raise UserError(f"{run.path} has no checkpoint yet: start the run anew")
    settings = typed_settings(type(args), run.settings, str(run.config))
    before = settings["total_timesteps"]
    total = args.total_timesteps if "total_timesteps" in given else before
    if total < before:
        raise UserError(
            f"--total-timesteps {total}: the run has {before} already; a run can only be extended"
        )
    if total == before and run.summary.exists():
        raise Finished(
            f"{run.path} is finished after {before:,} steps; a larger --total-timesteps extends it"
        )
    settings |= {"resume": args.resume, "yes": args.yes, "total_timesteps": total}
    return type(args)(**settings)


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
    import torch  # takes two seconds, which commands without a device need not wait for

    try:
        torch.empty(0, device=device)
    # PyTorch raises RuntimeError, AssertionError and others, by device and build.
    except Exception as error:
        raise UserError(f"--device {device}: cannot be used: {one_line(error)}") from error


def require_between(args: Any, names: str, low: float, high: float) -> None:
    """Refuse settings outside ``low ≤ value ≤ high``, and infinity; None passes.

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
        if value is not None and not (low <= value <= high and value < float("inf")):
            bounds = f"at least {low}" if high == float("inf") else f"from {low} to {high}"
            finite = ", and not infinite" if value == float("inf") == high else ""
            raise UserError(f"{flag(name)} {value}: must be {bounds}{finite}")


def require_multiples(args: Any, names: str, of: str) -> None:
    """Refuse intervals that are no multiple of another one; None passes.

    Args:
        args: The settings.
        names: Which intervals, separated by spaces.
        of: Name of the other interval.

    Raises:
        UserError: The message names both options and their values.
    """
    for name in names.split():
        if (getattr(args, name) or 0) % getattr(args, of):
            raise UserError(
                f"{flag(name)} {getattr(args, name)}: must be a multiple of {flag(of)} "
                f"{getattr(args, of)}"
            )
