"""The environment in real time, at the emulator."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from hesrl.envs.mujoco import make_env
from hesrl.envs.ur5.real import HOST_VARIABLE, UR5ReacherReal
from hesrl.errors import UserError
from tests.envs.ur5.emulated import STALE_AFTER, commands, eventually, ports_of, reacher, rests

TARGET = {"target": (0.1, 0.8)}


def test_the_environment_is_one_of_gymnasium(controller, backend):
    options = {**ports_of(controller, backend), "backend": backend, "stale_after": STALE_AFTER}
    options["emulator_speed"] = controller.speed
    made = make_env("hesrl/UR5ReacherReal-v0", host="127.0.0.1", **options)
    check_env(made.unwrapped, skip_render_check=True)
    made.close()


def test_an_episode_is_truncated_after_4_seconds(linked):
    obs, info = linked.reset(seed=0)
    assert linked.observation_space.contains(obs) and info["distance"] > 0
    begin = linked._link.state.time
    steps = [linked.step(linked.action_space.sample()) for _ in range(100)]
    assert [step[3] for step in steps] == [False] * 99 + [True]
    assert not any(step[2] or "fault" in step[4] for step in steps)
    assert all(linked.observation_space.contains(step[0]) for step in steps)
    assert linked._link.state.time - begin > 4 - 0.04
    with pytest.raises(ResetNeeded, match="call reset"):
        linked.step([0, 0])


def test_the_first_observation_is_from_after_the_arrival_at_the_start(linked):
    linked.reset(seed=0)
    for _ in range(20):
        linked.step([1, -1])
    left = linked._observed
    obs, _ = linked.reset()
    assert linked._observed > left + 1.9
    start = [linked.settings.q_ref[joint] for joint in (1, 2)]
    np.testing.assert_allclose(obs[:2], start, atol=0.01)
    np.testing.assert_allclose(obs[[2, 3, 6, 7]], 0, atol=0.02)


def test_no_observation_is_given_twice(linked):
    linked.reset(seed=0)
    times = []
    for _ in range(20):
        linked.step([0.5, -0.5])
        times.append(linked._observed)
    assert np.diff(times).min() > 0


def test_seeds_and_options_give_targets(linked):
    distances = [linked.reset(seed=seed)[1]["distance"] for seed in (1, 2, 1)]
    assert distances[0] == pytest.approx(distances[2], abs=1e-3) != distances[1]
    obs, _ = linked.reset(options=TARGET)
    np.testing.assert_allclose(obs[4:6], [0.0194 - 0.1, 0.77 - 0.8], atol=0.01)


@pytest.mark.parametrize("options", [{"target": (9, 9)}, {"goal": (0, 0)}])
def test_impossible_options_move_nothing(env, emulator, options):
    with pytest.raises(UserError):
        env.reset(options=options)
    assert not emulator.controller.commands


def test_a_slow_agent_is_told_that_it_is_late(env, emulator):
    env.reset(seed=0)
    env.step([0.5, 0])
    seen = env._link.state.time
    assert eventually(lambda: env._link.state.time > seen + 0.2)
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
    assert rests(emulator)
    env.close()
    assert eventually(lambda: emulator.state()["connections"] == 0)
    env.reset()
    env.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": None}, f"no address.*{HOST_VARIABLE}"),
        ({"render_mode": "human"}, "render_mode 'human'"),
        ({"reset_speed": float("nan")}, "reset_speed is nan"),
    ],
)
def test_impossible_arguments_are_named(monkeypatch, options, message):
    monkeypatch.delenv(HOST_VARIABLE, raising=False)
    with pytest.raises(UserError, match=message):
        UR5ReacherReal(**{"host": "127.0.0.1", **options})


def test_the_address_can_come_from_the_environment_variable(monkeypatch, emulator, patient):
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


def test_an_environment_that_is_forgotten_gives_up_its_arm_at_once(emulator, own_thread):
    env = reacher(emulator, own_thread)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    gc.disable()
    try:
        del env
        assert eventually(lambda: emulator.state()["connections"] == 0)
    finally:
        gc.enable()
