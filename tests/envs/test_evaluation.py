"""Evaluation episodes: fixed statistics, plain returns, one result per seed."""

from __future__ import annotations

import copy
import os
import random
import sys
from contextlib import closing, contextmanager
from statistics import fmean

import gymnasium as gym
import numpy as np
import pytest
import torch

from hesrl.envs.episode_player import EpisodePlayer
from hesrl.envs.evaluation import Evaluator
from hesrl.envs.mujoco import make_env
from hesrl.envs.normalize import ObservationNormalizer
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.errors import EnvironmentFault, UserError
from hesrl.runs.checkpoint import rng_state
from tests.rl.comparison import assert_same

IMAGES = "tests.rl.tiny_images:TinyImages-v0"


@pytest.fixture
def observation():
    """Statistics that are far from those at the start."""
    normalizer = ObservationNormalizer(11)
    normalizer(2 + 3 * np.random.default_rng(0).standard_normal((500, 11)))
    return normalizer


def act(obs):
    """Some policy that depends on what it sees, and leaves the bounds at times."""
    return 2 * np.sin(5 * obs[:, :3])


def play(observation, seed, episodes=3, act=act, env_id="Hopper-v5", **options):
    with closing(EpisodePlayer(env_id, observation, **options)) as player:
        return player.play(act, episodes=episodes, seed=seed)


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
        play(observation, seed=0, env_id="Hoper-v5")


def draw(obs):
    """A policy that draws from every generator."""
    random.random()
    return np.random.standard_normal((1, 3)) + torch.randn(1).numpy()


def test_training_draws_as_if_nothing_had_been_played(observation):
    before = repr(rng_state())
    with closing(EpisodePlayer("Hopper-v5", observation)) as player:
        player.play(draw, episodes=2, seed=1)
        with pytest.raises(ZeroDivisionError):
            player.play(lambda obs: draw(obs) * (1 // 0), episodes=1, seed=1)
    assert repr(rng_state()) == before


@pytest.mark.parametrize("env_id", ["Hopper-v5", "Reacher-v5", "Pusher-v5", "Ant-v5"])
def test_what_was_played_before_changes_nothing(env_id):
    """So that a resumed run, whose player is new, gets the same returns."""
    dim, act_dim = make_env(env_id).observation_space.shape[0], make_env(env_id).action_space.shape
    normalizer = ObservationNormalizer(dim)

    def push(obs):
        return np.full((1, *act_dim), np.sin(3 * obs.sum()))

    with (
        closing(EpisodePlayer(env_id, normalizer)) as used,
        closing(EpisodePlayer(env_id, normalizer)) as fresh,
    ):
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
    play(observation, seed=0, episodes=1, act=look, progress=True)
    assert seen == [-0.5, -0.25, 0, 0.25]


def test_discrete_actions_are_played():
    envs = NormalizedEnvs("CartPole-v1", 1, seed=0, gamma=0.99)
    played = play(envs.observation_normalizer, 0, 2, lambda obs: np.array([1]), "CartPole-v1")
    assert all(5 < episode.episodic_return == episode.episodic_length < 15 for episode in played)


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (([0, np.nan], 1.0, False, False), FloatingPointError, "gave an observation whose entry 1"),
        (([0, 0], np.inf, False, False), FloatingPointError, "gave the reward inf"),
        (ValueError("joint"), EnvironmentFault, r"raised ValueError\('joint'\)"),
        (
            ([0, 0], None, False, False),
            EnvironmentFault,
            "gave the reward None, which is no number",
        ),
    ],
)
def test_what_goes_wrong_is_named(scripted, result, error, message):
    envs = scripted([([0, 0], 1.0, False, False), result])
    normalizer = envs.observation_normalizer
    where = r"Scripted-v0, evaluation \(seed 7\), step 2 of its episode: "
    with (
        closing(EpisodePlayer("Scripted-v0", normalizer)) as player,
        pytest.raises(error, match=where + message),
    ):
        player.play(lambda obs: np.zeros((1, 1)), episodes=1, seed=7)


@contextmanager
def training(env_id="Hopper-v5", shift=0.0, progress=False, **options):
    """Environments of training that have been played in, and an evaluator of a policy."""
    with closing(NormalizedEnvs(env_id, 2, seed=3, gamma=0.99, progress=progress)) as envs:
        shape = (2, *envs.action_space.shape)

        def policy(obs):
            if not shape[1:]:
                return np.array([int(obs.sum() + shift) % 2])
            return np.sin(obs.sum() + shift) * np.ones((1, *shape[1:]))

        envs.reset()
        for _ in range(20):
            envs.step(np.zeros(shape, dtype=np.float32 if shape[1:] else np.int64))
        settings = {"episodes": 3, "seed": 5, "progress": progress, **options}
        with Evaluator(policy, env_id, envs.observation_normalizer, **settings) as evaluator:
            yield envs, evaluator


def test_an_evaluator_plays_the_same_episodes_each_time(tmp_path):
    with training() as (_, evaluator), training(shift=1.0) as (_, other):
        first = evaluator.play(tmp_path, 100)
        assert len({episode.episodic_return for episode in first}) == 3
        assert evaluator.play(tmp_path, 200) == first != other.play(tmp_path, 200)
        mean_return = fmean(episode.episodic_return for episode in first)
        assert evaluator.mean_return(tmp_path, 300) == mean_return
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("env_id", ["Hopper-v5", "CartPole-v1", IMAGES])
def test_an_evaluator_leaves_training_as_it_was(tmp_path, env_id):
    with training(env_id) as (envs, evaluator):
        before = copy.deepcopy((envs.state_dict(), rng_state()))
        evaluator.play(tmp_path, 100)
        assert_same((envs.state_dict(), rng_state()), before)


def test_a_video_lies_in_the_run_and_changes_nothing(tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="needs hesrl[video]")
    with training(IMAGES) as (_, plain), training(IMAGES, video=True) as (_, filmed):
        assert filmed.play(tmp_path, 100) == plain.play(tmp_path, 100)
    assert os.listdir(tmp_path / "videos") == ["step-100.mp4"]


def test_a_video_that_cannot_be_made_closes_what_was_open(monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    closed = []
    monkeypatch.setattr(EpisodePlayer, "close", lambda self: closed.append(self))
    with pytest.raises(UserError, match=r"pip install 'hesrl\[video\]'"), training(video=True):
        pass
    assert len(closed) == 1
