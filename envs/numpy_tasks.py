"""MuJoCo v5 tasks whose steps are computed in NumPy, of N simulations at once.

The equations are those of Gymnasium's classes, in their order of operations, so that every bit is
equal. `hesrl.envs.mujoco_tasks` has the tasks that a compiled step knows; NumPy's sines and dot
products round otherwise in C. What a batch would round otherwise is computed for one simulation
after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.envs.mujoco.inverted_double_pendulum_v5 import InvertedDoublePendulumEnv
from gymnasium.envs.mujoco.pusher_v5 import PusherEnv
from gymnasium.envs.mujoco.reacher_v5 import ReacherEnv
from numpy.typing import NDArray

from hesrl.envs.mujoco_threads import Simulations

Floats = NDArray[np.float64]
Outcome = tuple[NDArray[Any], NDArray[np.bool_] | None]
"""Rewards (N,), and whether each simulation has reached a terminal state (N,); None: none can."""


class Task:
    """A task in N simulations.

    Args:
        env: An environment of the task; its settings hold.
        simulations: The simulations.
    """

    def __init__(self, env: Any, simulations: Simulations) -> None:
        self.env, self.field = env, simulations.field
        self.qpos, self.qvel = self.field("qpos"), self.field("qvel")

    def observed(self) -> Sequence[Floats]:
        """Return what is observed, in parts (N, …)."""
        raise NotImplementedError

    def outcome(self, actions: NDArray[Any]) -> Outcome:
        """Return what a step with actions (N, act_dim) led to, once after each step."""
        raise NotImplementedError


class InvertedDoublePendulum(Task):
    """InvertedDoublePendulum-v5."""

    def __init__(self, env: Any, simulations: Simulations) -> None:
        super().__init__(env, simulations)
        self._tip, self._constraint = self.field("site_xpos"), self.field("qfrc_constraint")

    def observed(self) -> Sequence[Floats]:
        """Return the cart's position, the angles, velocities and the force on the cart."""
        angles = self.qpos[:, 1:].copy()
        velocities, force = _clipped(self.qvel, -10, 10), _clipped(self._constraint, -10, 10)
        return self.qpos[:, :1], np.sin(angles), np.cos(angles), velocities, force[:, :1]

    def outcome(self, actions: NDArray[Any]) -> Outcome:
        """Return rewards and terminations; powers of single numbers round otherwise."""
        rewards = []
        ends = self._tip[:, 2] <= 1
        numbers = zip(self._tip.tolist(), self.qvel.tolist(), ends.tolist(), strict=True)
        for (x, _, y, *_), (_, v1, v2), terminated in numbers:
            distance_penalty = 0.01 * x**2 + (y - 2) ** 2
            velocity_penalty = 1e-3 * v1**2 + 5e-3 * v2**2
            alive = self.env._healthy_reward * int(not terminated)
            rewards.append(alive - distance_penalty - velocity_penalty)
        return np.array(rewards), ends


class Reacher(Task):
    """Reacher-v5."""

    def __init__(self, env: Any, simulations: Simulations) -> None:
        super().__init__(env, simulations)
        self._fingertip, self._target = self.bodies("fingertip", "target")
        self._offset = self._fingertip - self._target

    def bodies(self, *names: str) -> list[Floats]:
        """Return the positions of bodies, each (N, 3)."""
        positions = self.field("xpos")
        ids = (self.env.data.body(name).id for name in names)
        return [positions[:, 3 * body : 3 * body + 3] for body in ids]

    def observed(self) -> Sequence[Floats]:
        """Return the angles, the target, velocities and the way to the target."""
        angles = self.qpos[:, :2].copy()
        self._offset = self._fingertip - self._target
        rest = self.qpos[:, 2:], self.qvel[:, :2], self._offset[:, :2]
        return np.cos(angles), np.sin(angles), *rest

    def control_rewards(self, actions: NDArray[Any]) -> NDArray[Any]:
        """Return the negative costs of actions (N,)."""
        rewards: NDArray[Any] = -_sums_of_squares(actions) * self.env._reward_control_weight
        return rewards

    def outcome(self, actions: NDArray[Any]) -> Outcome:
        """Return the rewards."""
        distance = -_norms(self._offset) * self.env._reward_dist_weight
        return distance + self.control_rewards(actions), None


class Pusher(Reacher):
    """Pusher-v5."""

    def __init__(self, env: Any, simulations: Simulations) -> None:
        Task.__init__(self, env, simulations)
        self._tip, self._object, self._goal = self.bodies("tips_arm", "object", "goal")

    def observed(self) -> Sequence[Floats]:
        """Return the arm's angles and velocities, and where its tip, object and goal are."""
        return self.qpos[:, :7], self.qvel[:, :7], self._tip, self._object, self._goal

    def outcome(self, actions: NDArray[Any]) -> Outcome:
        """Return the rewards."""
        near = -_norms(self._object - self._tip) * self.env._reward_near_weight
        distance = -_norms(self._object - self._goal) * self.env._reward_dist_weight
        return distance + self.control_rewards(actions) + near, None


NUMPY_TASKS: dict[type, type[Task]] = {
    InvertedDoublePendulumEnv: InvertedDoublePendulum,
    PusherEnv: Pusher,
    ReacherEnv: Reacher,
}
"""The tasks by Gymnasium's classes."""


def _sums_of_squares(rows: NDArray[Any]) -> NDArray[Any]:
    return np.add.reduce(np.square(rows), axis=1)


def _clipped(numbers: Floats, low: float, high: float) -> Floats:
    return np.minimum(np.maximum(numbers, low), high)


def _norms(rows: Floats) -> Floats:
    """Return the norms of rows; the dot product of a single vector rounds otherwise."""
    return np.array([math.sqrt(row.dot(row)) for row in rows])
