"""What each option of the UR5 may be, in one table; nothing is sent before all have been checked.

The task needs no more than these bounds allow. They are no safety function: the controller's own
limits have to hold as well.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from hesrl.envs.ur5.kinematics import ARM_MODELS
from hesrl.errors import UserError, one_line


class Bound(NamedTuple):
    """Smallest and largest values of an option, one for each of its numbers."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    unit: str = ""
    whole: bool = False
    """Whether the numbers have to be whole."""


LOWEST = 0.08
"""What elbow, wrist and tool keep above the foot of the arm (m); the links are 6 cm thick."""
_TURN = 2 * math.pi
BOUNDS = {
    "speed_limit": Bound((0.01,), (1.0,), "rad/s"),
    "reset_speed": Bound((0.01,), (1.0,), "rad/s"),
    "acceleration": Bound((1.0,), (5.0,), "rad/s²"),
    "dt": Bound((0.008,), (0.2,), "s"),
    "episode_time": Bound((0.008,), (600.0,), "s"),
    "t_min": Bound((0.008,), (0.1,), "s"),
    "q_ref": Bound(6 * (-_TURN,), 6 * (_TURN,), "rad"),
    "joints": Bound((1, 2), (1, 2), whole=True),
    "box_low": Bound((-0.95, LOWEST), (0.95, 1.05), "m"),
    "box_high": Bound((-0.95, LOWEST), (0.95, 1.05), "m"),
    "joint_low": Bound(2 * (-_TURN,), 2 * (_TURN,), "rad"),
    "joint_high": Bound(2 * (-_TURN,), 2 * (_TURN,), "rad"),
    "box_buffer": Bound((0.0,), (0.05,), "m"),
    "joint_buffer": Bound((0.0,), (0.1,), "rad"),
    "stale_after": Bound((0.02,), (0.2,), "s"),
    "reconnects": Bound((0,), (10,), whole=True),
    "reconnect_wait": Bound((0.0,), (60.0,), "s"),
    "port": Bound((1,), (65535,), whole=True),
    "script_port": Bound((1,), (65535,), whole=True),
    "dashboard_port": Bound((1,), (65535,), whole=True),
    "emulator_speed": Bound((1.0,), (100.0,)),
}
"""Bounds by the name of the option. Every z of a box is at least `LOWEST`."""
CHOICES = {"arm_model": tuple(ARM_MODELS)}
"""Options that are one of some texts."""


def check(name: str, value: Any, high: float | None = None) -> None:
    """Refuse an option beyond its bounds.

    Args:
        name: A key of `BOUNDS` or `CHOICES`.
        value: What was given.
        high: Largest value, where another option decides it.

    Raises:
        UserError: It is beyond; the message has the range.
    """
    if name in CHOICES:
        if value not in CHOICES[name]:
            allowed = " or ".join(map(repr, CHOICES[name]))
            raise UserError(f"{name} is {one_line(repr(value))}; it must be {allowed}")
        return
    low, highest, unit, whole = BOUNDS[name]
    highest = highest if high is None else (high,)
    numbers = tuple(value) if isinstance(value, tuple | list | np.ndarray) else (value,)
    kinds = int | np.integer if whole else int | float | np.integer | np.floating
    if len(numbers) != len(low) or not all(
        isinstance(number, kinds) and not isinstance(number, bool) and least <= number <= most
        for number, least, most in zip(numbers, low, highest, strict=True)
    ):
        count = "a" if len(low) == 1 else f"{len(low)}"
        kind = f"{'whole ' if whole else ''}number{'s' if len(low) > 1 else ''}"
        raise UserError(
            f"{name} is {one_line(repr(value))}; it must be {count} {kind} from "
            f"{_written(low)} to {_written(highest)} {unit}".rstrip()
        )


def _written(numbers: tuple[float, ...]) -> str:
    """Return one number as itself, and several as one if they are equal."""
    texts = [f"{number:.5g}" for number in numbers]
    return texts[0] if len({*texts}) == 1 else f"({', '.join(texts)})"
