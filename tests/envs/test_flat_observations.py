"""Observations of several parts as one vector, and actions of several parts."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from gymnasium.spaces.utils import flatten, flatten_space, unflatten

from hesrl.envs.episode_player import EpisodePlayer
from hesrl.envs.flat_observations import FlatBox, has_images
from hesrl.envs.mujoco import make_env
from hesrl.envs.normalize import Observations
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.envs.spaces import actions_for
from hesrl.errors import EnvironmentFault, UserError
from tests.rl.toy_spaces import OBSERVATIONS, ToySpaces

TOY = "tests.rl.toy_spaces:ToySpaces-v0"


def toy_envs(observations, num_envs=2, **settings):
    options = {"observations": observations}
    return NormalizedEnvs(TOY, num_envs, seed=0, gamma=0.9, env_options=options, **settings)


@pytest.mark.parametrize("kind", ["discrete", "choices", "bits", "dict"])
def test_without_images_it_is_gymnasiums_flattening(kind):
    env, plain = make_env(TOY, observations=kind), ToySpaces(kind)
    obs, expected = env.reset(seed=1)[0], plain.reset(seed=1)[0]
    space = env.observation_space
    assert isinstance(space, FlatBox) and not has_images(space)
    assert space == flatten_space(plain.observation_space) and space.contains(obs)
    for _ in range(5):
        assert np.array_equal(obs, flatten(plain.observation_space, expected))
        action = env.action_space.sample()
        obs, expected = env.step(action)[0], plain.step(action)[0]


@pytest.mark.parametrize("kind", ["images", "pictures"])
def test_images_stand_behind_the_other_entries(kind):
    env, plain = make_env(TOY, observations=kind), ToySpaces(kind)
    obs, expected = env.reset(seed=1)[0], plain.reset(seed=1)[0]
    space, asked = env.observation_space, expected.get("asked", np.zeros(0, np.float32))
    assert obs.dtype == space.dtype == np.float32 and space.contains(obs) and has_images(space)
    assert space.vector_size == len(asked) and np.array_equal(obs[: len(asked)], asked)
    assert space.images == tuple(expected[k].shape for k in ("above", "beside") if k in expected)
    back = unflatten(space.original, obs)
    assert back.keys() == expected.keys()
    assert all(np.array_equal(back[key], expected[key]) for key in expected)
    assert make_env(TOY, observations=kind, flat=False).observation_space == OBSERVATIONS[kind]


def test_only_what_is_no_pixel_is_normalized():
    envs, raw = toy_envs("images"), toy_envs("images", normalize_observations=False)
    seen, plain = envs.reset(), raw.reset()
    for _ in range(3):
        assert seen.dtype == plain.dtype == np.float32
        assert np.array_equal(seen[:, 3:], plain[:, 3:]) and plain.max() == 255
        assert not np.allclose(seen[:, :3], plain[:, :3])
        actions = np.zeros((2, 3), np.int64)
        seen, plain = envs.step(actions).obs, raw.step(actions).obs
    assert envs.state_dict()["observation_statistics"]["mean"].shape == (3,)
    pixels = toy_envs("pictures")
    assert pixels.state_dict()["observation_statistics"] == {} and pixels.reset().max() == 255


class Wrong(ToySpaces):
    """Gives something else at its third step."""

    def __init__(self, what, **settings):
        super().__init__("images", **settings)
        self.what = what

    def _ask(self):
        obs = super()._ask()
        if self.steps == 3:
            obs |= self.what
        return obs


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"above": np.zeros((36, 37, 1))}, "the image above is of float64, and its space of uint8"),
        ({"asked": np.zeros(4)}, r"of shape \(3928,\) .*; its observation space has shape \(3927,"),
        ({"asked": None}, "gave an observation|raised TypeError|raised ValueError"),
        ({"asked": np.full(3, np.nan)}, "an observation whose entry 0 is nan"),
    ],
)
def test_an_entry_that_is_not_of_its_space_ends_in_one_line(monkeypatch, what, message):
    monkeypatch.delitem(gym.registry, "Wrong-v0", raising=False)
    gym.register("Wrong-v0", entry_point=Wrong)
    envs = NormalizedEnvs("Wrong-v0", 1, seed=0, gamma=0.9, env_options={"what": what})
    player = EpisodePlayer("Wrong-v0", Observations(), env_options={"what": what})
    envs.reset()
    faults = EnvironmentFault, FloatingPointError
    with pytest.raises(faults, match=f"step 3 of its episode.*({message})") as caught:
        for _ in range(3):
            envs.step(np.zeros((1, 3), np.int64))
    assert "\n" not in str(caught.value)
    with pytest.raises(faults, match=f"step 3 of its episode.*({message})"):
        player.play(lambda obs: np.zeros((1, 3), np.int64), episodes=1, seed=0)


def test_the_progress_of_an_episode_follows_what_was_flattened():
    reach = "tests.rl.toy_spaces:ToyReach-v0"
    envs = NormalizedEnvs(reach, 1, seed=0, gamma=0.9, progress=True)
    assert envs.reset().shape == (1, 7) and envs.observations[0, -1] == -0.5
    with pytest.raises(UserError, match=r"^--progress: .* has no time limit"):
        toy_envs("dict", progress=True)


@pytest.mark.parametrize(
    ("space", "given", "taken"),
    [
        (MultiDiscrete([2, 3], start=[5, -1]), [[0, 2], [1, 0]], [[5, 1], [6, -1]]),
        (MultiDiscrete([[2], [3]]), [[0, 2]], [[[0], [2]]]),
        (MultiBinary(2), [[0.0, 1.0]], [[0, 1]]),
        (MultiBinary((2, 1)), [[0.0, 1.0]], [[[0], [1]]]),
        (Discrete(3, start=7), [0, 2], [7, 9]),
    ],
)
def test_actions_are_brought_into_their_space(space, given, taken):
    actions = actions_for("Test-v0", space)(np.array(given))
    assert np.array_equal(actions, taken)
    if not isinstance(space, Discrete):
        assert all(space.contains(action) for action in actions)
    wrong = np.array(given)
    wrong.flat[0] = 9
    with pytest.raises(ValueError, match=r"^Test-v0: an action is not "):
        actions_for("Test-v0", space)(wrong)


def test_actions_without_bounds_are_not_clipped_and_said_to_be_so(capsys):
    space = Box(np.array([-np.inf, -1], np.float32), np.array([np.inf, np.inf], np.float32))
    actions = actions_for("Test-v0", space)(np.array([[-1e30, -1e30], [1e30, 1e30]]))
    assert actions.tolist() == [[-1e30, -1.0], [1e30, 1e30]]
    for kind, says in (("unbounded", True), ("half bounded", True), ("bits", False)):
        NormalizedEnvs(TOY, 3, seed=0, gamma=0.9, env_options={"actions": kind})
        out, err = capsys.readouterr()
        line = f"warning: {TOY} has actions without bounds; they reach it as the policy draws them"
        assert out == "" and err == (f"{line}, not clipped\n" if says else "")
