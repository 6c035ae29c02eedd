"""The simulated UR5 Reacher: physics, episodes, options and returns."""

from __future__ import annotations

import itertools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

import hesrl.envs  # registers the environments
from hesrl.envs.mujoco import make_env
from hesrl.envs.ur5.arm import Arm
from hesrl.envs.ur5.commands.guard_check import random_actions
from hesrl.envs.ur5.kinematics import UR5
from hesrl.envs.ur5.simulation import UR5ReacherSim
from hesrl.errors import UserError
from tests.envs.ur5.reaching import reach
from tests.envs.ur5.written_out import WrittenOut


def play(env, act, seed):
    """Play an episode and return its observations (101, 8), rewards (100,) and last info."""
    obs, info = env.reset(seed=seed)
    observations, rewards, truncated = [obs], [], False
    while not truncated:
        obs, reward, terminated, truncated, info = env.step(act(obs))
        assert not terminated and env.observation_space.contains(obs)
        observations.append(obs)
        rewards.append(reward)
    return np.array(observations), np.array(rewards), info


def random_policy(seed=0):
    rng = np.random.default_rng(seed)
    return lambda obs: rng.uniform(-1, 1, 2).astype(np.float32)


def test_gymnasium_finds_nothing_wrong():
    check_env(gym.make("hesrl/UR5Reacher-v0").unwrapped)
    noisy = {"observation_noise": 0.1, "cycle_jitter": 0.002, "randomization": 0.2}
    check_env(gym.make("hesrl/UR5Reacher-v0", extra_latency=0.016, **noisy).unwrapped)


def test_the_id_gives_this_environment_with_its_time_limit():
    assert UR5ReacherSim().settings.max_episode_steps == hesrl.envs.ur5.MAX_EPISODE_STEPS
    env = make_env("hesrl/UR5Reacher-v0", progress=True)
    assert isinstance(env.unwrapped, UR5ReacherSim) and env.observation_space.shape == (9,)
    assert "hesrl/UR5ReacherReal-v0" in gym.registry


def test_settings_go_through_make():
    env = gym.make("hesrl/UR5Reacher-v0", speed_limit=1.0, acceleration=2.0)
    settings = env.unwrapped.settings
    assert (settings.speed_limit, settings.acceleration) == (1.0, 2.0)
    with pytest.raises(TypeError, match="speed_limits"):
        gym.make("hesrl/UR5Reacher-v0", speed_limits=1.0)


def test_an_episode_begins_at_rest_in_the_start_pose_and_is_truncated_after_100_steps():
    env = UR5ReacherSim()
    observations, rewards, _ = play(env, random_policy(), seed=0)
    start = UR5.forward(env.settings.q_ref)[1:]
    assert observations[0, :4] == pytest.approx([-2.4, 1.5, 0, 0])
    targets = start - observations[0, 4:6]
    assert (targets >= env.settings.box_low).all() and (targets <= env.settings.box_high).all()
    assert not observations[0, 6:].any() and len(rewards) == 100


def test_a_step_needs_a_running_episode():
    env = UR5ReacherSim(episode_time=0.08)
    for _ in range(2):
        with pytest.raises(ResetNeeded, match=r"call reset\(\) before step\(\)"):
            env.step([0.0, 0.0])
        env.reset(seed=0)
        assert [env.step([0.0, 0.0])[3] for _ in range(2)] == [False, True]


def test_the_arm_moves_as_the_controller_of_six_joints_moves_it():
    env = UR5ReacherSim(speed_limit=0.5)
    env.reset(seed=0)
    arm, policy = Arm(env.settings.q_ref), random_policy(1)
    for _ in range(60):
        action = policy(None)
        obs, *_ = env.step(action)
        for _ in range(5):
            arm.speedj([0, *(0.5 * action.astype(np.float64)), 0, 0, 0], 1.4, 0.008)
            arm.tick()
        expected = [*arm.q_actual[1:3], *(arm.qd_actual[1:3] / 0.5)]
        np.testing.assert_allclose(obs[:4], expected, rtol=1e-6, atol=1e-7)
    assert arm.q_actual[1:3] == pytest.approx(env._q, abs=1e-12)


def test_equal_seeds_give_equal_episodes_and_different_ones_do_not():
    env = UR5ReacherSim(observation_noise=0.01, cycle_jitter=0.002, randomization=0.2)
    a, b, c = (play(env, random_policy(), seed)[0] for seed in (3, 3, 4))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_a_reset_may_name_the_target():
    env = UR5ReacherSim()
    obs, info = env.reset(seed=0, options={"target": (0.3, 0.6)})
    tool = UR5.forward(env.settings.q_ref)[1:]
    assert obs[4:6] == pytest.approx(tool - [0.3, 0.6], abs=1e-6)
    assert info["distance"] == pytest.approx(np.linalg.norm(tool - [0.3, 0.6]))
    with pytest.raises(UserError, match="target"):
        env.reset(options={"target": (3.0, 0.6)})


def test_a_malformed_action_changes_nothing():
    env, twin = UR5ReacherSim(), UR5ReacherSim()
    for one in (env, twin):
        one.reset(seed=0)
        one.step([0.5, 0.5])
    with pytest.raises(ValueError, match="two finite numbers"):
        env.step([np.nan, 0.0])
    assert np.array_equal(env.step([0.1, 0.2])[0], twin.step([0.1, 0.2])[0])


