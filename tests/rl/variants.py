"""The agents that there are, small, and data for them; shared by the tests of agents."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from hesrl.envs.flat_observations import FlatBox
from hesrl.rl.actor_critic import Agent

OBSERVATIONS = {
    "vector": Box(-np.inf, np.inf, (5,), np.float32),
    "channels last": Box(0, 255, (40, 36, 2), np.uint8),
    "channels first": Box(0, 255, (2, 40, 36), np.uint8),
    "mixed": FlatBox(
        Dict(
            front=Box(0, 255, (40, 36, 2), np.uint8),
            number=Discrete(2),
            side=Box(0, 255, (1, 36, 36), np.uint8),
            vector=Box(-np.inf, np.inf, (3,), np.float32),
        )
    ),
}
GAUSSIAN, CATEGORICAL = Box(-1, 1, (2,), np.float32), Discrete(3)
POLICIES: dict[str, tuple[gym.Space[Any], dict[str, bool]]] = {
    "gaussian": (GAUSSIAN, {}),
    "variance network": (GAUSSIAN, {"variance_network": True}),
    "categorical": (CATEGORICAL, {}),
    "choices": (MultiDiscrete([2, 3]), {}),
    "bits": (MultiBinary(3), {}),
}


def make_agent(policy: str, observations: str = "vector", **settings: Any) -> Agent:
    """Return an agent whose outputs are far from the zeros of a new one."""
    torch.manual_seed(0)
    actions, options = POLICIES[policy]
    settings = {"hidden_sizes": (4, 3), **options, **settings}
    agent = Agent(OBSERVATIONS[observations], actions, **settings)
    with torch.no_grad():
        for param in agent.parameters():
            param.add_(0.3 * torch.randn_like(param))
    return agent


def draw_observations(observations: str, *leading: int) -> np.ndarray:
    rng, space = np.random.default_rng(1), OBSERVATIONS[observations]
    if space.dtype == np.uint8:
        return rng.integers(0, 256, (*leading, *space.shape), dtype=np.uint8)
    obs = rng.standard_normal((*leading, *space.shape), dtype=np.float32)
    if isinstance(space, FlatBox):
        size = space.vector_size
        obs[..., size:] = rng.integers(0, 256, obs[..., size:].shape)
    return obs
