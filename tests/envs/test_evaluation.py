"""Evaluation episodes: fixed statistics, plain returns, one result per seed."""

from __future__ import annotations

import random

import gymnasium as gym
import numpy as np
import pytest
import torch

from hesrl.envs.evaluation import Evaluator, evaluate
from hesrl.envs.mujoco import make_env
from hesrl.envs.normalize import ObservationNormalizer
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.errors import EnvironmentFault, UserError
from hesrl.runs import rng_state


@pytest.fixture
def observation():
    """Statistics that are far from those at the start."""
    normalizer = ObservationNormalizer(11)
    normalizer(2 + 3 * np.random.default_rng(0).standard_normal((500, 11)))
    return normalizer


def act(obs):
    """Some policy that depends on what it sees, and leaves the bounds at times."""
    return 2 * np.sin(5 * obs[:, :3])


def play(observation, seed, episodes=3, act=act):
    return evaluate(act, "Hopper-v5", observation=observation, episodes=episodes, seed=seed)


def test_returns_are_the_environments_own(observation):
    """Against Gymnasium's account of the same policy on the same episodes."""
    env = gym.wrappers.RecordEpisodeStatistics(make_env("Hopper-v5"))
    statistics, recorded = observation.statistics, []
    for seed in (3, None, None):
        obs, ended = env.reset(seed=seed)[0], False
        while not ended:
            scaled = (obs - statistics.mean) / np.sqrt(statistics.var + 1e-8)
            action = act(np.clip(scaled, -10, 10).astype(np.float32)[None])[0]
            obs, _, terminated, truncated, info = env.step(np.clip(action, -1, 1))
            ended = terminated or truncated
        recorded.append((0, info["episode"]["r"], info["episode"]["l"]))
    episodes = play(observation, seed=3)
    assert [episode.episodic_length for episode in episodes] == [length for *_, length in recorded]
    np.testing.assert_allclose(episodes, recorded, rtol=1e-12)


def test_statistics_stay_as_they_are(observation):
    before = repr(observation.statistics.state_dict())
    play(observation, seed=0)
    assert repr(observation.statistics.state_dict()) == before


def test_a_seed_fixes_the_episodes(observation):
    first = play(observation, seed=3)
    assert play(observation, seed=3) == first
    assert play(observation, seed=4) != first
    assert len(set(first)) == 3


def test_the_policy_sees_one_clipped_float32_observation(observation):
    seen = []

    def look(obs):
        seen.append(obs)
        return act(obs)

    observation.statistics.var[:] = 1e-6
    play(observation, seed=0, episodes=1, act=look)
    assert {(obs.shape, obs.dtype) for obs in seen} == {((1, 11), np.dtype(np.float32))}
    assert max(abs(obs).max() for obs in seen) == 10


def test_time_limits_end_episodes(monkeypatch, observation):
    monkeypatch.setattr(gym.registry["Hopper-v5"], "max_episode_steps", 4)
    assert [episode.episodic_length for episode in play(observation, seed=0)] == [4, 4, 4]


def test_the_environment_is_closed_even_if_the_policy_fails(monkeypatch, observation):
    closed = []
    monkeypatch.setattr(gym.Wrapper, "close", lambda self: closed.append(self))
    with pytest.raises(ZeroDivisionError):
        play(observation, seed=0, act=lambda obs: 1 / 0)
    assert closed


def test_an_unknown_environment_is_refused(observation):
    with pytest.raises(UserError, match="did you mean Hopper-v5"):
        evaluate(act, "Hoper-v5", observation=observation, episodes=1, seed=0)


def draw(obs):
    """A policy that draws from every generator."""
    random.random()
    return np.random.standard_normal((1, 3)) + torch.randn(1).numpy()


def test_training_draws_as_if_nothing_had_been_played(observation):
    before = repr(rng_state())
    with Evaluator("Hopper-v5", observation) as evaluator:
        evaluator.play(draw, episodes=2, seed=1)
        with pytest.raises(ZeroDivisionError):
            evaluator.play(lambda obs: draw(obs) * (1 // 0), episodes=1, seed=1)
    assert repr(rng_state()) == before


@pytest.mark.parametrize("env_id", ["Hopper-v5", "Reacher-v5", "Pusher-v5", "Ant-v5"])
def test_what_was_played_before_changes_nothing(env_id):
    """So that a resumed run, whose evaluator is new, gets the same returns."""
    dim, act_dim = make_env(env_id).observation_space.shape[0], make_env(env_id).action_space.shape
    normalizer = ObservationNormalizer(dim)

    def push(obs):
        return np.full((1, *act_dim), np.sin(3 * obs.sum()))

    with Evaluator(env_id, normalizer) as used, Evaluator(env_id, normalizer) as fresh:
        used.play(push, episodes=2, seed=1)
        assert used.play(push, episodes=2, seed=5) == fresh.play(push, episodes=2, seed=5)


def test_progress_is_seen_as_in_training(monkeypatch):
    monkeypatch.setattr(gym.registry["Hopper-v5"], "max_episode_steps", 4)
    seen = []

    def look(obs):
        seen.append(float(obs[0, -1]))
        return np.zeros((1, 3))

    envs = NormalizedEnvs("Hopper-v5", 1, seed=0, gamma=0.99, progress=True)
    observation = envs.observation_normalizer
    evaluate(look, "Hopper-v5", observation=observation, episodes=1, seed=0, progress=True)
    assert seen == [-0.5, -0.25, 0, 0.25]


def test_discrete_actions_are_played():
    envs = NormalizedEnvs("CartPole-v1", 1, seed=0, gamma=0.99)
    played = evaluate(
        lambda obs: np.array([1]), "CartPole-v1", observation=envs.observation_normalizer,
        episodes=2, seed=0,
    )  # fmt: skip
    assert all(5 < episode.episodic_return == episode.episodic_length < 15 for episode in played)


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (([0, np.nan], 1.0, False, False), FloatingPointError, "gave an observation whose entry 1"),
        (([0, 0], np.inf, False, False), FloatingPointError, "gave the reward inf"),
        (ValueError("joint"), EnvironmentFault, r"raised ValueError\('joint'\)"),
        (([0, 0], None, False, False), EnvironmentFault, "raised TypeError"),
    ],
)
def test_what_goes_wrong_is_named(scripted, result, error, message):
    envs = scripted([([0, 0], 1.0, False, False), result])
    normalizer = envs.observation_normalizer
    where = r"Scripted-v0, evaluation \(seed 7\), step 2 of its episode: "
    with (
        Evaluator("Scripted-v0", normalizer) as evaluator,
        pytest.raises(error, match=where + message),
    ):
        evaluator.play(lambda obs: np.zeros((1, 1)), episodes=1, seed=7)
