"""What goes wrong at the controller, on the way or in SenseAct's process, seen through SenseAct."""

from __future__ import annotations

import os
import re
import signal
import time

import numpy as np
import pytest

from hesrl.envs.ur5 import senseact, start
from hesrl.errors import EnvironmentFault
from tests.envs.ur5.emulated import (
    ACTION,
    LINK_FAULTS,
    eventually,
    goes_on,
    play,
    play_to_the_end,
)
from tests.envs.ur5.served import Served, served_reacher

pytest.importorskip("senseact.devices", reason=f"needs SenseAct: {senseact.INSTALL}")
pytestmark = pytest.mark.senseact


def rests(served):
    return eventually(lambda: not served.state()["is_moving"])


@pytest.mark.parametrize("line", LINK_FAULTS)
def test_a_broken_link_truncates_the_episode_and_is_mended_by_the_reset(env, served, line):
    env.reset(seed=0)
    observations = [step[0] for step in play(env, 5)]
    served.control(line)
    *fine, (obs, reward, terminated, truncated, info) = play_to_the_end(env)
    assert (terminated, truncated) == (False, True)
    assert f"127.0.0.1:{served.port}: " in info["fault"]
    assert re.search(LINK_FAULTS[line], info["fault"])
    observations += [step[0] for step in fine]
    assert all(not np.array_equal(obs[:6], earlier[:6]) for earlier in observations)
    assert np.isfinite(reward) == np.isfinite(obs).all()
    assert rests(served)
    served.control("clear")
    assert goes_on(env)


@pytest.mark.parametrize("line", ["fragment 1000", "fragment 7", "size 1108", "size 4096"])
def test_pieces_and_longer_packets_are_no_faults(env, served, line):
    served.control(line)
    env.reset(seed=0)
    angles = [step[0][0] for step in play(env, 10)]
    assert angles == sorted(angles) and angles[-1] > angles[0]
    assert "fault" not in env.step(ACTION)[4]


DEATHS = {
    signal.SIGKILL: r"SenseAct's communicator has ended \(exit code -9\)",
    signal.SIGSTOP: "no new packet for 0.3",
    signal.SIGTERM: r"SenseAct's communicator has ended \(exit code 0\)",
}


@pytest.mark.parametrize("signum", DEATHS)
def test_a_communicator_that_dies_or_hangs_is_a_fault(env, served, signum):
    env.reset(seed=0)
    play(env, 5)
    os.kill(env._link.reacher.communicator.pid, signum)
    assert re.search(DEATHS[signum], play_to_the_end(env)[-1][4]["fault"])
    assert rests(served)
    assert goes_on(env)


def test_a_buffer_whose_owner_died_is_a_fault(env, served):
    env.reset(seed=0)
    play(env, 5)
    communicator = env._link.reacher.communicator
    communicator.sensor_buffer._access_lock._lock.acquire()
    assert "a buffer of SenseAct's is locked for 1 s" in play_to_the_end(env)[-1][4]["fault"]
    assert rests(served) and goes_on(env)


def test_a_signal_may_stop_the_arm_while_a_command_is_written(env, served):
    env.reset(seed=0)
    play(env, 5)
    env._link.reacher.communicator.actuator_buffer._access_lock.acquire()
    env.halt()
    assert served.state()["last_command"] == "stopj(a=3.000000000)" and rests(served)
    assert goes_on(env)


STOPS = {
    "safety_mode 3": "protective stop",
    "safety_mode 5": "safeguard stop",
    "robot_mode 3": "robot mode 3, not running",
}


@pytest.mark.parametrize("line", STOPS)
def test_a_stop_truncates_and_is_never_acknowledged(env, served, line):
    env.reset(seed=0)
    play(env, 5)
    served.control(line)
    obs, reward, _, truncated, info = play_to_the_end(env)[-1]
    assert truncated and np.isfinite(obs).all() and np.isfinite(reward)
    assert info["fault"].endswith(STOPS[line])
    begin = served.state()["time"]
    for _ in range(2):
        with pytest.raises(EnvironmentFault, match=f"{STOPS[line]}; find the cause and release"):
            env.reset()
        assert eventually(lambda: served.state()["time"] > begin + 6)
    mode, _, number = line.partition(" ")
    state = served.state()
    assert {**state, **state["faults"]}[mode] == int(number)
    served.control("clear")
    assert goes_on(env)


