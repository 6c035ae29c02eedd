"""Stepping N environments: what a step gives, restarts and resuming."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from hesrl.envs.mujoco import make_env
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.envs.steps import Episode
from hesrl.errors import UserError
from hesrl.runs.checkpoint import load_checkpoint, save_checkpoint

FINE = ([0.5, 1.0], 1.0, False, False)


def step(envs):
    return envs.step(np.zeros((len(envs.observations), 1), dtype=np.float32))


def test_shapes_and_types_of_a_step():
    envs = NormalizedEnvs("Hopper-v5", 3, seed=0, gamma=0.99)
    obs = envs.reset()
    assert obs.shape == (3, 11) and obs.dtype == np.float32
    given = envs.step(np.zeros((3, 3), dtype=np.float32))
    assert given.obs.shape == (3, 11) and given.obs.dtype == np.float32
    assert given.rewards.shape == (3,) and given.rewards.dtype == np.float32
    assert given.terminations.dtype == given.truncations.dtype == bool
    assert given.final_obs is None and given.episodes == []
    assert given.obs is envs.observations


def test_environments_start_from_seeds_in_turn(scripted):
    envs = scripted([FINE], [FINE], [FINE])
    mean = envs.observation_normalizer.statistics.mean
    envs.reset()
    assert mean == pytest.approx([8, 8], rel=1e-4)


def test_equal_seeds_give_equal_runs():
    runs = []
    for _ in range(2):
        envs = NormalizedEnvs("Hopper-v5", 2, seed=3, gamma=0.99)
        envs.reset()
        actions = np.random.default_rng(0).standard_normal((100, 2, 3), dtype=np.float32)
        runs.append(np.array([envs.step(action).obs for action in actions]))
    assert np.array_equal(*runs)
    assert not np.array_equal(runs[0][:, 0], runs[0][:, 1])


def test_actions_are_clipped_to_the_bounds(scripted):
    envs = scripted([FINE] * 4)
    envs.reset()
    actions = np.float32([-5.0, 5.0, 0.3, np.inf])
    for action in actions:
        envs.step(action.reshape(1, 1))
    received = np.ravel(envs.plain.envs[0].unwrapped.received)
    assert received.tolist() == np.float32([-1, 2, 0.3, 2]).tolist()
    assert actions[0] == -5


@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        (True, False, (True, False)),
        (False, True, (False, True)),
        (True, True, (True, False)),
        (np.bool_(True), np.bool_(False), (True, False)),
    ],
)
def test_a_truncation_is_what_a_time_limit_alone_ended(scripted, terminated, truncated, expected):
    envs = scripted([FINE, ([0, 0], 1.0, terminated, truncated)])
    envs.reset()
    assert not step(envs).truncations.any()
    given = step(envs)
    assert (given.terminations.tolist(), given.truncations.tolist()) == (
        [expected[0]],
        [expected[1]],
    )


def test_an_episode_ends_with_its_last_observation_and_the_next_ones_first(scripted):
    envs = scripted([FINE, ([3.0, 4.0], 0.0, True, False)], [FINE] * 3)
    envs.reset()
    step(envs)
    given = step(envs)
    both = np.array([[3.0, 4.0], FINE[0]])
    assert given.final_obs.shape == (2, 2)
    assert given.obs[1].tolist() == given.final_obs[1].tolist()
    normalize = envs.observation_normalizer.normalize
    np.testing.assert_array_equal(given.obs[0], normalize(np.array([[7.0, 7.0]]))[0])
    # Two rows entered before the new episode's first observation did.
    twin = scripted([FINE, FINE], [FINE] * 3)
    twin.reset()
    step(twin)
    twin.observation_normalizer.statistics.update(both)
    np.testing.assert_array_equal(given.final_obs, twin.observation_normalizer.normalize(both))
    assert step(envs).final_obs is None


def test_episodes_come_with_their_plain_returns_and_lengths(scripted):
    short = [FINE, ([0, 0], -500.0, True, False)]
    long = [FINE, FINE, ([0, 0], 2.5, False, True)]
    envs = scripted(short, long)
    envs.reset()
    episodes = [step(envs).episodes for _ in range(6)]
    a, b = Episode(0, -499.0, 2), Episode(1, 4.5, 3)
    assert episodes == [[], [a], [b], [a], [], [a, b]]


def test_returns_and_lengths_are_those_that_gymnasium_records(monkeypatch):
    monkeypatch.setattr(gym.registry["Hopper-v5"], "max_episode_steps", 30)
    envs = NormalizedEnvs("Hopper-v5", 1, seed=4, gamma=0.99)
    reference = gym.wrappers.RecordEpisodeStatistics(make_env("Hopper-v5"))
    reference.reset(seed=4)
    envs.reset()
    ended = []
    for action in np.random.default_rng(4).uniform(-1, 1, (500, 3)).astype(np.float32):
        episodes = envs.step(action[None]).episodes
        *_, terminated, truncated, info = reference.step(action)
        assert bool(episodes) == (terminated or truncated)
        if episodes:
            assert episodes[0].episodic_length == info["episode"]["l"]
            assert episodes[0].episodic_return == pytest.approx(info["episode"]["r"], rel=1e-12)
            ended += episodes
            reference.reset()
    assert len(ended) > 15


def test_a_second_reset_begins_new_episodes(scripted):
    envs = scripted([FINE, ([0, 0], 2.0, True, False)])
    envs.reset()
    step(envs)
    envs.reset()
    step(envs)
    assert step(envs).episodes == [Episode(0, 3.0, 2)]


def test_state_is_a_snapshot(scripted):
    envs = scripted([FINE, FINE, FINE])
    envs.reset()
    step(envs)
    state = envs.state_dict()
    before = str(state)
    step(envs)
    assert str(state) == before


def pendulums(num_envs=2, steps=0, seed=0):
    envs = NormalizedEnvs("Pendulum-v1", num_envs, seed=seed, gamma=0.99)
    envs.reset()
    for _ in range(steps):
        step(envs)
    return envs


def raw_observations(envs):
    """The observations before they were normalized."""
    statistics = envs.observation_normalizer.statistics
    return envs.observations * np.sqrt(statistics.var + 1e-8) + statistics.mean


def test_a_state_that_cannot_be_saved_keeps_statistics_and_begins_episodes(tmp_path):
    envs = pendulums(steps=150)
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, envs.state_dict())
    state = load_checkpoint(path)
    resumed = pendulums()
    assert resumed.load_state_dict(state) is False
    assert resumed.state_dict()["reward_statistics"] == state["reward_statistics"]
    # The first observations of the new episodes have entered.
    expected = envs.observation_normalizer.statistics
    expected.update(resumed.plain.raw)
    after = resumed.observation_normalizer.statistics
    assert np.array_equal(after.mean, expected.mean) and after.count == expected.count
    episodes = [step(resumed).episodes for _ in range(200)]
    assert [episode.episodic_length for episode in episodes[-1]] == [200, 200]
    assert not any(episodes[:-1])


def test_new_episodes_after_a_resume_are_deterministic_and_repeat_none():
    firsts = {}
    for steps in (0, 10, 11):
        state = pendulums(steps=steps).state_dict()
        for attempt in range(2):
            resumed = pendulums()
            resumed.load_state_dict(state)
            firsts[steps, attempt] = raw_observations(resumed).round(5).tolist()
        assert firsts[steps, 0] == firsts[steps, 1]
    starts = raw_observations(pendulums()).round(5).tolist()
    starts += firsts[0, 0] + firsts[10, 0] + firsts[11, 0]
    assert len({tuple(start) for start in starts}) == 8


def test_a_state_of_an_earlier_version_is_refused():
    envs = pendulums()
    with pytest.raises(UserError, match="the checkpoint is of an earlier version of hesrl: resume"):
        envs.load_state_dict({**envs.state_dict(), "envs": [None, None]})


def test_closing_closes_every_environment(scripted):
    envs = scripted([FINE], [FINE])
    assert [env.unwrapped.closed for env in envs.plain.envs] == [False, False]
    envs.close()
    assert [env.unwrapped.closed for env in envs.plain.envs] == [True, True]
