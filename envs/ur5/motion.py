"""Speeds for the arm, how speeds follow from the arm's state, and limits of all speeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hesrl.envs.ur5.kinematics import Command, Pair
from hesrl.envs.ur5.protocol import State

_ROUNDING = 1e-9
"""Relative excess over a limit that comes from floating point."""


class Motion(NamedTuple):
    """Speeds to send."""

    qd: tuple[float, ...]
    """Of the joints (6,), rad/s."""
    a: float
    """Acceleration towards them, rad/s²."""


Law = Callable[[State], Motion]
"""Says what to send, given what the controller sent."""


class Limits(NamedTuple):
    """What is never sent."""

    speed: float
    """Largest speed of a joint (rad/s)."""
    acceleration: float
    """Largest acceleration (rad/s²)."""

    def check(self, motion: Motion) -> None:
        """Refuse a motion beyond the limits.

        Raises:
            ValueError: It is beyond, or NaN.
        """
        highest = 1 + _ROUNDING
        if not (
            all(abs(speed) <= self.speed * highest for speed in motion.qd)
            and 0 < motion.a <= self.acceleration * highest
        ):
            raise ValueError(
                f"speeds {motion.qd} rad/s with {motion.a} rad/s² are refused: the limits are "
                f"{self.speed} and {self.acceleration}"
            )


def pair(numbers: NDArray[np.float64], joints: tuple[int, int]) -> Pair:
    """Return the two numbers of shoulder and elbow from the numbers of all joints (6,)."""
    shoulder, elbow = joints
    return float(numbers[shoulder]), float(numbers[elbow])


def law_for(joints: tuple[int, int], command: Callable[[Pair, Pair, Pair, Pair], Command]) -> Law:
    """Return the law that moves shoulder and elbow and leaves the other joints at rest.

    Args:
        joints: Which joints these are, counted from 0.
        command: Gives their speeds, from their target angles, angles (rad), speeds and
            target speeds (rad/s).
    """

    def law(state: State) -> Motion:
        vectors = state.q_target, state.q_actual, state.qd_actual, state.qd_target
        shoulder, elbow, a = command(*(pair(numbers, joints) for numbers in vectors))
        speeds = [0.0] * 6
        speeds[joints[0]], speeds[joints[1]] = shoulder, elbow
        return Motion(tuple(speeds), a)

    return law
