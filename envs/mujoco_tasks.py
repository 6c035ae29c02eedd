"""What a compiled step has to know of Gymnasium's MuJoCo v5 tasks: tables for mujoco_tasks.cpp.

All of these tasks observe numbers of MuJoCo, and reward velocity or height, health and small
forces; they end, if at all, when numbers leave their bounds.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.humanoid_v5 import HumanoidEnv
from gymnasium.envs.mujoco.humanoidstandup_v5 import HumanoidStandupEnv
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv
from gymnasium.envs.mujoco.swimmer_v5 import SwimmerEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Field = Callable[[str], Floats]
"""From the name of a field of MuJoCo's data to its numbers (N, …), which follow every step."""


class Part(NamedTuple):
    """Numbers of each simulation (N, size), and their bounds."""

    numbers: Floats
    low: float = -math.inf
    high: float = math.inf
    is_open: bool = True
    """Whether numbers have to lie between the bounds, or may be at them."""


@dataclass
class Task:
    """What a task observes and rewards; the equation stands in mujoco_tasks.cpp."""

    observed: list[Part]
    """What is observed, clipped to bounds, one after the other."""
    x: Floats
    """Where the body is (N, …), whose way in a step is rewarded: in its first column; of several
    bodies (N, 3 B) with masses, the x of their center."""
    position: Callable[[Any], float]
    """The same, of MuJoCo's data of one environment."""
    dt: float = 1.0
    """Seconds of a step."""
    forward_weight: float = 0.0
    is_height: bool = False
    """Whether x itself, over dt, is the reward, and 1, instead of its change."""
    mass: Floats | None = None
    """Masses of the bodies (B,), if x is that of several."""
    bounded: list[Part] = field(default_factory=list)
    """What stays within its bounds in a healthy state."""
    healthy_reward: float = 0.0
    ends_unhealthy: bool = False
    """Whether the loss of health ends an episode."""
    control_weight: float = 0.0
    costs_of_ctrl: bool = False
    """Whether the control of MuJoCo costs, in double precision, instead of the action."""
    contact_forces: bool = False
    """Whether a step has to compute contact forces."""
    forces: Floats | None = None
    """Contact forces (N, …) that cost."""
    force_bounds: tuple[float, float] = (-math.inf, math.inf)
    contact_weight: float = 0.0
    contact_bounds: tuple[float, float] = (-math.inf, math.inf)
    """Of the costs of contact forces."""


def _seen(env: Any, qpos: Floats, hidden: int) -> Part:
    """Return the positions that are observed."""
    return Part(qpos[:, hidden if env._exclude_current_positions_from_observation else 0 :])


def _runner(env: Any, numbers: Field, hidden: int = 1) -> Task:
    qpos = numbers("qpos")
    return Task(
        observed=[_seen(env, qpos, hidden), Part(numbers("qvel"))],
        x=qpos,
        position=lambda data: float(data.qpos[0]),
        dt=env.dt,
        forward_weight=env._forward_reward_weight,
        control_weight=env._ctrl_cost_weight,
    )


def _swimmer(env: Any, numbers: Field) -> Task:
    return _runner(env, numbers, hidden=2)


def _walker2d(env: Any, numbers: Field) -> Task:
    task, qpos = _runner(env, numbers), numbers("qpos")
    task.observed[1] = Part(numbers("qvel"), -10, 10)
    task.bounded = [
        Part(qpos[:, 1:2], *env._healthy_z_range),
        Part(qpos[:, 2:3], *env._healthy_angle_range),
    ]
    return _healthy(env, task)


def _healthy(env: Any, task: Task) -> Task:
    task.healthy_reward = env._healthy_reward
    task.ends_unhealthy = env._terminate_when_unhealthy
    return task


def _hopper(env: Any, numbers: Field) -> Task:
    task, bounds = _walker2d(env, numbers), env._healthy_state_range
    task.bounded += [Part(numbers("qpos")[:, 2:], *bounds), Part(numbers("qvel"), *bounds)]
    return task


