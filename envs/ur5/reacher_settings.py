"""The numbers of the UR5 Reacher, in its form with two joints and control of their speeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from hesrl.envs.ur5.arm import TICK
from hesrl.envs.ur5.kinematics import Pair
from hesrl.errors import UserError


@dataclass(frozen=True)
class ReacherSettings:
    """The numbers of the task. The defaults are taken from SenseAct's example.

    The paper's runs have ``speed_limit=1.0, acceleration=2.0``.

    Raises:
        UserError: A number is impossible.
    """

    speed_limit: float = 0.3
    """largest speed of a joint (rad/s), which an action of 1 asks for"""
    acceleration: float = 1.4
    """acceleration towards that speed (rad/s²)"""
    dt: float = 0.04
    """time between two actions (s), a multiple of the controller's 8 ms"""
    episode_time: float = 4.0
    """length of an episode (s)"""
    t_min: float = 0.008
    """how long a speed is held after it was last sent (s)"""
    q_ref: tuple[float, ...] = (1.58724391, -2.4, 1.5, -0.71790582, 1.63685572, 1.00910473)
    """joint angles at the start (6,), rad"""
    joints: tuple[int, int] = (1, 2)
    """the joints that move, counted from 0: shoulder and elbow"""
    box_low: Pair = (-0.3, 0.5)
    """smallest y and z that the tool may have (m)"""
    box_high: Pair = (0.4, 1.0)
    """largest y and z (m); x cannot leave [−0.2, 0.2] while only shoulder and elbow move"""
    joint_low: Pair = (math.radians(-180), math.radians(-120))
    """smallest angles of shoulder and elbow (rad)"""
    joint_high: Pair = (math.radians(-60), math.radians(130))
    """largest angles of shoulder and elbow (rad)"""
    box_buffer: float = 0.001
    """how far inside the box a target lies, or the point to return to (m)"""
    joint_buffer: float = 0.001
    """how far inside its limits a joint must be to move freely again (rad)"""

    def __post_init__(self) -> None:
        for name in ("speed_limit", "acceleration", "dt", "episode_time", "t_min"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise UserError(f"{name} is {value}; it must be a finite number above 0")
        for name, unit, whole in (("dt", TICK, "8 ms"), ("episode_time", self.dt, "dt")):
            value = getattr(self, name)
            if not math.isclose(value, unit * round(value / unit), rel_tol=1e-9):
                raise UserError(f"{name} is {value} s; it must be a multiple of {whole}")

    @cached_property
    def ticks_per_step(self) -> int:
        """Cycles of the controller between two actions."""
        return round(self.dt / TICK)

    @cached_property
    def max_episode_steps(self) -> int:
        """Actions in an episode."""
        return round(self.episode_time / self.dt)
