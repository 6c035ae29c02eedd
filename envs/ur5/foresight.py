"""Where the arm would come to rest, if a command were the last, or the last before it braked.

A command is harmless if the arm could still stop after it, with elbow, wrist and tool where they
may be and the joints within their limits. So there always is a way to stop: braking at once, which
was looked at before the last command. More than one way to stop is looked at. In the first the
guards brake. In the others no command comes any more, and the arm stops as the backend has it.

    under the command before, until this one is obeyed       latency
    under the command                                         dt     or  hold
    braking: from speeds v with the deceleration b            brake  or  that of the ending
                                                              q ← q + v max|v| / 2b

The joints change their speeds together, as ``speedj`` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from hesrl.envs.ur5.arm import COMMAND_DELAY_TICKS, TICK
from hesrl.envs.ur5.bounds import LOWEST
from hesrl.envs.ur5.kinematics import Command, Pair, Plane
from hesrl.envs.ur5.reacher_settings import ReacherSettings

LATENCY = (COMMAND_DELAY_TICKS + 1) * TICK
"""Time from a packet until a command that answers it is obeyed (s)."""
DECELERATIONS = (2.0, 5.0)
"""Smallest and largest deceleration with which the guards brake (rad/s²)."""
STOPPING_ANGLE = 0.05
"""Angle in which they stop the arm, if these allow it (rad)."""
_LONGER = 2 * TICK
"""By what a speed may hold longer than it should: a program looks once in a cycle (s)."""


class Ending(NamedTuple):
    """How the arm stops when no other command comes."""

    hold: float
    """How long the last command is followed (s)."""
    brake: float | None
    """Deceleration of the stop (rad/s²); None for the acceleration of the command."""


def endings(settings: ReacherSettings, sent_again: Ending | None = None) -> list[Ending]:
    """Return how the arm stops behind a backend when no other command comes.

    The driver and RTDE look at each packet, and send nothing without the guards. So the arm stops
    when the link breaks: a speed holds for ``t_min``, and the controller, or our program on it,
    brakes with the last acceleration.

    Args:
        settings: The numbers of the task.
        sent_again: Behind a backend that sends the last command again without the guards: for how
            long, and how it stops the arm then.
    """
    broken_link = Ending(settings.t_min + _LONGER, None)
    if sent_again is None:
        return [broken_link]
    return [broken_link, Ending(sent_again.hold + _LONGER, sent_again.brake)]


class Foresight:
    """Looks ahead for one arm.

    Args:
        settings: Box, limits, and the time between two actions.
        plane: The arm.
        brake: Deceleration with which the guards stop the arm (rad/s²).
        ways: How the arm stops when no other command comes.
        latency: Time from a packet until a command that answers it is obeyed (s).
    """

    def __init__(
        self,
        settings: ReacherSettings,
        plane: Plane,
        brake: float,
        ways: Sequence[Ending],
        latency: float = LATENCY,
    ) -> None:
        self._latency = latency
        self._plane, self._brake, self._dt, self._endings = plane, brake, settings.dt, ways
        self._least_brake = min([brake, *(one.brake for one in ways if one.brake is not None)])
        (self._y_low, self._z_low), (self._y_high, self._z_high) = (
            settings.box_low,
            settings.box_high,
        )
        (self._shoulder_low, self._elbow_low) = settings.joint_low
        (self._shoulder_high, self._elbow_high) = settings.joint_high
        self._time = latency + max([self._dt, *(one.hold for one in ways)])
        self._model = model = plane.model
        # Turning the shoulder or the elbow by an angle moves the tool by this much at most.
        self._radius_1, self._radius_2 = plane.reach, plane.reach + model.a2
        # Where the box keeps the wrist high, and the limits of the shoulder the elbow.
        dip = math.asin((model.d1 - LOWEST) / -model.a2)
        self._no_floor = (
            self._z_low - math.hypot(model.d5, model.d6) >= LOWEST
            and -math.pi - dip <= self._shoulder_low <= self._shoulder_high <= dip
        )

    def obstacle(
        self, command: Command, before: Command, q: Pair, qd: Pair, tool: Pair
    ) -> str | None:
        """Return what the arm could not avoid after a command, or None.

        Args:
            command: What may be sent.
            before: What was sent before.
            q: Angles of shoulder and elbow that the controller asks for, rad.
            qd: Their speeds, rad/s.
            tool: y and z of the tool there, m.

        Returns:
            ``"box"``, ``"floor"``, or ``"joint"``.
        """
        if self._is_far(command, before, q, qd, tool):
            return None
        reached, speeds = self._follow(before, q, qd, self._latency)
        what = self._stopping(command, reached, speeds, self._dt, self._brake, q)
        for hold, brake in self._endings:
            a = command.acceleration if brake is None else brake
            if what is None and (hold > self._dt or a < self._brake):
                what = self._stopping(command, reached, speeds, hold, a, q)
        return what

    def _stopping(
        self, command: Command, q: Pair, qd: Pair, hold: float, brake: float, now: Pair
    ) -> str | None:
        """Return what is violated if a command is followed for a time (s) before the arm brakes."""
        reached, speeds = self._follow(command, q, qd, hold)
        time = max(map(abs, speeds)) / brake
        # Halfway through the time of the stop three quarters of the way are done.
        stop_1, stop_2 = 0.5 * time * speeds[0], 0.5 * time * speeds[1]
        for part in (1.0, 0.75, 0.0):
            place = reached[0] + part * stop_1, reached[1] + part * stop_2
            if (what := self._violated(place, now)) is not None:
                return what
        return None

    def _is_far(self, command: Command, before: Command, q: Pair, qd: Pair, tool: Pair) -> bool:
        """Return whether every obstacle is further away than the arm can get meanwhile."""
        shoulder, elbow = q
        fastest_1 = max(abs(qd[0]), abs(command.shoulder), abs(before.shoulder))
        fastest_2 = max(abs(qd[1]), abs(command.elbow), abs(before.elbow))
        brake = min(self._least_brake, command.acceleration)
        time = self._time + 0.5 * max(fastest_1, fastest_2) / brake
        angle_1, angle_2 = time * fastest_1, time * fastest_2
        room = self._radius_1 * angle_1 + self._radius_2 * angle_2
        y, z = tool
        return (
            self._y_low + room <= y <= self._y_high - room
            and self._z_low + room <= z <= self._z_high - room
            and self._shoulder_low + angle_1 <= shoulder <= self._shoulder_high - angle_1
            and self._elbow_low + angle_2 <= elbow <= self._elbow_high - angle_2
            and (self._no_floor or min(self._heights(q)) - room >= LOWEST)
        )

    @staticmethod
    def _follow(command: Command, q: Pair, qd: Pair, time: float) -> tuple[Pair, Pair]:
        """Return angles and speeds after a command has been followed for a time (s)."""
        change_1, change_2 = command.shoulder - qd[0], command.elbow - qd[1]
        largest = max(abs(change_1), abs(change_2))
        ramp = largest / command.acceleration
        part = 1.0 if ramp <= time else time / ramp
        ramp = min(ramp, time)
        speeds = qd[0] + part * change_1, qd[1] + part * change_2
        rest = time - ramp
        return (
            q[0] + 0.5 * ramp * (qd[0] + speeds[0]) + rest * speeds[0],
            q[1] + 0.5 * ramp * (qd[1] + speeds[1]) + rest * speeds[1],
        ), speeds

    def _heights(self, q: Pair) -> Pair:
        """Return the heights of elbow and wrist (m)."""
        model = self._model
        elbow = model.d1 + model.a2 * math.sin(q[0])
        return elbow, elbow + model.a3 * math.sin(q[0] + q[1])

    def _violated(self, q: Pair, now: Pair) -> str | None:
        """Return what angles violate, unless the arm comes back with them."""
        y, z = self._plane.position(*q)
        if not (self._y_low <= y <= self._y_high and self._z_low <= z <= self._z_high):
            return "box"
        (shoulder, elbow), (shoulder_now, elbow_now) = q, now
        if not (
            min(self._shoulder_low, shoulder_now)
            <= shoulder
            <= max(self._shoulder_high, shoulder_now)
            and min(self._elbow_low, elbow_now) <= elbow <= max(self._elbow_high, elbow_now)
        ):
            return "joint"
        if not self._no_floor:
            for height, height_now in zip(self._heights(q), self._heights(now), strict=True):
                if height < min(LOWEST, height_now):
                    return "floor"
        return None
