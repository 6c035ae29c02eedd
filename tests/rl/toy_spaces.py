"""``ToySpaces-v0``: what is asked for is observed, in many spaces, and answered in many others.

``ToyReach-v0`` is a task of MuJoCo, whose state can be saved, with such spaces.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from gymnasium.wrappers import TransformAction, TransformObservation

OBSERVATIONS: dict[str, gym.Space[Any]] = {
    "vector": Box(-np.inf, np.inf, (3,), np.float64),
    "discrete": Discrete(8, start=-3),
    "choices": MultiDiscrete([2, 2, 2], start=[0, 1, 5]),
    "bits": MultiBinary(3),
    "dict": Dict(
        asked=Box(-5, 5, (3,), np.float32),
        inner=Dict(noise=Box(-np.inf, np.inf, (2,), np.float32), clock=Discrete(8)),
        previous=MultiBinary(3),
    ),
    "images": Dict(
        above=Box(0, 255, (36, 37, 1), np.uint8),
        asked=Box(-5, 5, (3,), np.float32),
        beside=Box(0, 255, (2, 36, 36), np.uint8),
    ),
    "pictures": Dict(above=Box(0, 255, (36, 37, 1), np.uint8)),
}
ACTIONS: dict[str, gym.Space[Any]] = {
    "discrete": Discrete(8, start=10),
    "choices": MultiDiscrete([2, 2, 2], start=[0, -1, 3]),
    "bits": MultiBinary(3),
    "square bits": MultiBinary((3, 1)),
    "unbounded": Box(-np.inf, np.inf, (3,)),
    "half bounded": Box(np.array([-np.inf, 0, 0], np.float32), np.inf, (3,)),
}


class ToySpaces(gym.Env[Any, Any]):
    """Three bits are observed and to be answered; the reward is the share of right ones.

    An episode has eight steps, after which it is truncated.

    Args:
        observations: Key of `OBSERVATIONS`.
        actions: Key of `ACTIONS`.
        render_mode: Only ``"rgb_array"``.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

    def __init__(
        self,
        observations: str = "dict",
        actions: str = "choices",
        render_mode: str | None = None,
    ) -> None:
        self.observation_space, self.action_space = OBSERVATIONS[observations], ACTIONS[actions]
        self.kinds, self.render_mode = (observations, actions), render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps, self.bits = 0, np.zeros(3, dtype=np.int8)
        return self._ask(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.steps += 1
        reward = 1 - float(np.abs(self._answer(action) - self.bits).mean())
        return self._ask(), reward, False, self.steps == 8, {}

    def render(self) -> Any:
        return np.full((16, 16, 3), 80 * self.bits, dtype=np.uint8)

    def _answer(self, action: Any) -> Any:
        kind = self.kinds[1]
        if kind == "discrete":
            return (int(action) - 10) >> np.arange(3) & 1
        if kind == "choices":
            return action - self.action_space.start
        return np.asarray(action, dtype=float).ravel()

    def _ask(self) -> Any:
        previous, self.bits = self.bits, self.np_random.integers(2, size=3).astype(np.int8)
        kind, numbers = self.kinds[0], (4 * self.bits - 2).astype(np.float32)
        if kind == "dict":
            # In another order than that of the space.
            noise = self.np_random.standard_normal(2).astype(np.float32)
            inner = {"clock": np.int64(self.steps % 8), "noise": noise}
            return {"previous": previous, "inner": inner, "asked": numbers}
        if kind in ("images", "pictures"):
            above, beside = np.zeros((36, 37, 1), np.uint8), np.zeros((2, 36, 36), np.uint8)
            for bit, on in enumerate(self.bits):
                above[12 * bit : 12 * bit + 12] = 255 if on else 0
            beside[:, : 4 * self.steps] = 200
            every = {"beside": beside, "asked": numbers, "above": above}
            return {name: every[name] for name in OBSERVATIONS[kind]}
        number = int(self.bits @ [1, 2, 4])
        return {
            "vector": numbers.astype(np.float64),
            "discrete": np.int64(number - 3),
            "choices": self.bits + np.array([0, 1, 5]),
            "bits": self.bits,
        }[kind]


def toy_reach(actions: str = "choices", **settings: Any) -> gym.Env[Any, Any]:
    """Return a pendulum that is pushed by two choices or three bits, and observed as a Dict."""
    env = gym.make("InvertedPendulum-v5", **settings)
    space: gym.Space[Any] = MultiDiscrete([3, 2]) if actions == "choices" else MultiBinary(3)
    push = np.array([1.0, -0.5] if actions == "choices" else [1.0, -1.0, 0.5])
    env = TransformAction(env, lambda action: np.float32([action @ push]), space)
    halves = Dict(
        position=Box(-np.inf, np.inf, (2,), np.float64), fast=MultiBinary(2),
        speed=Box(-np.inf, np.inf, (2,), np.float64),
    )  # fmt: skip
    return TransformObservation(
        env,
        lambda obs: {
            "position": obs[:2], "speed": obs[2:], "fast": (np.abs(obs[2:]) > 1).astype(np.int8)
        },
        halves,
    )  # fmt: skip


gym.register("ToySpaces-v0", entry_point=ToySpaces)
gym.register("ToyReach-v0", entry_point=toy_reach, max_episode_steps=50)
