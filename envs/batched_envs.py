"""N environments of one MuJoCo v5 task that step together, in threads.

Gymnasium's environments begin the episodes, and save and restore their state. In between,
`Simulations` step the physics, and a compiled step, or a task in NumPy, gives observations, rewards
and terminations of all at once. Every number is the one that Gymnasium's environment gives, to the
bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import OrderEnforcing, TimeLimit
from numpy.typing import NDArray

from hesrl.envs.compiled_envs import compiled_envs
from hesrl.envs.compiled_steps import CompiledSteps, Status
from hesrl.envs.episode_progress import EpisodeProgress
from hesrl.envs.mujoco import layers
from hesrl.envs.mujoco_tasks import COMPILED_TASKS
from hesrl.envs.mujoco_threads import SimulationError, Simulations, library
from hesrl.envs.numpy_tasks import NUMPY_TASKS
from hesrl.errors import UserError
from hesrl.rl.threads import cores, cores_of_a_run

FEWEST_TOGETHER = 4
"""Environments from which on they step in threads by themselves."""

_COUNTERS: dict[type, str] = {EpisodeProgress: "_elapsed", TimeLimit: "_elapsed_steps"}
"""Wrappers that count steps, and in which attribute."""


def why_not_batched(env: gym.Env[Any, Any]) -> str | None:
    """Return why an environment cannot step in MuJoCo's threads; None if it can."""
    *wrappers, inner = layers(env)
    known = OrderEnforcing, *_COUNTERS
    odd = [type(wrapper).__name__ for wrapper in wrappers if type(wrapper) not in known]
    if type(inner) not in COMPILED_TASKS | NUMPY_TASKS:
        return f"{type(inner).__name__} is none of Gymnasium's MuJoCo v5 tasks"
    if odd or inner.render_mode == "human":
        return f"it is wrapped by {odd[0]}" if odd else "it shows every step"
    if library() is None:
        return "MuJoCo is older than 4.0, which steps in threads (Python 3.11 or newer)"
    if type(inner) in COMPILED_TASKS and compiled_envs() is None:
        return "there is no C++ compiler (`hesrl doctor` says more)"
    return None


def threads_for(env_id: str, envs: Sequence[gym.Env[Any, Any]], wanted: int | None) -> int | None:
    """Return in how many threads environments step together; None: they step in turn.

    Args:
        env_id: Their Gymnasium id, for the message.
        envs: The environments.
        wanted: The number that was asked for, if any; no core gets two.

    Raises:
        UserError: They cannot step in several threads.
    """
    reason = why_not_batched(envs[0])
    if reason is None and wanted is not None:
        return min(wanted, cores(), len(envs))
    if reason is None and len(envs) >= FEWEST_TOGETHER:
        return min(cores_of_a_run(), len(envs))
    if reason is None:
        return 1 if type(envs[0].unwrapped) in COMPILED_TASKS else None
    if wanted is not None and wanted > 1:
        raise UserError(
            f"--env-threads {wanted}: {env_id} cannot step in threads, because {reason}; "
            "leave the option out"
        )
    return None


class BatchedEnvs:
    """Steps environments that `why_not_batched` has nothing against.

    Args:
        envs: N environments, made alike.
        threads: Threads that step them.
        raw: Takes their observations (N, obs_dim).

    Attributes:
        threads: As given.
        compiled: Takes steps in one call, of the tasks that it knows; else None.
    """

    def __init__(
        self, envs: Sequence[gym.Env[Any, Any]], threads: int, raw: NDArray[np.float64]
    ) -> None:
        self._envs, self.threads = envs, threads
        inner: Any = envs[0].unwrapped
        self._simulations = Simulations(inner.model, len(envs), threads)
        self._elapsed = np.zeros(len(envs), dtype=np.int64)
        spec = envs[0].spec
        limit = None if spec is None else spec.max_episode_steps
        self._limit: float = math.inf if limit is None else limit
        has_progress = isinstance(envs[0], EpisodeProgress)
        self.compiled: CompiledSteps | None = None
        if type(inner) in COMPILED_TASKS:
            self.compiled = CompiledSteps(
                COMPILED_TASKS[type(inner)](inner, self._simulations.field),
                self._simulations,
                inner.frame_skip,
                inner.action_space,
                raw,
                self._elapsed,
                self._limit,
                has_progress=has_progress,
            )
            return
        self._task = NUMPY_TASKS[type(inner)](inner, self._simulations)
        self._step = self._simulations.stepper(inner.frame_skip)
        self._ctrl = self._simulations.field("ctrl")
        self._none = np.zeros(len(envs), dtype=bool)
        self._progress = raw[:, -1] if has_progress else None
        self._raw = raw[:, :-1] if has_progress else raw

    def take_over(self, i: int) -> None:
        """Go on from where environment ``i`` is, which was reset or restored."""
        env = self._envs[i]
        inner: Any = env.unwrapped
        self._simulations.load(i, inner.data)
        if self.compiled is not None:
            self.compiled.begin(i, inner.data)
        self._elapsed[i] = max((getattr(*counter) for counter in _counters(env)), default=0)

    def hand_back(self) -> None:
        """Bring the environments to where their simulations are."""
        for i, env in enumerate(self._envs):
            inner: Any = env.unwrapped
            self._simulations.copy_to(i, inner.data)
            for counter in _counters(env):
                setattr(*counter, int(self._elapsed[i]))

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Step all environments; their observations go to ``raw``.

        Args:
            actions: Within the bounds (N, act_dim).

        Returns:
            Rewards, terminations, and whether the time limit alone ended an episode (N,).

        Raises:
            SimulationError: MuJoCo could not step one of them.
        """
        if self.compiled is not None:
            status, *_ = self.compiled.step(actions)
            if status is Status.FAILED:
                raise self.failure()
            return self.compiled.rewards, self.compiled.terminated, self.compiled.truncated
        self._ctrl[...] = actions
        self._step()
        np.concatenate(self._task.observed(), axis=1, out=self._raw)
        rewards, ends = self._task.outcome(actions)
        self._elapsed += 1
        if self._progress is not None:
            self._progress[...] = self._elapsed / self._limit - 0.5
        terminations = self._none if ends is None else ends
        return rewards, terminations, (self._elapsed >= self._limit) & ~terminations

    def failure(self) -> SimulationError:
        """Return what MuJoCo says of the simulation that it could not step."""
        return self._simulations.failure()


def _counters(env: gym.Env[Any, Any]) -> Iterator[tuple[gym.Env[Any, Any], str]]:
    """Yield what counts the steps of an episode: the wrappers and their attributes."""
    for layer in layers(env):
        if type(layer) in _COUNTERS:
            yield layer, _COUNTERS[type(layer)]
