"""``TinyImages-v0``: a bright square to follow; the smallest environment with images."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class TinyImages(gym.Env[Any, Any]):
    """A square is left or right; the action is to name its side.

    An episode ends after 8 steps by truncation, or after a wrong answer at its fourth step.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    observation_space = gym.spaces.Box(0, 255, (36, 40, 1), np.uint8)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self._show(), {}

    def step(self, action: int) -> Any:
        right = action == self.side
        self.steps += 1
        terminated = not right and self.steps == 4
        return self._show(), float(right), terminated, self.steps == 8, {}

    def render(self) -> Any:
        return np.repeat(self.picture, 3, axis=2)

    def _show(self) -> Any:
        self.side = int(self.np_random.integers(2))
        self.picture = np.zeros(self.observation_space.shape, dtype=np.uint8)
        self.picture[10:20, 20 * self.side : 20 * self.side + 20] = 255
        return self.picture


gym.register("TinyImages-v0", entry_point=TinyImages)
