"""What goes wrong in SenseAct's process, and what hesrl keeps from SenseAct."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import pytest

from hesrl.envs.ur5 import senseact
from tests.envs.ur5.emulated import (
    ACTION,
    eventually,
    goes_on,
    play,
    play_to_the_end,
    reacher,
    rests,
)

pytest.importorskip("senseact.devices", reason=f"needs SenseAct: {senseact.INSTALL}")
pytestmark = pytest.mark.senseact


DEATHS = {
    signal.SIGKILL: r"SenseAct's communicator has ended \(exit code -9\)",
    signal.SIGSTOP: "no new packet for 1",
    signal.SIGTERM: r"SenseAct's communicator has ended \(exit code 0\)",
}


@pytest.mark.parametrize("signum", DEATHS)
def test_a_communicator_that_dies_or_hangs_is_a_fault(served, signum):
    env = reacher(served, "senseact", stale_after=1.0)
    env.reset(seed=0)
    play(env, 5)
    os.kill(env._link.reacher.communicator.pid, signum)
    assert re.search(DEATHS[signum], play_to_the_end(env)[-1][4]["fault"])
    assert rests(served)
    assert goes_on(env)
    env.close()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_what_a_terminal_sends_to_all_processes_is_left_to_the_agent(served, signum):
    env = reacher(served, "senseact", stale_after=1.0)
    env.reset(seed=0)
    play(env, 5)
    os.kill(env._link.reacher.communicator.pid, signum)
    assert not any("fault" in step[4] for step in play(env, 10))
    env.close()


def test_a_communicator_that_was_halted_sends_no_speed_any_more(served):
    env = reacher(served, "senseact", stale_after=1.0)
    env.reset(seed=0)
    play(env, 5)
    pid = env._link.reacher.communicator.pid
    os.kill(pid, signal.SIGSTOP)
    assert rests(served)
    begin = served.state()["time"]
    time.sleep(1.5)
    os.kill(pid, signal.SIGCONT)
    assert eventually(lambda: served.state()["last_command"].startswith("stopj"))
    assert eventually(lambda: served.state()["connections"] == 0)
    sent = json.loads(served.control("commands"))
    assert all(line.startswith("stopj") for at, line in sent if at > begin)
    info = env.step(ACTION)[4]
    assert re.search("this program was halted for 1|no new packet", info["fault"])
    assert info["broken"] and goes_on(env)
    env.close()


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
