"""N environments of one MuJoCo v5 task that step together, in threads.

Gymnasium's environments begin the episodes, and save and restore their state. In between,
`Simulations` step the physics, and a `Task` gives observations, rewards and terminations of all at
once. Every number is the one that Gymnasium's environment gives, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import OrderEnforcing, TimeLimit
from numpy.typing import NDArray

from hesrl.envs.episode_progress import EpisodeProgress
from hesrl.envs.mujoco import layers
from hesrl.envs.mujoco_tasks import TASKS
from hesrl.envs.mujoco_threads import Simulations, library

_COUNTERS: dict[type, str] = {EpisodeProgress: "_elapsed", TimeLimit: "_elapsed_steps"}
"""Wrappers that count steps, and in which attribute."""


def why_not_batched(env: gym.Env[Any, Any]) -> str | None:
    """Return why an environment cannot step in MuJoCo's threads; None if it can."""
    *wrappers, inner = layers(env)
    known = OrderEnforcing, *_COUNTERS
    odd = [type(wrapper).__name__ for wrapper in wrappers if type(wrapper) not in known]
    if type(inner) not in TASKS:
        return f"{type(inner).__name__} is none of Gymnasium's MuJoCo v5 tasks"
    if odd or inner.render_mode == "human":
        return f"it is wrapped by {odd[0]}" if odd else "it shows every step"
    if library() is None:
        return "MuJoCo is older than 4.0, which steps in threads (Python 3.11 or newer)"
    return None


class BatchedEnvs:
    """Steps environments that `why_not_batched` has nothing against.

    Args:
        envs: N environments, made alike.
        threads: Threads that step them.
        raw: Takes their observations (N, obs_dim).

    Attributes:
        threads: As given.
    """

    def __init__(
        self, envs: Sequence[gym.Env[Any, Any]], threads: int, raw: NDArray[np.float64]
    ) -> None:
        self._envs, self.threads = envs, threads
        inner: Any = envs[0].unwrapped
        self._simulations = Simulations(inner.model, len(envs), threads)
        task = TASKS[type(inner)]
        self._task = task(inner, self._simulations)
        self._step = self._simulations.stepper(inner.frame_skip, task.contact_forces)
        self._ctrl = self._simulations.field("ctrl")
        self._elapsed = np.zeros(len(envs), dtype=np.int64)
        self._none = np.zeros(len(envs), dtype=bool)
        spec = envs[0].spec
        limit = None if spec is None else spec.max_episode_steps
        self._limit: float = math.inf if limit is None else limit
        self._progress = raw[:, -1] if isinstance(envs[0], EpisodeProgress) else None
        self._raw = raw if self._progress is None else raw[:, :-1]

    def take_over(self, i: int) -> None:
        """Go on from where environment ``i`` is, which was reset or restored."""
        env = self._envs[i]
        inner: Any = env.unwrapped
        self._simulations.load(i, inner.data)
        self._task.begin(i, inner)
        self._elapsed[i] = max((getattr(*counter) for counter in _counters(env)), default=0)

    def hand_back(self, i: int) -> None:
        """Bring environment ``i`` to where its simulation is."""
        env = self._envs[i]
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
            Rewards, terminations and truncations (N,).

        Raises:
            SimulationError: MuJoCo could not step one of them.
        """
        self._ctrl[...] = actions
        self._step()
        np.concatenate(self._task.observed(), axis=1, out=self._raw)
        rewards, ends = self._task.outcome(actions)
        self._elapsed += 1
        if self._progress is not None:
            self._progress[...] = self._elapsed / self._limit - 0.5
        terminations = self._none if ends is None else ends
        return rewards, terminations, self._elapsed >= self._limit


def _counters(env: gym.Env[Any, Any]) -> Iterator[tuple[gym.Env[Any, Any], str]]:
    """Yield what counts the steps of an episode: the wrappers and their attributes."""
    for layer in layers(env):
        if type(layer) in _COUNTERS:
            yield layer, _COUNTERS[type(layer)]
