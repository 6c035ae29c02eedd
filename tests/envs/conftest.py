"""An environment that plays a script, for the tests of what surrounds environments."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box

from hesrl.envs.normalized_envs import NormalizedEnvs


class Scripted(gym.Env):
    """Gives what its script says, whatever the action; its first observation is its seed.

    Args:
        script: From a seed to what the steps give, again in each episode: observation, reward,
            termination and truncation, or an exception to raise.
        first: First observations, in turn; else the seed, twice.

    Attributes:
        received: The actions.
        closed: Whether it was closed.
    """

    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Box(np.float32([-1.0]), np.float32([2.0]))

    def __init__(self, script, first=()):
        self.script, self.first = script, iter(first)
        self.received, self.closed = [], False

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.seed = seed
        self.results = iter(self.script[self.seed])
        first = next(self.first, [self.seed, self.seed])
        if isinstance(first, Exception):
            raise first
        return np.array(first, dtype=float), {}

    def step(self, action):
        self.received.append(action)
        result = next(self.results)
        if isinstance(result, Exception):
            raise result
        obs, reward, terminated, truncated = result
        return np.array(obs, dtype=float), reward, terminated, truncated, {}

    def close(self):
        self.closed = True


@pytest.fixture
def scripted(monkeypatch):
    """Makes environments that play scripts, one per environment, from seed 7."""

    def make(*scripts, options=None, **kwargs):
        kwargs["script"] = {7 + i: script for i, script in enumerate(scripts)}
        spec = EnvSpec("Scripted-v0", entry_point=Scripted, kwargs=kwargs)
        monkeypatch.setitem(gym.registry, "Scripted-v0", spec)
        return NormalizedEnvs("Scripted-v0", len(scripts), seed=7, gamma=0.9, **(options or {}))

    return make