def test_senseact_cannot_acknowledge_a_protective_stop_itself(env, served):
    env.reset(seed=0)
    play(env, 5)
    served.control("protective_stop")
    reacher, begin = env._link.reacher, served.state()["time"]
    while served.state()["time"] < begin + 60:
        # SenseAct does it at an action that comes 2 s after the stop.
        reacher.look()
        reacher.act(ACTION)
        time.sleep(0.05)
    assert served.state()["safety_mode"] == 3


ERRORS = {
    "safety_mode 4": "recovery",
    "safety_mode 6": "system emergency stop",
    "emergency_stop": "robot emergency stop",
    "safety_mode 8": "violation",
    "safety_mode 9": "fault",
}


@pytest.mark.parametrize("line", ERRORS)
def test_an_emergency_is_an_error_in_the_step_and_in_the_reset(served, line):
    served.control("clear")
    env = served_reacher(served, auto_unlock=True)
    env.reset(seed=0)
    play(env, 5)
    served.control(line)
    with pytest.raises(EnvironmentFault, match=f"127.0.0.1:{served.port}: {ERRORS[line]}"):
        play_to_the_end(env)
    assert rests(served)
    with pytest.raises(EnvironmentFault, match=ERRORS[line]):
        env.reset()
    served.control("clear")
    assert goes_on(env)
    env.close()


BAD_ACTIONS = ([np.nan, 0.0], [0.0, np.inf], [0.1], [0.1] * 3, [[0.1, 0.1]], 0.1, ["up", "down"])


def test_an_action_that_is_none_is_refused_before_anything_is_sent(env, served):
    env.reset(seed=0)
    sent = served.state()["last_command"]
    for action in BAD_ACTIONS:
        with pytest.raises(ValueError, match="an action must be two finite numbers"):
            env.step(action)
    assert served.state()["last_command"] == sent and sent.startswith("movej")
    assert "fault" not in env.step(ACTION)[4]


def test_a_controller_that_is_gone_is_tried_a_bounded_number_of_times():
    serving = Served()
    env = served_reacher(serving)
    env.reset(seed=0)
    serving.control("refuses")
    assert play_to_the_end(env)[-1][4]["fault"]
    with pytest.raises(EnvironmentFault, match=r"attempt 3 of 3"):
        env.reset()
    serving.close()
    with pytest.raises(EnvironmentFault, match=r"refused.*attempt 3 of 3"):
        env.reset()


def test_a_controller_that_was_never_there_is_named():
    serving = Served()
    serving.close()
    with pytest.raises(
        EnvironmentFault, match=rf"127.0.0.1:{serving.port} cannot be reached: .*\?$"
    ):
        served_reacher(serving).reset()


@pytest.mark.parametrize(("line", "message"), [("silent", "first packet"), ("size 77", "77 bytes")])
def test_a_controller_that_sends_nothing_of_use_is_named(env, served, line, message):
    served.control(line)
    with pytest.raises(EnvironmentFault, match=message):
        env.reset()


def test_an_arm_that_does_not_arrive_is_an_error(env, served, monkeypatch):
    monkeypatch.setattr(start, "PATIENCE", 0.3)
    monkeypatch.setattr(start, "SHORTEST_TIME", 0.2)
    env.reset(seed=0)
    play(env, 10)
    served.control("deaf")
    assert rests(served)
    with pytest.raises(EnvironmentFault, match="for the arm to arrive at the start"):
        env.reset()
    served.control("clear")
    assert goes_on(env)


def test_a_protective_stop_is_unlocked_after_five_seconds_if_that_is_asked_for(served):
    env = served_reacher(served, auto_unlock=True)
    served.control("clear")
    env.reset(seed=0)
    play(env, 2)
    served.control("protective_stop")
    assert play_to_the_end(env)[-1][4]["fault"]
    begin = served.state()["time"]
    env.reset()
    assert served.state()["time"] > begin + 5 and served.state()["safety_mode"] == 1
    env.close()
