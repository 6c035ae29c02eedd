"""The guards that keep tool, wrist and elbow where they may be, and the joints within their limits.

They look at the arm before a command is sent. First, where the angles that the controller asks for
have the tool outside the box all the same, the arm goes back towards the nearest point inside, at
0.1 rad/s in the space of the joints, with the acceleration

    a = clip(max|qd| v₀ / 0.05, brake, 5),    v₀ = max|qd| when the tool left the box.

Then the joints: one beyond its limit gets the speed of the faster joint, inward. These two are
SenseAct's. Last comes foresight: a command after which the arm could not stop in time, also if no
other command came, is sent with the acceleration ``brake``, then with three quarters, a half or a
quarter of its speeds, or for one joint only, or the arm brakes, with the deceleration

    brake = clip(speed_limit² / 0.05, 2, 5), but not below the acceleration of the task.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hesrl.envs.ur5.foresight import (
    DECELERATIONS,
    LATENCY,
    STOPPING_ANGLE,
    Ending,
    Foresight,
    endings,
)
from hesrl.envs.ur5.kinematics import Command, Pair, Plane
from hesrl.envs.ur5.reacher_settings import ReacherSettings

RETURN_SPEED = 0.1
"""Norm of the joints' speeds on the way back into the box (rad/s)."""
_PARTS = ((1.0, 1.0), (0.75, 0.75), (0.5, 0.5), (0.25, 0.25), (0.0, 1.0), (1.0, 0.0))
"""Parts of the speeds of shoulder and elbow that are tried where the whole is too much."""


class Guards:
    """The guards of one arm, which remember where it is going back to.

    Args:
        settings: Box and limits.
        plane: The arm.
        brake: Deceleration of a stop (rad/s²); None for that of the speed limit.
        ways: How the arm stops when no other command comes; None for the ways of the driver.
        latency: Time from a packet until a command that answers it is obeyed (s).

    Attributes:
        active: The guard that replaced the last command: ``"box"``, ``"floor"``, ``"joint"`` or
            None.
        brake: Deceleration of a stop (rad/s²).
    """

    def __init__(
        self,
        settings: ReacherSettings,
        plane: Plane,
        brake: float | None = None,
        ways: Sequence[Ending] | None = None,
        latency: float = LATENCY,
    ) -> None:
        self._settings, self._plane = settings, plane
        (self._y_low, self._z_low), (self._y_high, self._z_high) = (
            settings.box_low,
            settings.box_high,
        )
        (self._shoulder_low, self._elbow_low) = settings.joint_low
        (self._shoulder_high, self._elbow_high) = settings.joint_high
        if brake is None:
            least, most = DECELERATIONS
            brake = min(max(settings.speed_limit**2 / STOPPING_ANGLE, least), most)
            brake = max(brake, settings.acceleration)
        self.brake = brake
        ways = endings(settings) if ways is None else ways
        self._foresight = Foresight(settings, plane, brake, ways, latency)
        self.reset()

    def reset(self) -> None:
        """Forget the way back: the arm is at the start."""
        self.active: str | None = None
        self._return_point: Pair | None = None
        self._exit_speed = 0.0
        self._before = Command(0.0, 0.0, self.brake)

    def __call__(
        self, command: Command, q_target: Pair, q: Pair, qd: Pair, qd_target: Pair
    ) -> Command:
        """Return the command, or what takes its place.

        Args:
            command: What the agent asks for.
            q_target: Angles of shoulder and elbow that the controller asks for, rad.
            q: Their angles, rad.
            qd: Their speeds, rad/s.
            qd_target: The speeds that the controller asks for, rad/s.
        """
        self._before = sent = self._guarded(command, q_target, q, qd, qd_target)
        return sent

    def _guarded(
        self, command: Command, q_target: Pair, q: Pair, qd: Pair, qd_target: Pair
    ) -> Command:
        shoulder, elbow = q_target
        y, z = self._plane.position(shoulder, elbow)
        if not (self._y_low <= y <= self._y_high and self._z_low <= z <= self._z_high):
            self.active = "box"
            return self._into_box(y, z, q_target, q, qd)
        self.active = self._return_point = None
        if not (
            self._shoulder_low <= shoulder <= self._shoulder_high
            and self._elbow_low <= elbow <= self._elbow_high
        ):
            self.active = "joint"
            command = self._into_limits(command, q)
        look = self._foresight.obstacle
        obstacle = look(command, self._before, q_target, qd_target, (y, z))
        if obstacle is None:
            return command
        self.active = obstacle
        for part_1, part_2 in _PARTS:
            slower = Command(part_1 * command.shoulder, part_2 * command.elbow, self.brake)
            if look(slower, self._before, q_target, qd_target, (y, z)) is None:
                return slower
        return Command(0.0, 0.0, self.brake)

    def _into_box(self, y: float, z: float, q_target: Pair, q: Pair, qd: Pair) -> Command:
        fastest = max(map(abs, qd))
        if self._return_point is None:
            buffer = self._settings.box_buffer
            dy = min(max(y, self._y_low + buffer), self._y_high - buffer) - y
            dz = min(max(z, self._z_low + buffer), self._z_high - buffer) - z
            # Where the arm is too short to keep its orientation, it stops.
            self._return_point = self._plane.shifted(q_target, dy, dz) or q
            self._exit_speed = fastest
        way = [there - here for there, here in zip(self._return_point, q, strict=True)]
        length = math.hypot(*way)
        scale = RETURN_SPEED / length if length > 0 else 0.0
        a = min(max(fastest * self._exit_speed / STOPPING_ANGLE, self.brake), DECELERATIONS[1])
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
