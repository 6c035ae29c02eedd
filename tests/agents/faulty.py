"""An environment that breaks where the variable FAULT says: ``raise 300`` from step 300 on."""

from __future__ import annotations

import os
import time
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

FAULTY = "tests.agents.faulty:Faulty-v0"
PLACE, _, AT = os.environ.get("FAULT", "").partition(" ")
NOT_FINITE = (np.nan, np.inf, -np.inf)


class Faulty(gym.Env[NDArray[Any], NDArray[Any]]):
    """Observes noise, in episodes of 50 steps."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (2,))
    steps = 0

    def _breaks(self, place: str) -> bool:
        return place == PLACE and self.steps >= int(AT)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[Any], Any]:
        super().reset(seed=seed)
        obs = self.np_random.standard_normal(3)
        if self._breaks("reset"):
            obs[0] = np.inf
        return obs, {}

    def step(self, action: NDArray[Any]) -> tuple[NDArray[Any], float, bool, bool, Any]:
        self.steps += 1
        obs, reward = self.np_random.standard_normal(3), 1.0
        if self._breaks("observation"):
            obs[self.steps % 3] = NOT_FINITE[self.steps // 3 % 3]
        if self._breaks("reward"):
            reward = NOT_FINITE[self.steps % 3]
        if self._breaks("huge"):
            reward = 1e308
        if self._breaks("raise"):
            raise ValueError("joint limit\nof joint 3")
        if self._breaks("shape"):
            obs = obs[:2]
        if self._breaks("hang"):
            time.sleep(3600)
        if self._breaks("memory"):
            bytearray(1 << 40)
        return obs, reward, False, self.steps % 50 == 0, {}


gym.register("Faulty-v0", entry_point=Faulty)