def _finite(numbers: Field) -> list[Part]:
    largest = sys.float_info.max
    return [Part(numbers(name), -largest, largest, is_open=False) for name in ("qpos", "qvel")]


def _ant(env: Any, numbers: Field) -> Task:
    task, body = _runner(env, numbers, hidden=2), env.data.body(env._main_body).id
    task.x = numbers("xpos")[:, 3 * body :]
    task.position = lambda data: float(data.body(body).xpos[0])
    task.contact_forces, task.forces = True, numbers("cfrc_ext")
    task.force_bounds, task.contact_weight = env._contact_force_range, env._contact_cost_weight
    if env._include_cfrc_ext_in_observation:  # those of the world left out
        task.observed.append(Part(task.forces[:, 6:], *task.force_bounds))
    low, high = env._healthy_z_range
    height = Part(numbers("qpos")[:, 2:3], low, high, is_open=False)
    task.bounded = [height, *_finite(numbers)]
    return _healthy(env, task)


def _humanoid_standup(env: Any, numbers: Field) -> Task:
    task = _posture(env, numbers)
    task.x, task.is_height = numbers("qpos")[:, 2:3], True
    task.dt = env.model.opt.timestep
    task.contact_weight, task.contact_bounds = env._impact_cost_weight, env._impact_cost_range
    return task


def _posture(env: Any, numbers: Field) -> Task:
    """Return what both tasks of the humanoid share."""
    observed = [_seen(env, numbers("qpos"), 2), Part(numbers("qvel"))]
    for name, of_world, included in (
        ("cinert", 10, env._include_cinert_in_observation),
        ("cvel", 6, env._include_cvel_in_observation),
        ("qfrc_actuator", 6, env._include_qfrc_actuator_in_observation),
        ("cfrc_ext", 6, env._include_cfrc_ext_in_observation),
    ):
        if included is True:
            observed.append(Part(numbers(name)[:, of_world:]))
    return Task(
        observed,
        x=numbers("qpos"),
        position=lambda data: 0.0,
        control_weight=env._ctrl_cost_weight,
        costs_of_ctrl=True,
        contact_forces=True,
        forces=numbers("cfrc_ext"),
    )


def _humanoid(env: Any, numbers: Field) -> Task:
    task, mass = _posture(env, numbers), env.model.body_mass
    task.x, task.mass = numbers("xipos"), mass
    task.position = lambda data: float((np.einsum("b,bj->j", mass, data.xipos) / mass.sum())[0])
    task.dt, task.forward_weight = env.dt, env._forward_reward_weight
    task.contact_weight, task.contact_bounds = env._contact_cost_weight, env._contact_cost_range
    task.bounded = [Part(numbers("qpos")[:, 2:3], *env._healthy_z_range)]
    return _healthy(env, task)


def _inverted_pendulum(env: Any, numbers: Field) -> Task:
    qpos = numbers("qpos")
    angle = Part(qpos[:, 1:2], -0.2, 0.2, is_open=False)
    return Task(
        observed=[Part(qpos), Part(numbers("qvel"))],
        x=qpos,
        position=lambda data: 0.0,
        bounded=[angle, *_finite(numbers)],
        healthy_reward=1.0,
        ends_unhealthy=True,
    )


COMPILED_TASKS: dict[type, Callable[[Any, Field], Task]] = {
    AntEnv: _ant,
    HalfCheetahEnv: _runner,
    HopperEnv: _hopper,
    HumanoidEnv: _humanoid,
    HumanoidStandupEnv: _humanoid_standup,
    InvertedPendulumEnv: _inverted_pendulum,
    SwimmerEnv: _swimmer,
    Walker2dEnv: _walker2d,
}
"""From Gymnasium's classes to what makes the table, from an environment and the fields."""
