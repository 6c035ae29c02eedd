"""Observations, rewards and terminations of Gymnasium's MuJoCo v5 tasks, of N simulations at once.

The equations are those of Gymnasium's classes, in their order of operations, so that every bit is
equal. What a batch would round otherwise is computed for one simulation after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.humanoid_v5 import HumanoidEnv
from gymnasium.envs.mujoco.humanoidstandup_v5 import HumanoidStandupEnv
from gymnasium.envs.mujoco.inverted_double_pendulum_v5 import InvertedDoublePendulumEnv
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv
from gymnasium.envs.mujoco.pusher_v5 import PusherEnv
from gymnasium.envs.mujoco.reacher_v5 import ReacherEnv
from gymnasium.envs.mujoco.swimmer_v5 import SwimmerEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv
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

    Attributes:
        contact_forces: Whether a step has to compute contact forces.
    """

    contact_forces: ClassVar[bool] = False

    def __init__(self, env: Any, simulations: Simulations) -> None:
        self.env, self.field = env, simulations.field
        self.qpos, self.qvel = self.field("qpos"), self.field("qvel")

    def begin(self, i: int, env: Any) -> None:
        """Note what a step needs of the state before it, of the environment of simulation i."""

    def observed(self) -> Sequence[Floats]:
        """Return what is observed, in parts (N, …)."""
        raise NotImplementedError

    def outcome(self, actions: NDArray[Any]) -> Outcome:
        """Return what a step with actions (N, act_dim) led to, once after each step."""
        raise NotImplementedError


class Runner(Task):
    """A task that rewards velocity along x."""

    hidden: ClassVar[int] = 1
    """Positions that are not observed, unless the settings say otherwise."""

    def __init__(self, env: Any, simulations: Simulations) -> None:
        super().__init__(env, simulations)
        self._x = np.zeros(len(self.qpos))
        hidden = self.hidden if env._exclude_current_positions_from_observation else 0
        self.seen = self.qpos[:, hidden:]

    def begin(self, i: int, env: Any) -> None:
        """Note where the body is."""
        self._x[i] = env.data.qpos[0]

    def positions(self) -> Floats:
        """Return x of each simulation (N,)."""
        return self.qpos[:, 0]

    def observed(self) -> Sequence[Floats]:
        """Return positions and velocities."""
        return self.seen, self.qvel

    def forward_rewards(self) -> Floats:
        """Return the rewards for velocity (N,)."""
        x = self.positions()
        velocities: Floats = (x - self._x) / self.env.dt
        self._x[...] = x
        return self.env._forward_reward_weight * velocities

    def control_costs(self, actions: NDArray[Any]) -> NDArray[Any]:
        """Return the costs of actions (N,)."""
        costs: NDArray[Any] = self.env._ctrl_cost_weight * _sums_of_squares(actions)
        return costs

    def outcome(self, actions: NDArray[Any]) -> Outcome:
        """Return the rewards."""
        return self.forward_rewards() - self.control_costs(actions), None

    def outcome_by_health(self, healthy: NDArray[np.bool_], costs: NDArray[Any]) -> Outcome:
        """Return the outcome where health is rewarded and its loss may be the end."""
        rewards = self.forward_rewards() + healthy * self.env._healthy_reward
        return rewards - costs, ~healthy if self.env._terminate_when_unhealthy else None


class Swimmer(Runner):
    """Swimmer-v5."""

    hidden = 2


class Walker2d(Runner):
    """Walker2d-v5."""

    def observed(self) -> Sequence[Floats]:
        """Return positions and clipped velocities."""
        return self.seen, _clipped(self.qvel, -10, 10)

    def healthy(self) -> NDArray[np.bool_]:
        """Return whether height and angle are healthy (N,)."""
        return _within(self.qpos[:, 1], self.env._healthy_z_range) & _within(
            self.qpos[:, 2], self.env._healthy_angle_range
        )

    def outcome(self, actions: NDArray[Any]) -> Outcome:
        """Return rewards and terminations."""
        return self.outcome_by_health(self.healthy(), self.control_costs(actions))


class Hopper(Walker2d):
    """Hopper-v5."""

    def healthy(self) -> NDArray[np.bool_]:
        """Return whether height, angle and all other numbers are healthy (N,)."""
        bounds = self.env._healthy_state_range
        in_range = _within(self.qpos[:, 2:], bounds).all(1) & _within(self.qvel, bounds).all(1)
        return in_range & super().healthy()


class Ant(Runner):
    """Ant-v5."""

    contact_forces = True
    hidden = 2

    def __init__(self, env: Any, simulations: Simulations) -> None:
        super().__init__(env, simulations)
        body = env.data.body(env._main_body).id
        self._main_x = self.field("xpos")[:, 3 * body]
        self._forces = self.field("cfrc_ext")
        self._clipped_forces = self._forces

    def begin(self, i: int, env: Any) -> None:
        """Note where the body is."""
        self._x[i] = env.data.body(env._main_body).xpos[0]

    def positions(self) -> Floats:
        """Return x of each simulation's main body (N,)."""
        return self._main_x

    def observed(self) -> Sequence[Floats]:
        """Return positions, velocities and contact forces, those of the world left out."""
        self._clipped_forces = _clipped(self._forces, *self.env._contact_force_range)
        if not self.env._include_cfrc_ext_in_observation:
            return self.seen, self.qvel
        return self.seen, self.qvel, self._clipped_forces[:, 6:]

    def outcome(self, actions: NDArray[Any]) -> Outcome:
        """Return rewards and terminations."""
        low, high = self.env._healthy_z_range
        healthy = np.isfinite(self.qpos).all(1) & np.isfinite(self.qvel).all(1)
        healthy &= (low <= self.qpos[:, 2]) & (self.qpos[:, 2] <= high)
        contact_costs = self.env._contact_cost_weight * _sums_of_squares(self._clipped_forces)
        return self.outcome_by_health(healthy, self.control_costs(actions) + contact_costs)


