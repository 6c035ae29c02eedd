"""What goes wrong at the controller or on the way: how each of it ends in the environment."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hesrl.envs.ur5 import start
from hesrl.errors import EnvironmentFault
from tests.envs.ur5.emulated import (
    ACTION,
    LINK_FAULTS,
    commands,
    emulate,
    eventually,
    goes_on,
    play,
    play_to_the_end,
    reacher,
)


@pytest.fixture
def impatient(monkeypatch):
    """Waits that fail end soon."""
    monkeypatch.setattr(start, "PATIENCE", 0.3)
    monkeypatch.setattr(start, "SHORTEST_TIME", 0.2)


@pytest.mark.parametrize("line", LINK_FAULTS)
def test_a_broken_link_truncates_the_episode_and_is_mended_by_the_reset(env, emulator, line):
    env.reset(seed=0)
    observations = [step[0] for step in play(env, 5)]
    emulator.control(line)
    *fine, (obs, reward, terminated, truncated, info) = play_to_the_end(env)
    assert (terminated, truncated) == (False, True)
    assert f"127.0.0.1:{emulator.port}: " in info["fault"]
    assert re.search(LINK_FAULTS[line], info["fault"])
    observations += [step[0] for step in fine]
    assert all(not np.array_equal(obs[:6], earlier[:6]) for earlier in observations)
    assert np.isfinite(reward) == np.isfinite(obs).all()
    assert eventually(lambda: not emulator.controller.arm.is_moving)
    emulator.control("clear")
    assert goes_on(env)


def test_what_has_been_observed_is_not_observed_again(env, emulator):
    env.reset(seed=0)
    play(env, 1)
    emulator.control("silent")
    assert eventually(lambda: env._link.fault is not None)
    env._observed = env._link.state.time
    obs, reward, _, truncated, info = env.step(ACTION)
    assert np.isnan(obs).all() and np.isnan(reward) and truncated and "fault" in info


def test_a_controller_that_restarts_is_noticed(env, emulator):
    env.reset(seed=0)
    play(env, 2)
    emulator.controller.arm._ticks = 0
    assert "its clock went back" in play_to_the_end(env)[-1][4]["fault"]
    assert goes_on(env)


@pytest.mark.parametrize("line", ["fragment 1000", "fragment 7", "size 1108", "size 4096"])
def test_pieces_and_longer_packets_are_no_faults(emulator, line):
    emulator.control(line)
    env = reacher(emulator)
    env.reset(seed=0)
    angles = [step[0][0] for step in play(env, 10)]
    assert angles == sorted(angles) and angles[-1] > angles[0]
    assert "fault" not in env.step(ACTION)[4]
    env.close()


STOPS = {
    "protective_stop": "protective stop",
    "safety_mode 5": "safeguard stop",
    "robot_mode 3": "robot mode 3, not running",
}


@pytest.mark.parametrize("line", STOPS)
def test_a_stop_truncates_and_is_never_acknowledged(env, emulator, line):
    env.reset(seed=0)
    play(env, 5)
    emulator.control(line)
    obs, reward, _, truncated, info = play_to_the_end(env)[-1]
    assert truncated and np.isfinite(obs).all() and np.isfinite(reward)
    assert info["fault"].endswith(STOPS[line])
    begin = emulator.controller.arm.time
    with pytest.raises(EnvironmentFault, match=f"{STOPS[line]}; find the cause and release"):
        env.reset()
    assert eventually(lambda: emulator.controller.arm.time > begin + 6)
    with pytest.raises(EnvironmentFault, match=STOPS[line]):
        env.reset()
    assert not commands(emulator, "movej")[1:]
    emulator.control("clear")
    assert goes_on(env)


ERRORS = {
    "safety_mode 4": "recovery",
    "safety_mode 6": "system emergency stop",
    "emergency_stop": "robot emergency stop",
    "safety_mode 8": "violation",
    "safety_mode 9": "fault",
}


@pytest.mark.parametrize("line", ERRORS)
def test_an_emergency_is_an_error_in_the_step_and_in_the_reset(emulator, line):
    env = reacher(emulator, auto_unlock=True)
    env.reset(seed=0)
    play(env, 5)
    emulator.control(line)
    with pytest.raises(EnvironmentFault, match=f"127.0.0.1:{emulator.port}: {ERRORS[line]}"):
        play_to_the_end(env)
    assert eventually(lambda: not emulator.controller.arm.is_moving)
    with pytest.raises(EnvironmentFault, match=ERRORS[line]):
        env.reset()
    emulator.control("clear")
    assert goes_on(env)
    env.close()


def test_a_controller_that_is_gone_is_tried_a_bounded_number_of_times(env, emulator):
    env.reset(seed=0)
    emulator.control("refuses")
    assert play_to_the_end(env)[-1][4]["fault"]
    with pytest.raises(EnvironmentFault, match=r"attempt 3 of 3"):
        env.reset()
    emulator.close()
    with pytest.raises(EnvironmentFault, match=r"refused.*attempt 3 of 3"):
        env.reset()


def test_a_controller_that_was_never_there_is_tried_once():
    with emulate() as emulator:
        env = reacher(emulator)
    with pytest.raises(EnvironmentFault, match=r"cannot be reached: .*right\?$"):
        env.reset()


def test_an_arm_that_does_not_arrive_is_an_error(env, emulator, impatient):
    env.reset(seed=0)
    play(env, 10)
    emulator.control("deaf")
    assert eventually(lambda: not emulator.controller.arm.is_moving)
    with pytest.raises(
        EnvironmentFault, match=r"waited 0\.\d+ s for the arm to arrive at the start"
    ):
        env.reset()
    emulator.control("clear")
    assert goes_on(env)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("protective_stop", "protective stop on the way to the start"),
        ("silent", r"(waited|no new packet) (for )?2 s.* \(attempt 2 of 2\)"),
        ("drop", None),
    ],
)
def test_a_fault_on_the_way_to_the_start(emulator, monkeypatch, line, message):
    env = reacher(emulator, reconnects=1)
    env.reset(seed=0)
    play(env, 30)
    movej, lines = emulator.controller.arm.movej, iter([line])

    def fault_then_move(*args):
        # In the emulator's thread.
        for name in lines:
            emulator._control(name)
        movej(*args)

    monkeypatch.setattr(emulator.controller.arm, "movej", fault_then_move)
    if message is None:
        env.reset()
    else:
        with pytest.raises(EnvironmentFault, match=message):
            env.reset()
    env.close()


def protectively_stopped(emulator):
    env = reacher(emulator, auto_unlock=True)
    env.reset(seed=0)
    play(env, 2)
    emulator.control("protective_stop")
    assert play_to_the_end(env)[-1][4]["fault"]
    return env


def test_a_protective_stop_is_unlocked_after_five_seconds_if_that_is_asked_for(emulator):
    env = protectively_stopped(emulator)
    begin = emulator.controller.arm.time
    env.reset()
    assert emulator.controller.arm.time > begin + 5 and emulator.state()["safety_mode"] == 1
    env.close()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("stays_locked", r"waited 0\.3 s for the protective stop to end"),
        ("dashboard_silent", "dashboard of the controller.*timed out"),
    ],
)
def test_an_unlocking_that_fails_is_an_error(emulator, impatient, line, message):
    env = protectively_stopped(emulator)
    emulator.control(line)
    with pytest.raises(EnvironmentFault, match=message):
        env.reset()
    assert emulator.state()["safety_mode"] == 3
    env.close()
