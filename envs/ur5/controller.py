"""The emulated controller behind the ports: commands, stops and packets, in virtual time."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import ArrayLike

from hesrl.envs.ur5.arm import TICK, Arm
from hesrl.envs.ur5.dashboard import LOCKED, UNLOCK, UNLOCKED
from hesrl.envs.ur5.emulated_faults import Faults
from hesrl.envs.ur5.kinematics import forward, in_base_frame
from hesrl.envs.ur5.protocol import (
    CYCLE,
    NORMAL,
    PACKET,
    PROTECTIVE_STOP,
    pack,
)
from hesrl.envs.ur5.urscript import parse

RELEASING = 0.4
"""Time from the command that unlocks the arm until it obeys (s)."""
_BRAKE = 20.0
"""Deceleration of the controller's own stops (rad/s²)."""


class Controller:
    """A controller in normal mode, with an arm at rest.

    Args:
        q: Joint angles of the arm (6,), rad.

    Attributes:
        arm: The arm.
        faults: What it does wrong.
        safety_mode: A key of `SAFETY_MODES`.
        commands: The last commands, each with the time at which it came (s).
        max_speed: Largest target speed of a joint so far (rad/s).
        max_acceleration: Largest target acceleration (rad/s²), its own stops not counted.
    """

    def __init__(self, q: ArrayLike) -> None:
        self.arm, self.faults = Arm(q), Faults()
        self._start = self.arm.q_target
        self.safety_mode = NORMAL
        self.commands: deque[tuple[float, str]] = deque(maxlen=4096)
        self.max_speed = self.max_acceleration = 0.0
        self._stopped_at, self._released_at, self._gained = 0.0, math.inf, 0.0
        self._packet = b""

    def cycle(self) -> bytes:
        """Let 8 ms pass and return the packet that says what is then."""
        self.arm.tick()
        if self.safety_mode == NORMAL:
            self.max_speed = max(self.max_speed, float(np.abs(self.arm.qd_target).max()))
            acceleration = float(np.abs(self.arm.qdd_target).max())
            self.max_acceleration = max(self.max_acceleration, acceleration)
        elif self.arm.time >= self._released_at:
            self.enter(NORMAL)
        if not self.faults.frozen:
            self._packet = self._make_packet()
        return self._packet

    def enter(self, safety_mode: int) -> None:
        """Go into a safety mode; in all but the first the arm brakes and obeys no more."""
        self.safety_mode, self._released_at = safety_mode, math.inf
        if safety_mode != NORMAL:
            self.arm.brake(_BRAKE)
            self._stopped_at = self.arm.time

    def clear(self) -> None:
        """Go back to normal mode, do nothing wrong any more and forget the extremes."""
        self.faults = Faults()
        self.max_speed = self.max_acceleration = 0.0
        self.enter(NORMAL)

    def put_back(self) -> None:
        """Let the arm be where it began, at rest, without a way there."""
        self.arm.put(self._start)

    def obey(self, line: str) -> None:
        """Take a line of URScript.

        Raises:
            ValueError: It is no command.
        """
        name, joints, options = parse(line)
        if self.safety_mode == NORMAL and not self.faults.deaf:
            if name == "speedj":
                speeds = np.multiply(joints, self.faults.scale)
                if self.faults.ignored >= 0:
                    speeds[self.faults.ignored] = 0.0
                self.arm.speedj(speeds, options.get("a", math.nan), options.get("t", CYCLE))
            elif name == "movej":
                a, v = options.get("a", 1.4), options.get("v", 1.05)
                self.arm.movej(joints, a, v, options.get("t", 0.0))
            else:
                self.arm.stopj(options.get("a", math.nan))
        self.commands.append((self.arm.time, line))

    def dashboard(self, line: str) -> str | None:
        """Take a line of the dashboard and return the answer, or None for none."""
        if self.faults.dashboard_silent:
            return None
        if line != UNLOCK:
            return f"could not understand: {line}"
        if self.safety_mode != PROTECTIVE_STOP:
            return "No protective stop to unlock"
        if self.arm.time - self._stopped_at < LOCKED:
            return f"Cannot unlock protective stop until {LOCKED:g}s after occurrence"
        if not self.faults.stays_locked:
            self._released_at = self.arm.time + RELEASING
        return UNLOCKED

    def _tool(self, q: ArrayLike) -> list[float]:
        """Return x, y and z of the tool (m), in the base frame, for joint angles (6,)."""
        x, y, z = in_base_frame(forward(q)).tolist()
        return [x, y, z + self.faults.tool_offset]

    def _make_packet(self) -> bytes:
        arm, faults, size = self.arm, self.faults, self.faults.size
        self._gained += (faults.clock_rate - 1) * TICK
        packet = pack(
            max(size, PACKET.itemsize),
            time=arm.time + self._gained + self.faults.clock_ahead,
            q_target=arm.q_target,
            qd_target=arm.qd_target,
            qdd_target=arm.qdd_target,
            q_actual=np.full(6, np.nan) if faults.not_finite else arm.q_actual + faults.turns,
            qd_actual=arm.qd_actual,
            # Rotations are not emulated.
            tool_vector_actual=[*self._tool(arm.q_actual), 0, 0, 0],
            tool_vector_target=[*self._tool(arm.q_target), 0, 0, 0],
            robot_mode=faults.robot_mode,
            joint_modes=253,
            safety_mode=self.safety_mode,
            speed_scaling=faults.speed_scaling,
        )
        return size.to_bytes(4, "big", signed=True) + packet[4:]