class HumanoidStandup(Task):
    """HumanoidStandup-v5, and what is observed in Humanoid-v5."""

    contact_forces = True

    def __init__(self, env: Any, simulations: Simulations) -> None:
        super().__init__(env, simulations)
        self.ctrl, self.forces = self.field("ctrl"), self.field("cfrc_ext")
        hidden = 2 if env._exclude_current_positions_from_observation else 0
        self._observed = [self.qpos[:, hidden:], self.qvel]
        for name, skipped, included in (
            ("cinert", 10, env._include_cinert_in_observation),
            ("cvel", 6, env._include_cvel_in_observation),
            ("qfrc_actuator", 6, env._include_qfrc_actuator_in_observation),
            ("cfrc_ext", 6, env._include_cfrc_ext_in_observation),
        ):
            if included is True:
                self._observed.append(self.field(name)[:, skipped:])

    def observed(self) -> Sequence[Floats]:
        """Return positions, velocities and what the settings include, the world left out."""
        return self._observed

    def costs(self, weight: float, bounds: tuple[float, float]) -> tuple[Floats, Floats]:
        """Return the costs of actions and of contact forces (N,)."""
        contact_costs = _clipped(weight * _sums_of_squares(self.forces), *bounds)
        return self.env._ctrl_cost_weight * _sums_of_squares(self.ctrl), contact_costs

    def outcome(self, actions: NDArray[Any]) -> Outcome:
        """Return the rewards."""
        env = self.env
        control, impact = self.costs(env._impact_cost_weight, env._impact_cost_range)
        return self.qpos[:, 2] / env.model.opt.timestep - control - impact + 1, None


class Humanoid(HumanoidStandup, Runner):
    """Humanoid-v5."""

    hidden = 2

    def __init__(self, env: Any, simulations: Simulations) -> None:
        super().__init__(env, simulations)
        self._mass = env.model.body_mass
        self._centers = self.field("xipos").reshape(len(self.qpos), -1, 3)

    def begin(self, i: int, env: Any) -> None:
        """Note where the center of mass is."""
        self._x[i] = _mass_center(self._mass, env.data.xipos)

    def positions(self) -> Floats:
        """Return x of each simulation's center of mass (N,)."""
        return np.array([_mass_center(self._mass, centers) for centers in self._centers])

    def outcome(self, actions: NDArray[Any]) -> Outcome:
        """Return rewards and terminations."""
        env = self.env
        control, contact = self.costs(env._contact_cost_weight, env._contact_cost_range)
        return self.outcome_by_health(
            _within(self.qpos[:, 2], env._healthy_z_range), control + contact
        )


class InvertedPendulum(Task):
    """InvertedPendulum-v5."""

    def observed(self) -> Sequence[Floats]:
        """Return positions and velocities."""
        return self.qpos, self.qvel

    def outcome(self, actions: NDArray[Any]) -> Outcome:
        """Return rewards and terminations."""
        finite = np.isfinite(self.qpos).all(1) & np.isfinite(self.qvel).all(1)
        ends = ~finite | (np.abs(self.qpos[:, 1]) > 0.2)
        return (~ends).astype(np.float64), ends


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


TASKS: dict[type, type[Task]] = {
    AntEnv: Ant,
    HalfCheetahEnv: Runner,
    HopperEnv: Hopper,
    HumanoidEnv: Humanoid,
    HumanoidStandupEnv: HumanoidStandup,
    InvertedDoublePendulumEnv: InvertedDoublePendulum,
    InvertedPendulumEnv: InvertedPendulum,
    PusherEnv: Pusher,
    ReacherEnv: Reacher,
    SwimmerEnv: Swimmer,
    Walker2dEnv: Walker2d,
}
"""The tasks by Gymnasium's classes."""


def _sums_of_squares(rows: NDArray[Any]) -> NDArray[Any]:
    return np.add.reduce(np.square(rows), axis=1)


def _clipped(numbers: Floats, low: float, high: float) -> Floats:
    return np.minimum(np.maximum(numbers, low), high)


def _within(numbers: Floats, bounds: tuple[float, float]) -> NDArray[np.bool_]:
    low, high = bounds
    return (low < numbers) & (numbers < high)


def _norms(rows: Floats) -> Floats:
    """Return the norms of rows; the dot product of a single vector rounds otherwise."""
    return np.array([math.sqrt(row.dot(row)) for row in rows])


def _mass_center(mass: Floats, centers: Floats) -> float:
    """Return x of the center of mass of bodies with masses (B,) and centers (B, 3)."""
    x: Floats = np.einsum("b,bj->j", mass, centers) / mass.sum()
    return x[0]
