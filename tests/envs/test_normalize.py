"""Running statistics against their definition and against Gymnasium's wrappers."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import (
    NormalizeObservation,
    NormalizeReward,
    TransformObservation,
    TransformReward,
)
from gymnasium.wrappers.utils import RunningMeanStd as GymnasiumRunningMeanStd

from hesrl.envs.compiled_envs import compiled_envs
from hesrl.envs.mujoco import make_env
from hesrl.envs.normalize import ObservationNormalizer, RunningMeanStd
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.envs.reward_normalizer import RewardNormalizer
from hesrl.runs.checkpoint import load_checkpoint, save_checkpoint

GAMMA = 0.97
ONE_ULP = 1.2e-7
"""Two float64 numbers that differ by rounding can become neighbours in float32."""


def wrapped(env_id):
    """The environment in Gymnasium's wrappers, and those of them that hold statistics."""
    observation = NormalizeObservation(make_env(env_id))
    clipped = TransformObservation(observation, lambda obs: np.clip(obs, -10, 10), None)
    reward = NormalizeReward(clipped, gamma=GAMMA)
    return TransformReward(reward, lambda r: np.clip(r, -10, 10)), observation, reward


@pytest.mark.parametrize("batches", [[1] * 50, [7, 1, 1, 30, 2], [64]])
def test_mean_and_variance_are_those_of_all_samples(batches):
    """The start counts as samples of weight 1e-4 with mean 0 and variance 1."""
    rng = np.random.default_rng(0)
    statistics, weight = RunningMeanStd((3,)), sum(batches) + 1e-4
    samples = [5 + 3 * rng.standard_normal((n, 3)) for n in batches]
    for batch in samples:
        statistics.update(batch)
    everything = np.concatenate(samples)
    mean = everything.sum(0) / weight
    var = (1e-4 + (everything**2).sum(0)) / weight - mean**2
    np.testing.assert_allclose(statistics.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(statistics.var, var, rtol=1e-10)
    assert statistics.count == pytest.approx(weight, rel=1e-12)


def test_samples_are_left_as_they_are():
    batch = np.random.default_rng(1).standard_normal((4, 3))
    before = batch.copy()
    ObservationNormalizer(3)(batch)
    assert np.array_equal(batch, before)


@pytest.mark.parametrize(("env_id", "limit"), [("Hopper-v5", 40), ("HalfCheetah-v5", 60)])
def test_one_environment_gives_what_gymnasium_gives(monkeypatch, env_id, limit):
    monkeypatch.setattr(gym.registry[env_id], "max_episode_steps", limit)
    reference, observation, reward = wrapped(env_id)
    envs = NormalizedEnvs(env_id, 1, seed=5, gamma=GAMMA)
    rng = np.random.default_rng(5)
    np.testing.assert_allclose(envs.reset()[0], reference.reset(seed=5)[0], rtol=ONE_ULP)
    ends = []
    for _ in range(3000):
        action = rng.uniform(-1, 1, envs.action_space.shape).astype(np.float32)
        step = envs.step(action[None])
        obs, r, terminated, truncated, _ = reference.step(action)
        assert (step.terminations[0], step.truncations[0]) == (
            terminated,
            truncated and not terminated,
        )
        np.testing.assert_allclose(step.rewards[0], r, rtol=ONE_ULP)
        if terminated or truncated:
            np.testing.assert_allclose(step.final_obs[0], obs, rtol=ONE_ULP)
            ends.append("terminated" if terminated else "truncated")
            obs, _ = reference.reset()
        np.testing.assert_allclose(step.obs[0], obs, rtol=ONE_ULP, atol=1e-7)
    assert set(ends) == ({"terminated", "truncated"} if env_id == "Hopper-v5" else {"truncated"})
    statistics = envs.observation_normalizer.statistics
    np.testing.assert_allclose(statistics.mean, observation.obs_rms.mean, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(statistics.var, observation.obs_rms.var, rtol=1e-7)
    state = envs.state_dict()["reward_statistics"]
    assert state["var"] == pytest.approx(float(reward.return_rms.var), rel=1e-7)
    assert state["returns"][0] == pytest.approx(reward.discounted_reward.item(), rel=1e-12)


def test_environments_share_statistics_updated_batch_by_batch():
    """Each step's N observations enter as one batch, then each new episode's first alone."""
    envs = NormalizedEnvs("Hopper-v5", 3, seed=2, gamma=GAMMA)
    plain = [make_env("Hopper-v5") for _ in range(3)]
    obs_rms, return_rms = GymnasiumRunningMeanStd(shape=(11,)), GymnasiumRunningMeanStd()
    obs, returns = np.array([env.reset(seed=2 + i)[0] for i, env in enumerate(plain)]), np.zeros(3)
    obs_rms.update(obs)
    envs.reset()
    rng = np.random.default_rng(2)
    ended = 0
    for _ in range(1000):
        actions = rng.uniform(-1, 1, (3, 3)).astype(np.float32)
        step = envs.step(actions)
        results = [env.step(action) for env, action in zip(plain, actions, strict=True)]
        obs, rewards, terminations, _, _ = map(np.array, zip(*results, strict=True))
        obs_rms.update(obs)
        returns = returns * GAMMA * (1 - terminations) + rewards
        return_rms.update(returns)
        expected = np.clip((obs - obs_rms.mean) / np.sqrt(obs_rms.var + 1e-8), -10, 10)
        for i in np.flatnonzero(terminations):
            ended += 1
            np.testing.assert_allclose(step.final_obs[i], expected[i], rtol=ONE_ULP, atol=1e-7)
            first, _ = plain[i].reset()
            obs_rms.update(first[None])
            scaled = (first - obs_rms.mean) / np.sqrt(obs_rms.var + 1e-8)
            expected[i] = np.clip(scaled, -10, 10)
        np.testing.assert_allclose(step.obs, expected, rtol=ONE_ULP, atol=1e-7)
        scaled = np.clip(rewards / np.sqrt(return_rms.var + 1e-8), -10, 10)
        np.testing.assert_allclose(step.rewards, scaled, rtol=ONE_ULP)
    assert ended > 50


def test_outliers_are_clipped():
    normalizer = ObservationNormalizer(2)
    rng = np.random.default_rng(3)
    for _ in range(100):
        normalizer(rng.standard_normal((1, 2)))
    assert normalizer.normalize(np.array([[1e6, -1e6]])).tolist() == [[10, -10]]
    rewards = RewardNormalizer(0.0, 1)
    for _ in range(1000):
        rewards([rng.standard_normal()], [False])
    assert rewards([1e3], [False]) == [10]
    assert rewards([-1e3], [False]) == [-10]


def test_a_terminated_episode_ends_the_discounted_return():
    normalizer = RewardNormalizer(0.5, 2)
    normalizer([8.0, 8.0], [False, False])
    normalizer([1.0, 1.0], [True, False])
    assert normalizer.state_dict()["returns"] == [1.0, 5.0]


def test_normalize_alone_leaves_the_statistics():
    normalizer = ObservationNormalizer(2)
    normalizer(np.array([[1.0, 2.0], [3.0, 5.0]]))
    before = normalizer.statistics.state_dict()
    result = normalizer.normalize(np.array([[100.0, -100.0]]))
    assert result.dtype == np.float32
    after = normalizer.statistics.state_dict()
    assert torch.equal(before["mean"], after["mean"]) and torch.equal(before["var"], after["var"])
    assert before["count"] == after["count"]


def through_a_checkpoint(tmp_path, state):
    save_checkpoint(tmp_path / "checkpoint.pt", state)
    return load_checkpoint(tmp_path / "checkpoint.pt")


def test_statistics_of_observations_survive_a_checkpoint(tmp_path):
    samples = np.random.default_rng(4).standard_normal((2, 5, 3))
    original, copy = RunningMeanStd((3,)), RunningMeanStd((3,))
    original.update(samples[0])
    saved = through_a_checkpoint(tmp_path, original.state_dict())
    original.update(samples[1])
    copy.load_state_dict(saved)
    copy.update(samples[1])
    assert np.array_equal(copy.mean, original.mean) and np.array_equal(copy.var, original.var)
    assert copy.count == original.count


def test_statistics_of_rewards_survive_a_checkpoint(tmp_path):
    original, copy = RewardNormalizer(0.9, 2), RewardNormalizer(0.9, 2)
    original([1.5, -0.3], [False, False])
    saved = through_a_checkpoint(tmp_path, original.state_dict())
    expected = original([0.7, 0.1], [False, True])
    copy.load_state_dict(saved)
    assert copy([0.7, 0.1], [False, True]) == expected
    assert copy.state_dict() == original.state_dict() != saved


def test_a_state_is_a_snapshot():
    observations, rewards = RunningMeanStd((1,)), RewardNormalizer(0.9, 1)
    observations.update(np.array([[1.0]]))
    states = observations.state_dict(), rewards.state_dict()
    before = repr(states)
    observations.update(np.array([[100.0]]))
    rewards([100.0], [False])
    assert repr(states) == before


def hostile_batches(shape):
    """Batches of very small, very large, equal and ordinary numbers."""
    rng = np.random.default_rng(2)
    scales = [1.0, 1e-160, 1e30, 0.0, 3.0, 1e-3, 1e6]
    return [scale * (rng.standard_normal(shape) + 0.5) for scale in scales * 3]


@pytest.mark.parametrize("kept", [0, 2])
@pytest.mark.parametrize("shape", [(1, 5), (2, 17), (3, 4), (64, 9)])
def test_compiled_statistics_are_numpys_to_the_bit(kept, shape):
    obs = np.empty(shape)
    compiled, in_numpy = (ObservationNormalizer(shape[1], clip=3.0, kept=kept) for _ in range(2))
    compiled.follow(obs)
    results = []
    for batch in hostile_batches(shape):
        obs[:] = batch
        results.append((compiled(obs), in_numpy(batch)))
        assert str(compiled.state_dict()) == str(in_numpy.state_dict())
        assert np.array_equal(compiled.statistics.mean, in_numpy.statistics.mean)
        assert np.array_equal(compiled.statistics.var, in_numpy.statistics.var)
    # At the end, so that a result in the memory of a later one shows.
    for result, expected in results:
        assert result.dtype == np.float32 and np.array_equal(result, expected)
    assert max(np.abs(result[:, 0]).max() for result, _ in results) > 0.9


@pytest.mark.parametrize("variable", ["CXX", "HESRL_CACHE"])
def test_without_a_compiler_or_a_folder_numpy_computes(monkeypatch, tmp_path, variable):
    monkeypatch.setenv("HESRL_CACHE", str(tmp_path / "cache"))  # nothing is compiled there yet
    tmp_path.chmod(0o777)
    monkeypatch.setenv(variable, str(tmp_path))
    compiled_envs.cache_clear()
    envs = NormalizedEnvs("Hopper-v5", 2, seed=1, gamma=GAMMA)
    assert compiled_envs() is None
    monkeypatch.undo()
    compiled_envs.cache_clear()
    compiled = NormalizedEnvs("Hopper-v5", 2, seed=1, gamma=GAMMA)
    assert compiled_envs() is not None
    for made in (envs, compiled):
        made.reset()
    for action in np.random.default_rng(0).standard_normal((60, 2, 3), dtype=np.float32):
        assert np.array_equal(envs.step(action).obs, compiled.step(action).obs)
