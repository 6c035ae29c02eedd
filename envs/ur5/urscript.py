"""The commands of URScript that move the arm, as text: written here and read back.

The controller takes commands line by line from the socket of the real-time interface. The emulator
reads commands with `parse`, so that the meaning of a line is written once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

PARAMETERS = {
    "speedj": ("qd", "a", "t"),
    "movej": ("q", "a", "v", "t", "r"),
    "stopj": ("a",),
}
"""Names of the parameters of each command, in their order; ``q`` and ``qd`` are six numbers."""

_LINE = re.compile(r"\s*(?P<name>\w+)\s*\((?P<arguments>.*)\)\s*")
_ARGUMENT = re.compile(
    r"\s*(?:(?P<keyword>[a-z_]+)\s*=)?\s*(?:\[(?P<joints>[^\[\]]*)\]|(?P<number>[^,\[\]]+))\s*(?:,|$)"
)


class Command(NamedTuple):
    """One command."""

    name: str
    """A key of `PARAMETERS`."""
    joints: tuple[float, ...]
    """Six angles (rad) or speeds (rad/s); empty for ``stopj``."""
    options: dict[str, float]
    """The other parameters that were given, by name."""


def speedj(qd: Iterable[float], a: float, t_min: float) -> bytes:
    """Return the line that accelerates the joints to given speeds.

    Args:
        qd: Speeds (6,), rad/s.
        a: Acceleration, rad/s².
        t_min: How long the command lasts, s.

    Raises:
        ValueError: A number is not finite, or there are not six. Every command refuses so.
    """
    return f"speedj({_joints(qd)}, {_number(a)}, {_number(t_min)})\n".encode()


def movej(q: Iterable[float], a: float, v: float, t: float = 0.0) -> bytes:
    """Return the line that moves the joints to given angles.

    Args:
        q: Angles (6,), rad.
        a: Acceleration, rad/s².
        v: Speed, rad/s.
        t: Time of the movement, s; if positive, ``a`` and ``v`` are not heeded.
    """
    options = f"a={_number(a)}, v={_number(v)}, t={_number(t)}, r=0"
    return f"movej({_joints(q)}, {options})\n".encode()


def stopj(a: float) -> bytes:
    """Return the line that decelerates all joints to rest, with ``a`` in rad/s²."""
    return f"stopj(a={_number(a)})\n".encode()


def parse(line: str) -> Command:
    """Return the command that a line has.

    Raises:
        ValueError: The command is not in `PARAMETERS`, or its arguments are wrong.
    """
    match = _LINE.fullmatch(line)
    if match is None or match["name"] not in PARAMETERS:
        raise ValueError(f"unknown command {line.strip()!r}")
    name, arguments, end = match["name"], match["arguments"], 0
    joints: tuple[float, ...] = ()
    options: dict[str, float] = {}
    positions = iter(PARAMETERS[name])
    while end < len(arguments):
        argument = _ARGUMENT.match(arguments, end)
        if argument is None:
            raise ValueError(f"cannot read {arguments[end:]!r} in {line.strip()!r}")
        end = argument.end()
        parameter = argument["keyword"] or next(positions, "")
        is_vector = parameter in ("q", "qd")
        if parameter not in PARAMETERS[name] or is_vector != (argument["joints"] is not None):
            raise ValueError(f"cannot read {argument[0].strip()!r} in {line.strip()!r}")
        if is_vector:
            joints = tuple(float(number) for number in argument["joints"].split(","))
        else:
            options[parameter] = float(argument["number"])
    if len(joints) != (0 if name == "stopj" else 6):
        raise ValueError(f"{name} with {len(joints)} joints: {line.strip()!r}")
    if not all(map(math.isfinite, (*joints, *options.values()))):
        raise ValueError(f"a number is not finite in {line.strip()!r}")
    return Command(name, joints, options)


def _joints(numbers: Iterable[float]) -> str:
    written = [_number(number) for number in numbers]
    if len(written) != 6:
        raise ValueError(f"{len(written)} numbers for the six joints of the arm")
    return f"[{', '.join(written)}]"


def _number(number: float) -> str:
    if not math.isfinite(number):
        raise ValueError(f"{number} in a command for the arm: must be finite")
    return f"{number:.9f}"  # the manual shows no exponents
