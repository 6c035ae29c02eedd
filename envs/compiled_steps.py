"""N simulations of a MuJoCo task, stepped in one call of C."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from enum import IntEnum
from functools import partial
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from hesrl.envs.compiled_envs import Actor, Envs, Part, compiled_envs
from hesrl.envs.mujoco_tasks import Part as Numbers
from hesrl.envs.mujoco_tasks import Task
from hesrl.envs.mujoco_threads import Simulations


class Status(IntEnum):
    """How the last step went, as mujoco_tasks.cpp has it."""

    GOES_ON = 0
    ENDED = 1
    """An episode has ended."""
    FAILED = 2
    """MuJoCo could not step."""
    NOT_FINITE = 3
    """A number is not finite, or too large."""
    NO_ACTION = 4
    """An action is NaN."""


class CompiledSteps:
    """Steps of all simulations, with their observations, rewards, statistics and counts.

    Args:
        task: What is observed and rewarded.
        simulations: The simulations.
        substeps: Steps of MuJoCo in one step.
        actions: Space of the actions.
        raw: Takes the observations (N, width).
        elapsed: Steps of each episode (N,), which are counted.
        time_limit: Steps after which an episode is cut off.
        has_progress: Whether the last entry of an observation is the progress of the episode.

    Attributes:
        rewards: Of the last step, as the environment gives them (N,).
        terminated: Whether it led to a terminal state (N,).
        truncated: Whether the time limit alone ended an episode (N,).
    """

    def __init__(
        self,
        task: Task,
        simulations: Simulations,
        substeps: int,
        actions: Box,
        raw: NDArray[np.float64],
        elapsed: NDArray[np.int64],
        time_limit: float,
        *,
        has_progress: bool,
    ) -> None:
        n, (act_dim,) = len(raw), actions.shape
        self._kept: list[Any] = [simulations]
        self.rewards = np.zeros(n)
        self.terminated, self.truncated = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        self._last_x, self._position = np.zeros(n), task.position
        self._actions = np.zeros((1, n, act_dim), dtype=np.float32)
        self._obs = np.zeros((2, *raw.shape), dtype=np.float32)
        self._learned = np.zeros((1, n), dtype=np.float32)
        self._steps = compiled_envs().hesrl_steps
        ctrl = simulations.field("ctrl")
        forces = np.zeros((n, 0)) if task.forces is None else task.forces
        self._envs = Envs(
            n=n, act_dim=act_dim, width=raw.shape[1], scaled=0,
            **simulations.functions(), substeps=substeps,
            ctrl=self._pointer(ctrl), ctrl_stride=_stride(ctrl),
            low=self._pointer(actions.low), high=self._pointer(actions.high),
            clipped=self._pointer(np.zeros((n, act_dim), dtype=np.float32)),
            observed=self._parts(task.observed), observed_parts=len(task.observed),
            has_progress=has_progress, raw=self._pointer(raw),
            bounded=self._parts(task.bounded), bounded_parts=len(task.bounded),
            ends_unhealthy=task.ends_unhealthy,
            x=self._pointer(task.x), x_stride=_stride(task.x), last_x=self._pointer(self._last_x),
            dt=task.dt, is_height=task.is_height,
            mass=None if task.mass is None else self._pointer(task.mass),
            bodies=0 if task.mass is None else len(task.mass),
            total_mass=1.0 if task.mass is None else task.mass.sum(),
            forward_weight=task.forward_weight, healthy_reward=task.healthy_reward,
            control_weight=task.control_weight, costs_of_ctrl=task.costs_of_ctrl,
            forces=None if task.forces is None else self._pointer(forces),
            number_of_forces=forces.shape[1], scratch=self._pointer(np.zeros(forces.shape[1])),
            least_force=task.force_bounds[0], most_force=task.force_bounds[1],
            contact_weight=task.contact_weight,
            least_cost=task.contact_bounds[0], most_cost=task.contact_bounds[1],
            rewards=self._pointer(self.rewards),
            terminated=self._pointer(self.terminated), truncated=self._pointer(self.truncated),
            elapsed=self._pointer(elapsed), time_limit=time_limit,
            lengths=self._pointer(np.zeros(n, dtype=np.int64)),
            returns=self._pointer(np.zeros(n)), square_limit=np.inf,
        )  # fmt: skip
        if not task.contact_forces:
            self._envs.contact_forces = None
        self._address = ctypes.addressof(self._envs)
        arrays = self._obs, self._actions, self._learned
        obs, given, learned = (array.ctypes.data for array in arrays)
        self._step = partial(self._steps, self._address, None, 1, obs, given, None, learned)

    def begin(self, i: int, data: Any) -> None:
        """Note where simulation ``i`` begins, of MuJoCo's data of its environment."""
        self._last_x[i] = self._position(data)

    def follow(self, **members: Any) -> None:
        """Set members of `Envs`: numbers, or arrays that the steps are to use and to change."""
        for name, value in members.items():
            is_array = isinstance(value, np.ndarray)
            setattr(self._envs, name, self._pointer(value) if is_array else value)

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Status, NDArray[np.float32], NDArray[np.float32]]:
        """Take a step of actions (N, act_dim).

        Returns:
            How it went, the observations as an agent sees them (N, width), and the rewards to learn
            from (N,).
        """
        self._actions[0] = actions
        self._step()
        return self.status, self._obs[1].copy(), self._learned[0].copy()

    def take(
        self,
        obs: NDArray[np.float32],
        actions: NDArray[np.float32],
        noise: NDArray[np.float32],
        rewards: NDArray[np.float32],
        actor: Actor,
    ) -> int:
        """Take T steps, or until an episode ends or a step fails; return how many succeeded.

        Args:
            obs: Takes observations (T + 1, N, width) as an agent sees them; the first one is given.
            actions: Takes actions (T, N, act_dim).
            noise: For the actor (T, N, act_dim).
            rewards: Takes rewards to learn from (T, N).
            actor: Draws the actions.
        """
        taken: int = self._steps(
            self._address, ctypes.addressof(actor), len(actions),
            *(array.ctypes.data for array in (obs, actions, noise, rewards)),
        )  # fmt: skip
        return taken

    @property
    def status(self) -> Status:
        """How the last step went."""
        return Status(self._envs.status)

    def _pointer(self, array: NDArray[Any]) -> Any:
        """Return the address of an array, which is kept alive."""
        self._kept.append(array)
        kind = np.ctypeslib.as_ctypes_type(array.dtype)
        return array.ctypes.data_as(ctypes.POINTER(kind))

    def _parts(self, parts: Iterable[Numbers]) -> Any:
        rows = [
            Part(self._pointer(part.numbers), _stride(part.numbers), part.numbers.shape[1],
                 part.low, part.high, part.is_open)
            for part in parts
        ]  # fmt: skip
        array = (Part * len(rows))(*rows)
        self._kept.append(array)
        return array


def _stride(rows: NDArray[Any]) -> int:
    """Return how many numbers lie from one row to the next."""
    return rows.strides[0] // rows.itemsize
