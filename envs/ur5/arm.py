"""Six joints behind the controller, in virtual time: how the arm follows its commands.

The controller computes a target for the joints in every cycle, and the motors follow it:

    actual ← actual + (1 − exp(−tick / lag)) (target − actual),    for positions and for speeds.

A command is obeyed `COMMAND_DELAY_TICKS` after it was sent and replaces the command before. The
meaning of the commands is taken from Universal Robots' script manual. Delay and lag are a UR5's.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hesrl.errors import one_line

TICK = 0.008
"""Cycle of a CB3 controller (s); an e-Series controller's is a quarter of it."""
COMMAND_DELAY_TICKS = 2
"""Ticks that pass before a command is obeyed."""
LAG = 0.010
"""Time constant with which the motors follow the target (s)."""
MAX_SPEED = math.pi
"""The speed that no joint of a UR5 exceeds (rad/s)."""
REST_SPEED = 1e-3
"""Below this speed a joint counts as at rest (rad/s)."""

Joints = NDArray[np.float64]
Motion = Callable[[], Joints | None]
"""Gives the joints' next target speeds (6,), or None when the command is done."""


class Arm:
    """Six joints, at rest in the beginning.

    Args:
        q: Joint angles (6,), rad.
        tick: Cycle of the controller (s).

    Attributes:
        q_target: Angles that the controller asks of the motors (6,), rad.
        qd_target: Their speeds (6,), rad/s.
        qdd_target: Their accelerations (6,), rad/s².
        q_actual: Angles that the joints have (6,), rad.
        qd_actual: Their speeds (6,), rad/s.

    Raises:
        ValueError: The angles are not six finite numbers. Every command refuses so.
    """

    def __init__(self, q: ArrayLike, tick: float = TICK) -> None:
        self._ticks, self._tick = 0, tick
        self._waiting: deque[tuple[int, Callable[[], Motion]]] = deque()
        self.put(q)

    @property
    def time(self) -> float:
        """Virtual time since the beginning (s)."""
        return self._ticks * self._tick

    @property
    def is_moving(self) -> bool:
        """Whether a joint moves, or a command that moves one is being obeyed."""
        speeds = np.abs([self.qd_target, self.qd_actual])
        return self._motion is not None or bool(speeds.max() > REST_SPEED)

    def put(self, q: ArrayLike) -> None:
        """Be at rest at joint angles (6,), rad, without a way there, and forget all commands."""
        self.q_target = six(q, "joint angles")
        self.q_actual = self.q_target.copy()
        self.qd_target, self.qdd_target, self.qd_actual = np.zeros((3, 6))
        self._waiting.clear()
        self._motion: Motion | None = None
        self._deceleration = 0.0

    def speedj(self, qd: ArrayLike, a: float, t_min: float) -> None:
        """Accelerate, linearly in the space of the joints, to given speeds.

        Args:
            qd: Speeds (6,), rad/s, which are clipped at `MAX_SPEED`.
            a: Acceleration of the joint whose speed changes most, rad/s².
            t_min: How long the command lasts, s; then the arm decelerates with ``a``.
        """
        speeds, a = six(qd, "speeds").clip(-MAX_SPEED, MAX_SPEED), positive(a, "a")
        ticks = ticks_of(t_min, self._tick)

        def start() -> Motion:
            self._deceleration = a
            end = self._ticks + ticks
            return lambda: self._towards(speeds, a) if self._ticks < end else None

        self._send(start)

    def movej(self, q: ArrayLike, a: float, v: float, t: float = 0.0) -> None:
        """Go to joint angles and stop there, along a polynomial of degree five.

        Args:
            q: Joint angles (6,), rad.
            a: Highest acceleration, rad/s², of a movement from rest.
            v: Highest speed, rad/s, of a movement from rest.
            t: Its time, s; if positive, ``a`` and ``v`` are not heeded.
        """
        goal, a, v = six(q, "joint angles"), positive(a, "a"), positive(v, "v")

        def start() -> Motion:
            self._deceleration = a
            q_0, way = self.q_target, goal - self.q_target
            longest = float(np.abs(way).max())
            # The highest speed is 15/8 way/t, the highest acceleration 10/√3 way/t².
            least = max(15 / 8 * longest / v, math.sqrt(10 / math.sqrt(3) * longest / a))
            begin, ticks = self._ticks, ticks_of(t if t > 0 else least, self._tick)
            drift = self.qd_target * ticks * self._tick

            def speeds() -> Joints | None:
                s = (self._ticks + 1 - begin) / ticks
                if s > 1:
                    return None
                q_next = q_0 + (
                    drift * s
                    + (10 * way - 6 * drift) * s**3
                    - (15 * way - 8 * drift) * s**4
                    + (6 * way - 3 * drift) * s**5
                )
                qd: Joints = (q_next - self.q_target) / self._tick
                return qd

            return speeds

        if t < 0 or not math.isfinite(t):
            raise ValueError(f"movej: t is {t}; it must be a finite number from 0 (s)")
        self._send(start)

    def stopj(self, a: float) -> None:
        """Decelerate to rest, with ``a`` (rad/s²) for the fastest joint."""
        a = positive(a, "a")

        def start() -> Motion:
            self._deceleration = a
            return lambda: None

        self._send(start)

    def brake(self, a: float) -> None:
        """Forget all commands and decelerate at once: what a stop of the controller itself does.

        Args:
            a: Deceleration of the fastest joint, rad/s².
        """
        self._deceleration = positive(a, "a")
        self._waiting.clear()
        self._motion = None

    def tick(self) -> None:
        """Let a cycle pass."""
        while self._waiting and self._waiting[0][0] <= self._ticks:
            self._motion = self._waiting.popleft()[1]()
        speeds = None if self._motion is None else self._motion()
        if speeds is None:
            self._motion = None
            speeds = self._towards(np.zeros(6), self._deceleration)
        self.qdd_target = (speeds - self.qd_target) / self._tick
        self.qd_target = speeds
        self.q_target = self.q_target + self._tick * speeds
        follow = 1 - math.exp(-self._tick / LAG)
        self.qd_actual = self.qd_actual + follow * (self.qd_target - self.qd_actual)
        self.q_actual = self.q_actual + follow * (self.q_target - self.q_actual)
        self._ticks += 1

    def _send(self, start: Callable[[], Motion]) -> None:
        self._waiting.append((self._ticks + COMMAND_DELAY_TICKS, start))

    def _towards(self, speeds: Joints, a: float) -> Joints:
        """Return the target speeds (6,) one tick nearer to ``speeds``."""
        change = speeds - self.qd_target
        largest = float(np.abs(change).max())
        most = a * self._tick
        return speeds if largest <= most else self.qd_target + change * (most / largest)


def six(numbers: ArrayLike, name: str) -> Joints:
    """Return six finite numbers as an array of their own (6,).

    Raises:
        ValueError: They are something else.
    """
    array = np.array(numbers, dtype=np.float64)
    if array.shape != (6,) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be six finite numbers, not {one_line(repr(numbers))}")
    return array


def positive(number: float, name: str) -> float:
    """Return a finite number above zero.

    Raises:
        ValueError: It is something else.
    """
    if not 0 < number < math.inf:
        raise ValueError(f"{name} is {number}; it must be a finite number above 0")
    return float(number)


def ticks_of(seconds: float, tick: float = TICK) -> int:
    """Return how many ticks a duration takes, at least one."""
    # 0.04 / 0.008 is a little above five.
    return max(1, math.ceil(positive(seconds, "a time") / tick - 1e-6))
