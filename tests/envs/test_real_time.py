"""An environment in real time among those that agents train in."""

from __future__ import annotations

from contextlib import closing

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box

from hesrl.envs.episode_player import EpisodePlayer
from hesrl.envs.mujoco import make_env
from hesrl.envs.normalize import Observations
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.envs.real_time import RealTimeEnv, real_time
from hesrl.errors import UserError


class Clock(RealTimeEnv):
    """Counts its resets and steps.

    Args:
        breaks: At which of all steps its link breaks, counted from 1.
    """

    observation_space = Box(-np.inf, np.inf, (1,), np.float64)
    action_space = Box(-1, 1, (1,))
    max_episode_steps = 4
    resets, halted, taken = 0, False, 0

    def __init__(self, breaks=()):
        self.breaks = breaks

    def reset(self, *, seed=None, options=None):
        self.resets, self.steps = self.resets + 1, 0
        return np.array([100.0 * self.resets]), {}

    def step(self, action):
        self.steps, self.taken = self.steps + 1, self.taken + 1
        if self.taken in self.breaks:
            return np.array([np.nan]), np.nan, False, True, {"fault": "torn", "broken": True}
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


def clocks(num_envs=1, **options):
    options = {"normalize_observations": False, **options}
    return NormalizedEnvs("Clock-v0", num_envs, seed=1, gamma=0.9, **options)


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


def test_a_broken_step_is_as_if_it_had_not_been_taken(register, capsys):
    """Of the episode that it breaks, what was measured before counts; the next one begins."""
    states = []
    for breaks in ((3,), ()):
        register(kwargs={"breaks": breaks})
        envs = clocks(normalize_observations=True)
        envs.reset()
        for _ in range(2):
            envs.step(np.zeros((1, 1)))
        if breaks:
            step = envs.step(np.zeros((1, 1)))
            assert (step.fault, step.episodes, step.final_obs) == ("torn", [], None)
            assert not (step.rewards.any() or step.truncations.any() or step.terminations.any())
            np.testing.assert_array_equal(step.obs, envs.observations)
            printed = capsys.readouterr().err
            assert printed == (
                "link fault 1, Clock-v0, environment 0 (seed 1), step 3 of its episode, step 3 of "
                "the run: torn\n"
            )
        else:
            envs.cut_off()
        assert envs.step(np.zeros((1, 1))).fault is None
        states.append(str(envs.state_dict()))
    assert states[0] == states[1]


def test_a_fault_that_a_reset_has_mended_is_said(register, capsys, monkeypatch):
    register()
    reset = Clock.reset
    monkeypatch.setattr(Clock, "reset", lambda env, **o: (reset(env, **o)[0], {"faults": ["torn"]}))
    clocks().reset()
    assert capsys.readouterr().err.endswith("reset, step 0 of the run: torn\n")


def test_an_evaluation_plays_a_broken_episode_again(register, capsys):
    register(kwargs={"breaks": (6, 8)})
    with closing(EpisodePlayer("Clock-v0", Observations(np.float32))) as player:
        episodes = player.play(lambda obs: np.zeros((1, 1)), episodes=2, seed=5)
    assert [(e.episodic_return, e.episodic_length) for e in episodes] == [(4.0, 4)] * 2
    assert capsys.readouterr().err.count("torn; it is played again\n") == 2
