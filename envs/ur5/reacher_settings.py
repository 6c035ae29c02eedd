"""The numbers of the UR5 Reacher, in its form with two joints and control of their speeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hesrl.envs.ur5.arm import TICK
from hesrl.envs.ur5.bounds import LOWEST, check
from hesrl.envs.ur5.kinematics import ARM_MODELS, ArmModel, Pair, Plane
from hesrl.errors import UserError

BOX_X = (-0.2, 0.2)
"""Smallest and largest x of the tool (m), which no setting lets shoulder and elbow leave."""
LEAST_SHARE = 1e-3
"""Least share of the angles of shoulder and elbow that bring the tool into the box."""
_GRID = 150
"""Angles of either joint that are tried for it."""


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
    """the joints that move, counted from 0: always shoulder and elbow"""
    box_low: Pair = (-0.3, 0.5)
    """smallest y and z that the tool may have (m)"""
    box_high: Pair = (0.4, 1.0)
    """largest y and z (m)"""
    joint_low: Pair = (math.radians(-180), math.radians(-120))
    """smallest angles of shoulder and elbow (rad)"""
    joint_high: Pair = (math.radians(-60), math.radians(130))
    """largest angles of shoulder and elbow (rad)"""
    box_buffer: float = 0.001
    """how far inside the box a target lies, or the point to return to (m)"""
    joint_buffer: float = 0.001
    """how far inside its limits a joint must be to move freely again (rad)"""
    arm_model: str = "ur5"
    """whose lengths the arm has: "ur5", of a CB3 controller, or "ur5e", of an e-Series"""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check(name, value)
        for name, unit, whole in (("dt", TICK, "8 ms"), ("episode_time", self.dt, "dt")):
            value = getattr(self, name)
            if not math.isclose(value, unit * round(value / unit), rel_tol=1e-9):
                raise UserError(f"{name} is {value} s; it must be a multiple of {whole}")
        self._check_places()

    def _check_places(self) -> None:
        """Refuse a box or limits that are empty, out of reach, or not around the start."""
        for what, buffer in (("box", self.box_buffer), ("joint", self.joint_buffer)):
            low, high = getattr(self, f"{what}_low"), getattr(self, f"{what}_high")
            if not all(a + 2 * buffer < b for a, b in zip(low, high, strict=True)):
                raise UserError(
                    f"{what}_low is {low} and {what}_high {high}: each number of {what}_high has "
                    f"to be larger by more than {2 * buffer:g}"
                )
        plane, start = self.plane, [self.q_ref[joint] for joint in self.joints]
        if not BOX_X[0] <= plane.x_range[0] <= plane.x_range[1] <= BOX_X[1]:
            raise UserError(
                f"q_ref is {self.q_ref}: joint 0 has to be nearer to π/2 or −π/2 rad, so that x of "
                f"the tool stays from {BOX_X[0]} to {BOX_X[1]} m"
            )
        for what, numbers in (("joint", start), ("box", plane.position(*start))):
            low, high = getattr(self, f"{what}_low"), getattr(self, f"{what}_high")
            if not all(a <= x <= b for a, x, b in zip(low, numbers, high, strict=True)):
                place = "shoulder and elbow" if what == "joint" else "y and z of the tool"
                raise UserError(
                    f"q_ref is {self.q_ref}: {place} at the start are "
                    f"({numbers[0]:.3f}, {numbers[1]:.3f}); they must be from {low} to {high} "
                    f"({what}_low, {what}_high)"
                )
        if (lowest := float(self.model.elbow_wrist_tool(self.q_ref)[:, 2].min())) < LOWEST:
            raise UserError(
                f"q_ref is {self.q_ref}: elbow, wrist or tool would be at z = {lowest:.3f} m; it "
                f"must be {LOWEST} m at least"
            )
        q = np.tile(self.q_ref, (_GRID, _GRID, 1))
        q[..., self.joints] = np.stack(
            np.meshgrid(*np.linspace(self.joint_low, self.joint_high, _GRID).T), axis=-1
        )
        places, buffer = self.model.forward(q)[..., 1:], self.box_buffer
        inside = (places >= np.add(self.box_low, buffer)) & (
            places <= np.subtract(self.box_high, buffer)
        )
        if (share := float(inside.all(axis=-1).mean())) < LEAST_SHARE:
            raise UserError(
                f"box_low is {self.box_low} and box_high {self.box_high}: {100 * share:.2g} % of "
                f"the angles of the joints reach it; it must be {100 * LEAST_SHARE:g} % at least"
            )

    @property
    def model(self) -> ArmModel:
        """The lengths of the arm."""
        return ARM_MODELS[self.arm_model]

    @property
    def plane(self) -> Plane:
        """The arm at the start, whose shoulder and elbow move."""
        return Plane(self.q_ref, self.model)

    @cached_property
    def ticks_per_step(self) -> int:
        """Cycles of the controller between two actions."""
        return round(self.dt / TICK)

    @cached_property
    def max_episode_steps(self) -> int:
        """Actions in an episode."""
        return round(self.episode_time / self.dt)
