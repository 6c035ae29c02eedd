"""The UR5 Reacher: bring the tool to a target in the plane by the speeds of two joints.

After Mahmood et al., "Setting up a Reinforcement Learning Task with a Real-World Robot" (2018),
as SenseAct has it. The simulation and the arm itself share this; it neither waits nor sends.

Observation (8,), single precision:

    index  meaning                                      unit         range
    0      angle of the shoulder                        rad          −2π … 2π
    1      angle of the elbow                           rad          −2π … 2π
    2      speed of the shoulder / speed_limit          1            −π/speed_limit … π/speed_limit
    3      speed of the elbow / speed_limit             1            −π/speed_limit … π/speed_limit
    4      y of the tool − y of the target              m            what the arm can reach
    5      z of the tool − z of the target              m            what the arm can reach
    6      action before, for the shoulder              speed_limit  −1 … 1
    7      action before, for the elbow                 speed_limit  −1 … 1

Action (2,): speeds of shoulder and elbow in units of speed_limit, clipped to −1 … 1.

Reward: (−d + exp(−d²/0.01)) dt/0.008, where d is the distance to the target in m. At most 5.

An episode is truncated after 4 s; it never terminates.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike, NDArray

from hesrl.envs.ur5.arm import MAX_SPEED, TICK
from hesrl.envs.ur5.guards import Guards
from hesrl.envs.ur5.kinematics import Command, Pair, Plane
from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.errors import UserError, one_line

REWARD_WIDTH = 0.01
"""Square of the distance at which the second term of the reward has fallen to 1/e (m²)."""


def reward(distance: float, dt: float) -> float:
    """Return the reward of a step of ``dt`` seconds at a distance (m) from tool to target."""
    return (math.exp(-distance * distance / REWARD_WIDTH) - distance) * (dt / TICK)


def action_space() -> Box[np.float32]:
    """Return the space of the actions."""
    return Box(-1.0, 1.0, (2,), np.float32)


def observation_space(settings: ReacherSettings) -> Box[np.float32]:
    """Return the space of the observations, which the arm cannot leave.

    A joint turns at most once around, either way, and no faster than π rad/s.
    """
    plane = settings.plane
    tool_low, tool_high = np.add.outer([-plane.reach, plane.reach], plane.shoulder)
    turn, speed, action = np.full((3, 2), [[math.tau], [MAX_SPEED / settings.speed_limit], [1]])
    low = np.concatenate([-turn, -speed, tool_low - settings.box_high, -action])
    high = np.concatenate([turn, speed, tool_high - settings.box_low, action])
    return Box(low.astype(np.float32), high.astype(np.float32))


def sample_target(settings: ReacherSettings, plane: Plane, rng: np.random.Generator) -> Pair:
    """Return y and z of a target (m).

    Angles are drawn uniformly from the joints' limits until they bring the tool into the box.
    """
    (y_low, z_low), (y_high, z_high) = settings.box_low, settings.box_high
    buffer = settings.box_buffer
    joints = list(zip(settings.joint_low, settings.joint_high, strict=True))
    while True:
        y, z = plane.position(*[rng.uniform(low, high) for low, high in joints])
        if y_low + buffer <= y <= y_high - buffer and z_low + buffer <= z <= z_high - buffer:
            return y, z


def target_of(options: dict[str, Any] | None, settings: ReacherSettings) -> Pair | None:
    """Return the target that the options of a reset name, or None.

    Args:
        options: None, or a dict that may have ``"target"``: y and z in m, inside the box.
        settings: The box.

    Raises:
        UserError: There is another option, or the target is not inside the box.
    """
    unknown = sorted((options or {}).keys() - {"target"})
    if unknown:
        raise UserError(f"reset: unknown option {unknown[0]!r}; the only one is 'target'")
    if not options:
        return None
    target = np.asarray(options["target"], dtype=np.float64)
    low, high = settings.box_low, settings.box_high
    if target.shape != (2,) or not ((low <= target) & (target <= high)).all():
        raise UserError(
            f"reset: target {options['target']} must be y and z (m) from {low} to {high}"
        )
    y, z = target.tolist()
    return y, z


def clipped_action(action: ArrayLike) -> Pair:
    """Return an action as two numbers from −1 to 1.

    Raises:
        ValueError: It is not two finite numbers.
    """
    array = np.asarray(action)
    if array.shape == (2,) and array.dtype.kind in "fiu":
        shoulder, elbow = array.tolist()
        if math.isfinite(shoulder) and math.isfinite(elbow):
            return min(max(shoulder, -1.0), 1.0), min(max(elbow, -1.0), 1.0)
    given = one_line(repr(action))
    raise ValueError(f"an action must be two finite numbers of shape (2,), not {given}")


class Task:
    """The task of one arm: target, guards, and the action before.

    Args:
        settings: Its numbers.

    Attributes:
        settings: Its numbers.
        plane: The arm's kinematics.
        guards: The guards.
        target: y and z of the target (m).
        distance: From tool to target when it was last observed (m).
        action: The action before, as observed, in units of the speed limit.
    """

    def __init__(self, settings: ReacherSettings) -> None:
        self.settings = settings
        self.plane = settings.plane
        self.guards = Guards(settings, self.plane)
        self.target: Pair = (math.nan, math.nan)
        self.distance = math.nan
        self.action: Pair = (0.0, 0.0)

    def reset(self, rng: np.random.Generator, options: dict[str, Any] | None = None) -> None:
        """Begin an episode: a new target, and zero for the action before.

        Args:
            rng: Where the target comes from, if the options do not name it.
            options: As `target_of` takes them.

        Raises:
            UserError: The options are impossible; nothing has changed then.
        """
        target = target_of(options, self.settings)
        self.target = target or sample_target(self.settings, self.plane, rng)
        self.action = (0.0, 0.0)
        self.guards.reset()

    def command(
        self, action: ArrayLike, q_target: Pair, q: Pair, qd: Pair, qd_target: Pair
    ) -> Command:
        """Return what to send for an action, after the guards.

        Args:
            action: Speeds of shoulder and elbow (2,) in units of the limit.
            q_target: Angles of shoulder and elbow that the controller asks for, rad.
            q: Their angles, rad.
            qd: Their speeds, rad/s.
            qd_target: The speeds that the controller asks for, rad/s.

        Raises:
            ValueError: The action is not two finite numbers; nothing has changed then.
        """
        self.action = shoulder, elbow = clipped_action(action)
        limit = self.settings.speed_limit
        command = Command(shoulder * limit, elbow * limit, self.settings.acceleration)
        return self.guards(command, q_target, q, qd, qd_target)

    def observe(self, q: Pair, qd: Pair) -> tuple[NDArray[np.float32], float]:
        """Return the observation (8,) and the reward, and set `distance`.

        Args:
            q: Angles of shoulder and elbow, rad.
            qd: Their speeds, rad/s.
        """
        settings, (target_y, target_z) = self.settings, self.target
        (shoulder, elbow), (shoulder_speed, elbow_speed) = q, qd
        y, z = self.plane.position(shoulder, elbow)
        dy, dz = y - target_y, z - target_z
        self.distance = distance = math.sqrt(dy * dy + dz * dz)
        limit = settings.speed_limit
        obs = np.array(
            [shoulder, elbow, shoulder_speed / limit, elbow_speed / limit, dy, dz, *self.action],
            dtype=np.float32,
        )
        return obs, reward(distance, settings.dt)