@pytest.mark.parametrize("corner", list(itertools.product((-1.0, 0.0, 1.0), repeat=2)))
def test_the_guards_hold_the_arm_near_its_box_and_limits(corner):
    env = UR5ReacherSim(episode_time=12.0)
    observations, _, _ = play(env, lambda obs: corner, seed=1)
    tools = observations[:, 4:6] + env._task.target
    settings = env.settings
    outside = np.maximum(settings.box_low - tools, tools - settings.box_high).max()
    beyond = np.maximum(
        settings.joint_low - observations[:, :2], observations[:, :2] - settings.joint_high
    ).max()
    assert outside < 0.002 and beyond < 0.002
    assert outside > -0.02 or beyond > -0.02 or corner == (0.0, 0.0)


def test_info_tells_which_guard_acted():
    env = UR5ReacherSim(episode_time=12.0)
    env.reset(seed=1)
    guards = [env.step([-1.0, 0.5])[4]["guard"] for _ in range(300)]
    assert set(guards) == {None, "box", "joint"} and guards[0] is None


def test_noise_falls_on_what_is_measured_and_stays_in_the_space():
    clean, noisy = UR5ReacherSim(), UR5ReacherSim(observation_noise=0.05)
    differences = np.array(
        [
            noisy.reset(seed=seed, options={"target": (0.1, 0.7)})[0]
            - clean.reset(options={"target": (0.1, 0.7)})[0]
            for seed in range(300)
        ]
    )
    assert differences[:, :6].std(axis=0) == pytest.approx(0.05, rel=0.15)
    assert not differences[:, 6:].any()
    wild = UR5ReacherSim(observation_noise=50.0)
    assert all(wild.observation_space.contains(wild.reset(seed=seed)[0]) for seed in range(20))


def test_latency_delays_the_motion_by_its_ticks():
    def first_motion(**options):
        env = UR5ReacherSim(dt=0.008, episode_time=0.8, **options)
        observations, _, _ = play(env, lambda obs: (1.0, 1.0), seed=0)
        return int(np.flatnonzero(observations[:, 2])[0])

    assert first_motion() == 3 and first_motion(extra_latency=0.04) == 8


def test_jitter_varies_the_ticks_of_a_step_around_five():
    env = UR5ReacherSim(cycle_jitter=0.0016)
    env.reset(seed=0)
    ticks = np.array([env._ticks() for _ in range(4000)])
    assert set(ticks) == {4, 5, 6}
    assert ticks.mean() == pytest.approx(5, abs=0.01)


def test_randomization_changes_the_arm_from_episode_to_episode():
    env = UR5ReacherSim(randomization=0.3, episode_time=0.8)
    speeds = [play(env, lambda obs: (0.0, 1.0), seed)[0][-1, 3] for seed in range(100)]
    assert 0.7 <= min(speeds) < 0.72 and 1.28 < max(speeds) <= 1.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"render_mode": "human"}, "render_mode 'human': must be 'rgb_array' or None"),
        ({"observation_noise": -0.1}, "observation_noise is -0.1; it must be at least 0"),
        ({"cycle_jitter": float("nan")}, "cycle_jitter is nan"),
        ({"randomization": 1.0}, "randomization is 1.0; it must be at least 0 and below 1.0"),
        ({"extra_latency": 0.01}, "extra_latency is 0.01 s; it must be a multiple of 8 ms"),
        ({"speed_limit": -1.0}, "speed_limit is -1.0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        UR5ReacherSim(**options)


@pytest.mark.parametrize(
    ("policy", "mean", "deviation"),
    [
        (random_policy(), -96, 110),
        (lambda obs: (0.0, 0.0), -95, 111),
        (reach, 299, 107),
    ],
    ids=["random", "zero", "jacobian"],
)
def test_returns_are_those_measured_through_senseact(policy, mean, deviation):
    env = UR5ReacherSim()
    returns = [play(env, policy, seed)[1].sum() for seed in range(200)]
    # Three standard errors of 200 episodes.
    assert np.mean(returns) == pytest.approx(mean, abs=23)
    assert np.std(returns) == pytest.approx(deviation, abs=20)


def test_the_controller_reaches_every_target():
    env = UR5ReacherSim()
    assert max(play(env, reach, seed)[2]["distance"] for seed in range(30)) < 0.02


@pytest.mark.parametrize(("speed_limit", "acceleration"), [(0.3, 1.4), (1.0, 2.0)])
def test_behind_the_box_guard_the_arm_is_where_another_simulation_has_it(speed_limit, acceleration):
    """Only the guard that brings the arm back acts: no foresight, and joints that turn further."""
    limits = {"joint_low": (-4.0, -2.1), "joint_high": (-1.0, 2.3)}
    env = UR5ReacherSim(speed_limit=speed_limit, acceleration=acceleration, **limits)
    guards = env._task.guards
    guards._foresight.obstacle = lambda *arguments: None
    outside = 0
    for seed in range(20):
        env.reset(seed=seed)
        other = WrittenOut(env.settings, guards.brake)
        for action in random_actions(np.random.default_rng(seed), 100):
            outside += env.step(action)[4]["guard"] == "box"
            np.testing.assert_allclose(env._q, other.step(action), rtol=0, atol=1e-9)
    assert outside > 100
