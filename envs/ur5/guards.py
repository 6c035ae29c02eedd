"""The guards that turn the arm back where it leaves the box or the limits of a joint.

They look at the arm once per action, before it is sent, as SenseAct's do. Box first: where the
angles that the controller asks for bring the tool out of the box, the arm goes back towards the
nearest point inside, at 0.1 rad/s in the space of the joints, with the acceleration

    a = clip(max|qd| v₀ / 0.05, 2, 5),    v₀ = max|qd| when the tool left the box.

Then the joints: one beyond its limit gets the speed of the faster joint, inward.

The arm needs time to turn back. In simulation, under any constant action from the start pose, the
tool got 4 cm outside the box at a speed limit of 0.3 rad/s, and 17 cm at one of 1.0 rad/s; a joint
got 0.04 and 0.26 rad beyond its limit. Leave that room around the box.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from hesrl.envs.ur5.kinematics import Pair, Plane
from hesrl.envs.ur5.reacher_settings import ReacherSettings

RETURN_SPEED = 0.1
"""Norm of the joints' speeds on the way back into the box (rad/s)."""
RETURN_ACCELERATIONS = (2.0, 5.0)
"""Smallest and largest acceleration of the way back (rad/s²)."""
STOPPING_ANGLE = 0.05
"""Angle from which the acceleration of the way back follows (rad)."""


class Command(NamedTuple):
    """What the arm is asked to do until the next command."""

    shoulder: float
    """Speed of the shoulder (rad/s)."""
    elbow: float
    """Speed of the elbow (rad/s)."""
    acceleration: float
    """Acceleration of the joint whose speed changes most (rad/s²)."""


class Guards:
    """The guards of one arm, which remember where it is going back to.

    Args:
        settings: Box and limits.
        plane: The arm.

    Attributes:
        active: The guard that replaced the last command: ``"box"``, ``"joint"`` or None.
    """

    def __init__(self, settings: ReacherSettings, plane: Plane) -> None:
        self._settings, self._plane = settings, plane
        (self._y_low, self._z_low), (self._y_high, self._z_high) = (
            settings.box_low,
            settings.box_high,
        )
        (self._shoulder_low, self._elbow_low) = settings.joint_low
        (self._shoulder_high, self._elbow_high) = settings.joint_high
        self.reset()

    def reset(self) -> None:
        """Forget the way back: the arm is at the start."""
        self.active: str | None = None
        self._return_point: Pair | None = None
        self._exit_speed = 0.0

    def __call__(self, command: Command, q_target: Pair, q: Pair, qd: Pair) -> Command:
        """Return the command, or what takes its place.

        Args:
            command: What the agent asks for.
            q_target: Angles of shoulder and elbow that the controller asks for, rad.
            q: Their angles, rad.
            qd: Their speeds, rad/s.
        """
        shoulder, elbow = q_target
        y, z = self._plane.position(shoulder, elbow)
        if not (self._y_low <= y <= self._y_high and self._z_low <= z <= self._z_high):
            self.active = "box"
            return self._into_box(y, z, q, qd)
        self.active = self._return_point = None
        if (
            self._shoulder_low <= shoulder <= self._shoulder_high
            and self._elbow_low <= elbow <= self._elbow_high
        ):
            return command
        self.active = "joint"
        return self._into_limits(command, q)

    def _into_box(self, y: float, z: float, q: Pair, qd: Pair) -> Command:
        fastest = max(map(abs, qd))
        if self._return_point is None:
            buffer = self._settings.box_buffer
            dy = min(max(y, self._y_low + buffer), self._y_high - buffer) - y
            dz = min(max(z, self._z_low + buffer), self._z_high - buffer) - z
            # Where the arm is too short to keep its orientation, it stops.
            self._return_point = self._plane.shifted(q, dy, dz) or q
            self._exit_speed = fastest
        way = [there - here for there, here in zip(self._return_point, q, strict=True)]
        length = math.hypot(*way)
        scale = RETURN_SPEED / length if length > 0 else 0.0
        least, most = RETURN_ACCELERATIONS
        a = min(max(fastest * self._exit_speed / STOPPING_ANGLE, least), most)
        return Command(way[0] * scale, way[1] * scale, a)

    def _into_limits(self, command: Command, q: Pair) -> Command:
        settings, buffer = self._settings, self._settings.joint_buffer
        speed = max(abs(command.shoulder), abs(command.elbow))
        speeds = [command.shoulder, command.elbow]
        for joint in range(2):
            if q[joint] < settings.joint_low[joint] + buffer:
                speeds[joint] = speed
            elif q[joint] > settings.joint_high[joint] - buffer:
                speeds[joint] = -speed
        return Command(speeds[0], speeds[1], command.acceleration)
