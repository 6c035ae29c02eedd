"""The progress of an episode, as the paper's A2C sees it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray


class EpisodeProgress(gym.Wrapper[Any, Any, Any, Any]):
    """Appends t/limit − 1/2 to the observations: −0.5 at the first one, 0.5 at the time limit.

    Args:
        env: Has vectors of observations.
        limit: Time limit of an episode (environment steps).
    """

    def __init__(self, env: gym.Env[Any, Any], limit: int) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, Box)
        low, high = np.append(space.low, -0.5), np.append(space.high, 0.5)
        self.observation_space = Box(low, high, dtype=np.float64)
        self._limit = limit
        self._elapsed = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Begin an episode."""
        self._elapsed = 0
        obs, info = self.env.reset(seed=seed, options=options)
        return self._append(obs), info

    def step(self, action: Any) -> tuple[NDArray[np.float64], Any, bool, bool, dict[str, Any]]:
        """Take a step."""
        self._elapsed += 1
        obs, reward, terminated, truncated, info = self.env.step(action)
        return self._append(obs), reward, terminated, truncated, info

    def _append(self, obs: Any) -> NDArray[np.float64]:
        result = np.empty(len(obs) + 1)
        result[:-1] = obs
        result[-1] = self._elapsed / self._limit - 0.5
        return result
