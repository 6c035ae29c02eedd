"""The task of the UR5 Reacher: numbers, observation, reward, targets and actions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.envs.ur5.task import (
    Task,
    clipped_action,
    observation_space,
    reward,
    sample_target,
    target_of,
)
from hesrl.errors import UserError

SETTINGS = ReacherSettings()
PLANE = SETTINGS.plane
START = (-2.4, 1.5)


def started(target=(0.1, 0.7), **settings):
    task = Task(ReacherSettings(**settings))
    task.reset(np.random.default_rng(0), {"target": target})
    return task


def test_an_episode_is_100_steps_of_5_ticks():
    assert (SETTINGS.max_episode_steps, SETTINGS.ticks_per_step) == (100, 5)
    assert ReacherSettings(dt=0.008, episode_time=0.8).max_episode_steps == 100


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"speed_limit": 0.0}, "speed_limit is 0.0; it must be a number from 0.01 to 1 rad/s"),
        ({"acceleration": math.inf}, "acceleration is inf"),
        ({"t_min": math.nan}, "t_min is nan"),
        ({"dt": 0.03}, "dt is 0.03 s; it must be a multiple of 8 ms"),
        ({"dt": 0.001}, "dt is 0.001; it must be a number from 0.008 to 0.2 s"),
        ({"episode_time": 3.99}, "episode_time is 3.99 s; it must be a multiple of dt"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        ReacherSettings(**settings)


def test_the_observation_holds_what_the_table_says():
    task = started(speed_limit=0.5)
    task.command([0.25, -1.5], START, START, (0.0, 0.0), (0.0, 0.0))
    obs, _ = task.observe(START, (0.1, -0.2))
    y, z = PLANE.position(*START)
    expected = [*START, 0.2, -0.4, y - 0.1, z - 0.7, 0.25, -1.0]
    np.testing.assert_allclose(obs, expected, rtol=1e-6)
    assert obs.dtype == np.float32


def test_no_action_is_before_the_first():
    task = started()
    task.command([1, 1], START, START, (0, 0), (0, 0))
    task.reset(np.random.default_rng(0))
    assert task.observe(START, (0.0, 0.0))[0][6:].tolist() == [0, 0]


@pytest.mark.parametrize("distance", [0.0, 0.03, 0.1, 0.5])
def test_the_reward_is_the_equation(distance):
    expected = (-distance + math.exp(-(distance**2) / 0.01)) * 5
    assert reward(distance, 0.04) == pytest.approx(expected, rel=1e-12)
    y, z = PLANE.position(*START)
    task = started((y + 0.6 * distance, z - 0.8 * distance * (z - 0.8 * distance > 0.5)))
    _, given = task.observe(START, (0.0, 0.0))
    assert given == pytest.approx(reward(task.distance, 0.04))
    assert task.distance == pytest.approx(math.dist(task.target, (y, z)))


def test_the_largest_reward_is_5_per_step():
    task = started(PLANE.position(*START))
    assert task.observe(START, (0.0, 0.0))[1] == 5.0 and task.distance == 0


def test_targets_lie_in_the_shrunk_box_and_are_those_of_uniform_angles():
    rng = np.random.default_rng(0)
    targets = np.array([sample_target(SETTINGS, PLANE, rng) for _ in range(4000)])
    low, high = np.add(SETTINGS.box_low, 0.001), np.subtract(SETTINGS.box_high, 0.001)
    assert ((low <= targets) & (targets <= high)).all()
    angles = rng.uniform(SETTINGS.joint_low, SETTINGS.joint_high, (40_000, 2))
    places = np.array([PLANE.position(*pair) for pair in angles])
    inside = ((low <= places) & (places <= high)).all(axis=1)
    assert inside.mean() == pytest.approx(0.256, abs=0.007)
    np.testing.assert_allclose(targets.mean(0), places[inside].mean(0), atol=0.01)
    np.testing.assert_allclose(targets.std(0), places[inside].std(0), atol=0.01)


def test_equal_generators_give_equal_targets():
    drawn = [sample_target(SETTINGS, PLANE, np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_options_may_name_the_target_and_nothing_else():
    assert target_of(None, SETTINGS) is None and target_of({}, SETTINGS) is None
    assert target_of({"target": np.float32([0.25, 0.75])}, SETTINGS) == (0.25, 0.75)
    for target in ((0.5, 0.7), (0.1, math.nan), (0.1, 0.7, 0.2), 0.6):
        with pytest.raises(UserError, match=r"must be y and z \(m\) from \(-0.3, 0.5\)"):
            target_of({"target": target}, SETTINGS)
    with pytest.raises(UserError, match="unknown option 'goal'"):
        target_of({"goal": (0.1, 0.7)}, SETTINGS)


def test_an_action_is_scaled_and_clipped_to_the_speed_limit():
    task = started()
    assert task.command([0.5, -0.1], START, START, (0, 0), (0, 0)) == pytest.approx(
        (0.15, -0.03, 1.4)
    )
    extreme = task.command(np.float32([1e30, -7]), START, START, (0, 0), (0, 0))
    assert extreme == (0.3, -0.3, 1.4)
    assert task.command(np.array([1, 0]), START, START, (0, 0), (0, 0)) == (0.3, 0.0, 1.4)


@pytest.mark.parametrize(
    "action",
    [
        [math.nan, 0.0],
        [0.0, math.inf],
        np.float32([-np.inf, np.inf]),
        [0.0],
        [0.0, 0.0, 0.0],
        [[0.0, 0.0]],
        0.5,
        None,
        "up",
        [True, False],
        np.zeros((3, 2)),
        [1j, 0],
    ],
)
def test_malformed_actions_are_refused_before_anything_changes(action):
    task = started()
    before, _ = task.observe(START, (0.0, 0.0))
    with pytest.raises(ValueError, match="an action must be two finite numbers") as error:
        task.command(action, (0.0, 0.0), START, (0.0, 0.0), (0.0, 0.0))
    assert "\n" not in str(error.value)
    assert np.array_equal(task.observe(START, (0.0, 0.0))[0], before)
    assert task.guards.active is None


def test_clipping_gives_plain_numbers():
    assert [type(number) for number in clipped_action(np.float32([0.5, 2]))] == [float, float]


def test_the_observation_space_holds_all_that_can_be_observed():
    rng = np.random.default_rng(5)
    task, space = started((0.4, 1.0)), observation_space(SETTINGS)
    for _ in range(500):
        q, qd = rng.uniform(-2 * math.pi, 2 * math.pi, 2), rng.uniform(-3.1, 3.1, 2)
        task.target = tuple(rng.choice([[-0.3, 0.5], [0.4, 1.0]], axis=0))
        task.command(rng.uniform(-3, 3, 2), START, START, (0, 0), (0, 0))
        assert space.contains(task.observe(tuple(q), tuple(qd))[0])
    assert space.low[6:].tolist() == [-1, -1] and space.high[6:].tolist() == [1, 1]
    assert space.is_bounded()
