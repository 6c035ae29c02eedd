"""N arms as arrays against N single arms."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import hesrl.envs  # noqa: F401  registers the environments
from hesrl.envs.ur5.simulation import UR5ReacherSim
from hesrl.envs.ur5.vector_simulation import UR5ReacherVec
from hesrl.errors import UserError

N = 6


@pytest.mark.parametrize("speed_limit", [0.3, 1.0])
def test_n_arms_are_n_single_arms_through_guards_and_resets(speed_limit):
    settings = {"speed_limit": speed_limit, "episode_time": 8.0}
    envs = UR5ReacherVec(N, **settings)
    singles = SyncVectorEnv([lambda: UR5ReacherSim(**settings)] * N)
    rng, acted = np.random.default_rng(0), set()
    # Constant actions lead out of the box, and for the last arms out of the joints' limits.
    corners = np.float32([[1, 1], [-1, -1], [-1, 0], [0, 0], [-0.5, 0.25], [-1, 0.5]])
    given, expected = envs.reset(seed=5), singles.reset(seed=5)
    np.testing.assert_allclose(given[0], expected[0], rtol=1e-6, atol=1e-7)
    for _ in range(430):
        noise = rng.uniform(-0.3, 0.3, (N, 2)).astype(np.float32)
        given, expected = envs.step(corners + noise), singles.step(corners + noise)
        np.testing.assert_allclose(given[0], expected[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(given[1], expected[1], rtol=1e-9, atol=1e-9)
        assert np.array_equal(given[2], expected[2]) and np.array_equal(given[3], expected[3])
        np.testing.assert_allclose(given[4]["distance"], expected[4]["distance"], atol=1e-9)
        assert given[4]["guard"].tolist() == expected[4]["guard"].tolist()
        acted |= set(given[4]["guard"])
    assert acted == {None, "box", "joint"}


def test_shapes_types_and_spaces():
    envs = UR5ReacherVec(N)
    obs, _ = envs.reset(seed=0)
    given, rewards, terminations, truncations, _ = envs.step(envs.action_space.sample())
    assert obs.shape == (N, 8) and obs.dtype == np.float32 and envs.observation_space.contains(obs)
    assert given.flags.c_contiguous and rewards.shape == (N,) and rewards.dtype == np.float64
    assert terminations.dtype == truncations.dtype == bool
    assert envs.single_action_space.shape == (2,)


def test_what_a_step_gave_does_not_change_later():
    envs = UR5ReacherVec(2)
    envs.reset(seed=0)
    kept = envs.step([[-1, -1], [1, 1]])
    copies = [np.copy(array) for array in (*kept[:4], *kept[4].values())]
    for _ in range(120):
        envs.step([[-1, -1], [1, 1]])
    for array, copy in zip((*kept[:4], *kept[4].values()), copies, strict=True):
        assert np.array_equal(array, copy)


def test_the_step_after_the_end_resets_heeding_no_action():
    envs = UR5ReacherVec(2, episode_time=0.12)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    envs.reset(seed=0)
    ends = [envs.step(np.ones((2, 2)))[3].tolist() for _ in range(3)]
    assert ends == [[False] * 2, [False] * 2, [True] * 2]
    obs, rewards, _, truncations, _ = envs.step(np.ones((2, 2)))
    assert not rewards.any() and not truncations.any()
    assert obs[:, :4] == pytest.approx(np.tile([-2.4, 1.5, 0, 0], (2, 1)))
    assert envs.step(np.ones((2, 2)))[1].all()


def test_gymnasium_makes_it_by_its_id():
    envs = gym.make_vec("hesrl/UR5Reacher-v0", num_envs=3, speed_limit=1.0)
    assert isinstance(envs, UR5ReacherVec) and envs.settings.speed_limit == 1.0
    short = gym.make_vec("hesrl/UR5Reacher-v0", num_envs=3, max_episode_steps=2)
    short.reset(seed=0)
    assert [short.step(np.zeros((3, 2)))[3].all() for _ in range(2)] == [False, True]


def test_a_reset_goes_on_with_its_generators_and_takes_seeds_and_a_target():
    envs = UR5ReacherVec(2)
    first, second = envs.reset(seed=7)[0], envs.reset()[0]
    assert not np.array_equal(first, second)
    assert np.array_equal(envs.reset(seed=[7, 8])[0], first)
    assert np.array_equal(envs.reset(seed=[8, None])[0][0], first[1])
    obs, _ = envs.reset(options={"target": (0.1, 0.7)})
    assert np.array_equal(obs[0], obs[1])


def test_pictures_of_every_arm():
    envs = UR5ReacherVec(2, render_mode="rgb_array")
    envs.reset(seed=0)
    one, other = envs.render()
    assert one.shape == other.shape == (480, 480, 3) and not np.array_equal(one, other)
    assert UR5ReacherVec(2).render() is None


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros((3, 2)), r"actions must be numbers of shape \(2, 2\)"),
        (np.zeros(2), r"actions must be numbers of shape \(2, 2\)"),
        ([["a", "b"], ["c", "d"]], "actions must be numbers"),
        ([[0, 0], [np.nan, 0]], r"actions must be finite; that of arm 1 is \[nan, 0.0\]"),
    ],
)
def test_malformed_actions_are_refused_before_anything_changes(actions, message):
    envs, twin = UR5ReacherVec(2), UR5ReacherVec(2)
    envs.reset(seed=0)
    twin.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        envs.step(actions)
    assert np.array_equal(envs.step(np.ones((2, 2)))[0], twin.step(np.ones((2, 2)))[0])


def test_misuse_is_refused():
    with pytest.raises(ResetNeeded, match="call reset"):
        UR5ReacherVec(2).step(np.zeros((2, 2)))
    with pytest.raises(UserError, match="num_envs is 0; it must be at least 1"):
        UR5ReacherVec(0)
    with pytest.raises(UserError, match="max_episode_steps is 0"):
        UR5ReacherVec(1, max_episode_steps=0)
    with pytest.raises(UserError, match="render_mode 'human'"):
        UR5ReacherVec(1, render_mode="human")
    with pytest.raises(UserError, match="3 seeds for 2 arms"):
        UR5ReacherVec(2).reset(seed=[1, 2, 3])
