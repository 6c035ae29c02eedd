"""Other spaces and options: discrete actions, images, progress, no normalization."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Discrete

from hesrl.envs.mujoco import make_env
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.errors import EnvironmentFault, UserError
from hesrl.runs.checkpoint import load_checkpoint, save_checkpoint

FINE = ([0.5, 1.0], 1.0, False, False)


class Pictures(gym.Env):
    """Shows random pictures for five steps; actions are 3, 4 and 5, and are kept."""

    action_space = Discrete(3, start=3)

    def __init__(self, shape=(4, 6, 3), dtype=np.uint8):
        self.observation_space = Box(0, 255, shape, np.uint8)
        self.dtype, self.received = dtype, []

    def _picture(self):
        shape = self.observation_space.shape
        return self.np_random.integers(0, 256, shape).astype(self.dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._picture(), {}

    def step(self, action):
        self.received.append(action)
        self.steps += 1
        return self._picture(), 300.0, self.steps == 5, False, {}


@pytest.fixture
def pictures(monkeypatch):
    def make(num_envs=2, **kwargs):
        spec = EnvSpec("Pictures-v0", entry_point=Pictures, kwargs=kwargs)
        monkeypatch.setitem(gym.registry, "Pictures-v0", spec)
        return NormalizedEnvs("Pictures-v0", num_envs, seed=3, gamma=0.9)

    return make


@pytest.mark.parametrize("shape", [(4, 6, 3), (3, 4, 6)])
def test_images_come_as_their_bytes(pictures, shape):
    envs, twins = pictures(shape=shape), [Pictures(shape), Pictures(shape)]
    first = envs.reset()
    assert first.dtype == np.uint8 and first.shape == (2, *shape)
    expected = [twin.reset(seed=3 + i)[0] for i, twin in enumerate(twins)]
    np.testing.assert_array_equal(first, expected)
    for _ in range(4):
        given = envs.step(np.zeros(2, dtype=np.int64))
        np.testing.assert_array_equal(given.obs, [twin.step(3)[0] for twin in twins])
    assert given.final_obs is None and given.rewards.max() < 10
    given = envs.step(np.zeros(2, dtype=np.int64))
    np.testing.assert_array_equal(given.final_obs, [twin.step(3)[0] for twin in twins])
    np.testing.assert_array_equal(given.obs, [twin.reset()[0] for twin in twins])
    assert given.obs.dtype == given.final_obs.dtype == np.uint8
    np.testing.assert_array_equal(first, expected)


def test_images_of_another_type_than_bytes_are_named(pictures):
    with pytest.raises(EnvironmentFault, match=r"of shape \(4, 6, 3\) and type float64; .* uint8$"):
        pictures(dtype=np.float64).reset()


def test_a_run_on_images_goes_through_a_checkpoint(pictures, tmp_path):
    envs = pictures()
    envs.reset()
    envs.step(np.zeros(2, dtype=np.int64))
    save_checkpoint(tmp_path / "checkpoint.pt", envs.state_dict())
    resumed = pictures()
    assert resumed.load_state_dict(load_checkpoint(tmp_path / "checkpoint.pt")) is False
    assert resumed.steps == 2 and resumed.observations.dtype == np.uint8
    resumed.step(np.zeros(2, dtype=np.int64))
    assert resumed.steps == 4


def test_discrete_actions_are_integers_of_the_space(pictures):
    envs = pictures()
    envs.reset()
    for actions in ([0, 1], [2, 0]):
        envs.step(np.array(actions))
    assert [env.unwrapped.received for env in envs.plain.envs] == [[3, 5], [4, 3]]
    assert {type(n) for env in envs.plain.envs for n in env.unwrapped.received} == {int}


def test_cartpole_is_what_gymnasium_gives():
    envs, plain = NormalizedEnvs("CartPole-v1", 1, seed=2, gamma=0.99), make_env("CartPole-v1")
    envs.reset()
    plain.reset(seed=2)
    lengths = []
    for n, action in enumerate(np.random.default_rng(0).integers(0, 2, 300)):
        given = envs.step(np.array([action]))
        obs, _, terminated, truncated, _ = plain.step(int(action))
        assert bool(given.episodes) == (terminated or truncated)
        if not given.episodes:
            np.testing.assert_array_equal(envs.plain.raw[0], obs)
        else:
            lengths.append(given.episodes[0].episodic_length)
            plain.reset()
        assert envs.steps == n + 1
    assert len(lengths) > 5


def test_plain_observations_and_rewards(scripted):
    script = [([3.0, -400.0], 50.0, False, False), ([1.0, 2.0], -7.0, True, False)]
    envs = scripted(script, options={"normalize_observations": False, "normalize_rewards": False})
    assert envs.reset().tolist() == [[7, 7]]
    given = envs.step(np.zeros((1, 1), dtype=np.float32))
    assert (given.obs.tolist(), given.rewards.tolist()) == ([[3, -400]], [50])
    assert given.obs.dtype == given.rewards.dtype == np.float32
    given = envs.step(np.zeros((1, 1), dtype=np.float32))
    assert (given.obs.tolist(), given.final_obs.tolist()) == ([[7, 7]], [[1, 2]])
    assert given.rewards.tolist() == [-7]


@pytest.mark.parametrize("option", ["normalize_observations", "normalize_rewards"])
def test_each_normalization_alone_leaves_the_other(scripted, option):
    script = [([3.0, -400.0], 50.0, False, False)]
    both, one = scripted(script), scripted(script, options={option: False})
    for envs in (both, one):
        envs.reset()
    a, b = (envs.step(np.zeros((1, 1), dtype=np.float32)) for envs in (both, one))
    assert np.array_equal(a.obs, b.obs) == (option == "normalize_rewards")
    assert np.array_equal(a.rewards, b.rewards) == (option == "normalize_observations")


def progress(envs, steps):
    envs.reset()
    action = np.zeros((1, *envs.action_space.shape), dtype=np.float32)
    return [envs.step(action) for _ in range(steps)]


@pytest.mark.parametrize("normalize", [True, False])
def test_progress_runs_from_minus_to_plus_one_half(monkeypatch, normalize):
    monkeypatch.setattr(gym.registry["HalfCheetah-v5"], "max_episode_steps", 4)
    options = {"seed": 0, "gamma": 0.99, "normalize_observations": normalize}
    envs = NormalizedEnvs("HalfCheetah-v5", 1, progress=True, **options)
    plain = NormalizedEnvs("HalfCheetah-v5", 1, **options)
    assert envs.observation_space.shape == (18,)
    steps = progress(envs, 6)
    assert [step.obs[0, -1] for step in steps] == [-0.25, 0, 0.25, -0.5, -0.25, 0]
    assert steps[3].final_obs[0, -1] == 0.5 and steps[3].truncations[0]
    for step, other in zip(steps, progress(plain, 6), strict=True):
        np.testing.assert_array_equal(step.obs[:, :-1], other.obs)
    assert envs.reset()[0, -1] == -0.5


def test_progress_goes_on_after_a_resume():
    envs, resumed = (
        NormalizedEnvs("Hopper-v5", 1, seed=seed, gamma=0.99, progress=True) for seed in (0, 9)
    )
    progress(envs, 5)
    resumed.load_state_dict(envs.state_dict())
    steps = [e.step(np.zeros((1, 3), dtype=np.float32)) for e in (envs, resumed)]
    assert np.array_equal(steps[0].obs, steps[1].obs)
    assert steps[0].obs[0, -1] == np.float32(6 / 1000 - 0.5)
    assert torch.equal(*(e.state_dict()["observations"] for e in (envs, resumed)))


def test_progress_without_a_limit_or_of_images_is_refused(monkeypatch):
    monkeypatch.setattr(gym.registry["Hopper-v5"], "max_episode_steps", None)
    with pytest.raises(UserError, match="--progress: environment Hopper-v5 has no time limit"):
        make_env("Hopper-v5", progress=True)
    spec = EnvSpec("Pictures-v0", entry_point=Pictures, max_episode_steps=9)
    monkeypatch.setitem(gym.registry, "Pictures-v0", spec)
    with pytest.raises(UserError, match="--progress: environment Pictures-v0 observes images"):
        make_env("Pictures-v0", progress=True)
