"""The environment in real time, at the emulator."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from hesrl.envs.mujoco import make_env
from hesrl.envs.ur5.real import HOST_VARIABLE, UR5ReacherReal
from hesrl.envs.ur5.simulation import UR5ReacherSim
from hesrl.errors import EnvironmentFault, UserError
from tests.envs.ur5.emulated import commands, emulate, eventually, reacher

TARGET = {"target": (0.1, 0.8)}


def test_the_environment_is_one_of_gymnasium(emulator):
    made = make_env("hesrl/UR5ReacherReal-v0", host="127.0.0.1", port=emulator.port)
    check_env(made.unwrapped, skip_render_check=True)
    made.close()


def test_an_episode_is_truncated_after_4_seconds(env, emulator):
    obs, info = env.reset(seed=0)
    assert env.observation_space.contains(obs) and info["distance"] > 0
    begin = env._link.state.time
    steps = [env.step(env.action_space.sample()) for _ in range(100)]
    assert [step[3] for step in steps] == [False] * 99 + [True]
    assert not any(step[2] or "fault" in step[4] for step in steps)
    assert all(env.observation_space.contains(step[0]) for step in steps)
    assert env._link.state.time - begin > 4 - 0.04
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step([0, 0])


def test_the_arm_does_what_the_simulation_does(emulator):
    # Real time, so that the answer to a packet is in time for the next one.
    with emulate(speed=1.0) as slow:
        env, simulation = reacher(slow), UR5ReacherSim()
        first, _ = env.reset(seed=3)
        same, _ = simulation.reset(seed=3)
        np.testing.assert_allclose(first, same, atol=1e-6)
        for t in range(40):
            action = np.array([np.sin(0.2 * t), np.cos(0.3 * t)])
            obs, reward, *_ = env.step(action)
            simulated, simulated_reward, *_ = simulation.step(action)
        np.testing.assert_allclose(obs[[0, 1, 4, 5]], simulated[[0, 1, 4, 5]], atol=0.03)
        assert reward == pytest.approx(simulated_reward, abs=0.2)
        assert np.array_equal(obs[6:], np.float32(action))
        env.close()


def test_the_first_observation_is_from_after_the_arrival_at_the_start(env, emulator):
    env.reset(seed=0)
    for _ in range(20):
        env.step([1, -1])
    obs, _ = env.reset()
    sent = commands(emulator, "movej")
    begin = next(time for time, line in reversed(emulator.controller.commands) if line == sent[-1])
    assert env._observed > begin + 1.9
    start = [env.settings.q_ref[joint] for joint in (1, 2)]
    np.testing.assert_allclose(obs[:2], start, atol=0.01)
    np.testing.assert_allclose(obs[[2, 3, 6, 7]], 0, atol=0.02)


def test_seeds_and_options_give_targets(env):
    distances = [env.reset(seed=seed)[1]["distance"] for seed in (1, 2, 1)]
    assert distances[0] == pytest.approx(distances[2], abs=1e-3) != distances[1]
    obs, _ = env.reset(options=TARGET)
    np.testing.assert_allclose(obs[4:6], [0.0194 - 0.1, 0.77 - 0.8], atol=0.01)


@pytest.mark.parametrize("options", [{"target": (9, 9)}, {"goal": (0, 0)}])
def test_impossible_options_move_nothing(env, emulator, options):
    with pytest.raises(UserError):
        env.reset(options=options)
    assert not emulator.controller.commands


def test_a_slow_agent_is_told_that_it_is_late(env, emulator):
    env.reset(seed=0)
    env.step([0.5, 0])
    begin = emulator.controller.arm.time
    assert eventually(lambda: emulator.controller.arm.time > begin + 0.2)
    *_, info = env.step([0.5, 0])
    assert info["late"] is True and "fault" not in info


def test_stepping_before_a_reset_is_an_error(env, emulator):
    with pytest.raises(ResetNeeded):
        env.step([0, 0])
    assert not emulator.controller.commands


def test_the_end_of_an_episode_and_closing_stop_the_arm(emulator):
    env = reacher(emulator, episode_time=0.2)
    env.reset(seed=0)
    assert [env.step([1, 1])[3] for _ in range(5)] == [False] * 4 + [True]
    assert eventually(lambda: commands(emulator, "stopj(a=2"))
    assert eventually(lambda: not emulator.controller.arm.is_moving)
    env.close()
    assert eventually(lambda: emulator.state()["connections"] == 0)
    env.reset()
    env.close()


def begin_at(emulator, way):
    """Let the arm begin elsewhere than at the start."""
    goal = emulator.controller.arm.q_target + np.array(way)
    emulator.controller.arm.movej(goal, 1.0, 1.0, 1.0)
    assert eventually(lambda: np.abs(emulator.controller.arm.q_actual - goal).max() < 1e-3)
    assert eventually(lambda: not emulator.controller.arm.is_moving)


def test_a_reset_slows_down_on_a_long_way(emulator):
    begin_at(emulator, [0, 0.8, -1.2, 0, 0, 0])
    emulator.control("clear")
    env = reacher(emulator, reset_speed=0.5)
    env.reset(seed=0)
    assert 0.2 < emulator.controller.max_speed <= 0.5
    env.close()


def test_a_joint_that_has_to_stay_is_not_moved_far(emulator):
    begin_at(emulator, [0, 0, 0, 0, 0.6, 0])
    env = reacher(emulator)
    with pytest.raises(EnvironmentFault, match=r"joint 4 is 0\.60 rad from the start; bring it"):
        env.reset()
    assert not commands(emulator, "movej")
    env.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": None}, f"no address.*{HOST_VARIABLE}"),
        ({"render_mode": "human"}, "render_mode 'human'"),
        ({"stale_after": 0}, "stale_after is 0"),
        ({"reset_speed": float("nan")}, "reset_speed is nan"),
        ({"reconnects": -1}, "reconnects is -1"),
        ({"reconnect_wait": -1}, "reconnect_wait -1"),
        ({"speed_limit": -1}, "speed_limit is -1"),
    ],
)
def test_impossible_arguments_are_named(monkeypatch, options, message):
    monkeypatch.delenv(HOST_VARIABLE, raising=False)
    with pytest.raises(UserError, match=message):
        UR5ReacherReal(**{"host": "127.0.0.1", **options})


def test_the_address_can_come_from_the_environment_variable(monkeypatch, emulator):
    monkeypatch.setenv(HOST_VARIABLE, "127.0.0.1")
    env = make_env("hesrl/UR5ReacherReal-v0", port=emulator.port)
    obs, _ = env.reset(seed=0)
    assert obs.shape == (8,)
    env.close()


def test_a_picture_shows_the_arm(emulator):
    env = reacher(emulator, render_mode="rgb_array")
    with pytest.raises(ResetNeeded):
        env.render()
    env.reset(seed=0)
    before = env.render()
    assert before.dtype == np.uint8 and before.shape[2] == 3
    for _ in range(20):
        env.step([1, 1])
    assert not np.array_equal(env.render(), before)
    env.close()
