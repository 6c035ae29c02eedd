"""An environment in real time among those that agents train in."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box

from hesrl.envs.mujoco import make_env
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.envs.real_time import RealTimeEnv, real_time
from hesrl.errors import UserError


class Clock(RealTimeEnv):
    """Counts its resets and steps."""

    observation_space = Box(-np.inf, np.inf, (1,), np.float64)
    action_space = Box(-1, 1, (1,))
    max_episode_steps = 4
    resets, halted = 0, False

    def reset(self, *, seed=None, options=None):
        self.resets, self.steps = self.resets + 1, 0
        return np.array([100.0 * self.resets]), {}

    def step(self, action):
        self.steps += 1
        return np.array([100.0 * self.resets + self.steps]), 1.0, False, self.steps == 4, {}

    def halt(self):
        self.halted = True

    def take_metrics(self):
        return {"clock/late_steps": 2.0}


@pytest.fixture
def register(monkeypatch):
    def register(**options):
        spec = EnvSpec("Clock-v0", entry_point=Clock, **options)
        monkeypatch.setitem(gym.registry, "Clock-v0", spec)

    return register


def clocks(num_envs=1):
    return NormalizedEnvs(
        "Clock-v0", num_envs, seed=1, gamma=0.9, normalize_observations=False,
    )  # fmt: skip


def test_what_agents_learn_about_it(register):
    register()
    envs = clocks()
    clock = real_time(envs.lend())
    assert envs.real_time and envs.episode_steps == 4
    assert envs.take_metrics() == {"clock/late_steps": 2.0}
    envs.halt()
    assert isinstance(clock, Clock) and clock.halted


def test_a_time_limit_makes_its_episodes_shorter(register):
    register(max_episode_steps=3)
    assert clocks().episode_steps == 3
    register(max_episode_steps=9)
    assert clocks().episode_steps == 4


def test_a_simulated_environment_has_nothing_of_it():
    env = make_env("InvertedPendulum-v5")
    envs = NormalizedEnvs("InvertedPendulum-v5", 1, seed=1, gamma=0.9)
    assert real_time(env) is None and not envs.real_time and envs.halt is None
    assert envs.episode_steps is None and envs.take_metrics() == {}


def test_there_is_one_of_it(register):
    register()
    with pytest.raises(UserError, match="--num-envs 2: Clock-v0 runs in real time and is there"):
        clocks(2)


def test_an_episode_that_is_cut_off_does_not_count(register):
    register()
    envs = clocks()
    envs.reset()
    envs.step(np.zeros((1, 1)))
    assert envs.cut_off() == 101 and envs.observations == 200
    steps = [envs.step(np.zeros((1, 1))) for _ in range(4)]
    assert [len(step.episodes) for step in steps] == [0, 0, 0, 1]
    assert steps[-1].episodes[0].episodic_length == 4 and envs.steps == 5
