"""What goes wrong at the controller or on the way: how each of it ends in the environment."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hesrl.envs.ur5 import start, way
from hesrl.envs.ur5.link import PersonNeeded
from hesrl.envs.ur5.real import NOBODY_IS_NEAR
from hesrl.errors import EnvironmentFault
from tests.envs.ur5.emulated import (
    ACTION,
    before_cycles,
    commands,
    emulate,
    eventually,
    goes_on,
    pause,
    play,
    play_to_the_end,
    ports_of,
    reacher,
    rests,
    when_sent,
)

LINK_FAULTS = {
    "drop": "the connection is lost",
    "silent": "no new packet for 1",
    "frozen": "no new packet for 1",
    "delay 5": "no new packet for 1",
    "size 900": "a packet of 900 bytes",
    "size -5": "a packet of (-5|65531) bytes",
    "size 0": "a packet of 0 bytes",
    "size 5000": "a packet of 5000 bytes",
    "not_finite": "q_actual of a packet is .*nan.*: not finite",
    "robot_mode 1000": "the robot_mode of a packet is 1000",
}
"""Faults of a link as the emulator takes them, and how the environment names them."""


@pytest.fixture
def impatient(monkeypatch):
    """Waits that fail end soon."""
    monkeypatch.setattr(start, "PATIENCE", 0.3)
    monkeypatch.setattr(way, "SHORTEST_TIME", 0.2)


@pytest.mark.parametrize("line", LINK_FAULTS)
def test_a_broken_link_truncates_the_episode_and_is_mended_by_the_reset(controller, backend, line):
    waits = LINK_FAULTS[line].startswith("no new packet")
    env = reacher(controller, backend, **({"stale_after": 1.0} if waits else {}))
    env.reset(seed=0)
    observations = [step[0] for step in play(env, 5)]
    controller.control(line)
    *fine, (obs, reward, terminated, truncated, info) = play_to_the_end(env)
    assert (terminated, truncated, info["broken"]) == (False, True, True)
    where = f"UR controller at 127.0.0.1:{ports_of(controller, backend)['port']}: "
    assert re.search(f"^{where}.*{LINK_FAULTS[line]}", info["fault"])
    observations += [step[0] for step in fine]
    assert all(not np.array_equal(obs[:6], earlier[:6]) for earlier in observations)
    assert np.isfinite(reward) == np.isfinite(obs).all()
    assert rests(controller)
    controller.control("clear")
    assert goes_on(env)
    env.close()


def test_what_has_been_observed_is_not_observed_again(emulator, own_thread):
    env = reacher(emulator, own_thread, stale_after=1.0)
    env.reset(seed=0)
    play(env, 1)
    emulator.control("silent")
    assert eventually(lambda: env._link.fault is not None)
    env._observed = env._link.state.time
    obs, reward, _, truncated, info = env.step(ACTION)
    assert np.isnan(obs).all() and np.isnan(reward) and truncated and "fault" in info


def test_a_controller_that_restarts_is_noticed(emulator, own_thread):
    env = reacher(emulator, own_thread)
    env.reset(seed=0)
    play(env, 2)
    arm = emulator.controller.arm

    def restart():
        arm._ticks = 0
        arm.put(arm.q_target)

    before_cycles(emulator, restart)
    info = play_to_the_end(env)[-1][4]
    assert "its clock went back" in info["fault"] and not info["broken"]
    movements = emulator.movements
    with pytest.raises(PersonNeeded, match=r"its clock went back .*; find the cause before"):
        env.reset()
    assert emulator.movements == movements
    assert goes_on(env)
    env.close()


def test_episodes_that_break_again_and_again_are_bounded(emulator, own_thread):
    env = reacher(emulator, own_thread, reconnects=1)
    for _ in range(3):
        assert env.reset(seed=0)[1]["faults"] == []
        when_sent(emulator, "speedj", "drop")
        assert play_to_the_end(env)[-1][4]["broken"]
        assert env.take_metrics()["ur5/link_faults"] == 1
    movements = emulator.movements
    with pytest.raises(EnvironmentFault, match=r"the connection is lost.*\(3 episodes in a row"):
        env.reset()
    # An arm that stopped before it moved is at the start already.
    assert emulator.movements == movements >= 1
    assert goes_on(env)
    env.close()


def test_an_episode_that_does_not_break_begins_the_count_anew(emulator, own_thread):
    env = reacher(emulator, own_thread, reconnects=0, episode_time=0.2)
    for _ in range(3):
        env.reset(seed=0)
        when_sent(emulator, "speedj", "drop")
        assert play_to_the_end(env)[-1][4]["broken"]
        env.reset()
        assert "fault" not in play_to_the_end(env)[-1][4]
    env.close()


@pytest.mark.parametrize("when", ["between two episodes", "on the way to the start"])
def test_a_link_that_breaks_outside_an_episode_is_told_by_the_reset(emulator, own_thread, when):
    env = reacher(emulator, own_thread, episode_time=0.2)
    env.reset(seed=0)
    play_to_the_end(env)
    if when == "between two episodes":
        emulator.control("drop")
        assert eventually(lambda: env._link.fault)
    else:
        when_sent(emulator, "movej", "drop")
    (fault,) = env.reset()[1]["faults"]
    assert "the connection is lost" in fault
    assert env.take_metrics()["ur5/link_faults"] == 1
    env.close()


def test_a_link_that_breaks_while_the_arm_rests_breaks_the_first_step(emulator, own_thread):
    env = reacher(emulator, own_thread)
    env.reset(seed=0)
    emulator.control("drop")
    assert eventually(lambda: env._link.fault)
    *_, truncated, info = env.step(ACTION)
    assert truncated and info["broken"] and not commands(emulator, "speedj")
    assert goes_on(env)
    env.close()


def test_an_arm_that_was_moved_while_it_rested_needs_a_person(emulator, own_thread):
    env = reacher(emulator, own_thread)
    env.reset(seed=0)
    emulator.controller.arm.put(np.add(emulator.controller.arm.q_target, 0.1))
    pause(emulator, 0.1)
    info = env.step(ACTION)[4]
    moved = r"moved by 0\.(1|099) rad since the reset"
    assert re.search(moved, info["fault"]) and not info["broken"]
    with pytest.raises(PersonNeeded, match=moved):
        env.reset()
    assert not commands(emulator, "speedj")
    env.close()


@pytest.mark.parametrize("line", ["fragment 1000", "fragment 101", "size 1108", "size 4096"])
def test_pieces_and_longer_packets_are_no_faults(linked, controller, backend, line):
    if backend == "rtde" and line.startswith("size"):
        pytest.skip("over RTDE the client chooses what a packet has")
    controller.control(line)
    linked.reset(seed=0)
    angles = [step[0][0] for step in play(linked, 10)]
    assert angles == sorted(angles) and angles[-1] > angles[0]
    assert "fault" not in linked.step(ACTION)[4]


STOPS = {
    "protective_stop": "protective stop",
    "safety_mode 5": "safeguard stop",
    "robot_mode 3": "robot mode 3, not running",
}


@pytest.mark.parametrize("line", STOPS)
def test_a_stop_truncates_and_is_never_acknowledged(linked, controller, line):
    linked.reset(seed=0)
    play(linked, 5)
    controller.control(line)
    obs, reward, _, truncated, info = play_to_the_end(linked)[-1]
    assert truncated and not info["broken"] and np.isfinite(obs).all() and np.isfinite(reward)
    assert info["fault"].endswith(STOPS[line])
    stopped = controller.state()
    for _ in range(2):
        with pytest.raises(EnvironmentFault, match=f"{STOPS[line]}; find the cause and release"):
            linked.reset()
        pause(controller, 6)
    after = controller.state()
    assert [after[key] for key in ("safety_mode", "faults")] == [
        stopped[key] for key in ("safety_mode", "faults")
    ]
    assert not after["last_command"].startswith("movej")
    controller.control("clear")
    assert goes_on(linked)


ERRORS = {
    "safety_mode 4": "recovery",
    "safety_mode 6": "system emergency stop",
    "emergency_stop": "robot emergency stop",
    "safety_mode 8": "violation",
    "safety_mode 9": "fault",
}


@pytest.mark.parametrize("line", ERRORS)
def test_an_emergency_is_an_error_in_the_step_and_in_the_reset(controller, backend, line):
    env = reacher(controller, backend, auto_unlock=NOBODY_IS_NEAR)
    env.reset(seed=0)
    play(env, 5)
    controller.control(line)
    port = ports_of(controller, backend)["port"]
    with pytest.raises(EnvironmentFault, match=f"127.0.0.1:{port}: {ERRORS[line]}"):
        play_to_the_end(env)
    assert rests(controller)
    with pytest.raises(EnvironmentFault, match=ERRORS[line]):
        env.reset()
    controller.control("clear")
    assert goes_on(env)
    env.close()


def test_a_controller_that_is_gone_is_tried_a_bounded_number_of_times(serve, backend):
    serving = serve()
    env = reacher(serving, backend)
    env.reset(seed=0)
    serving.control("refuses")
    assert play_to_the_end(env)[-1][4]["fault"]
    with pytest.raises(EnvironmentFault, match=r"attempt 3 of 3"):
        env.reset()
    serving.close()
    with pytest.raises(EnvironmentFault, match=r"refused.*attempt 3 of 3"):
        env.reset()


def test_a_controller_that_was_never_there_is_tried_once(backend):
    with emulate() as emulator:
        env, port = reacher(emulator, backend), ports_of(emulator, backend)["port"]
    with pytest.raises(EnvironmentFault, match=rf"127.0.0.1:{port} cannot be reached: .*right\?$"):
        env.reset()


@pytest.mark.parametrize(("line", "message"), [("silent", "first packet"), ("size 77", "77 bytes")])
def test_a_controller_that_sends_nothing_of_use_is_named(linked, controller, line, message):
    controller.control(line)
    # Whether no packet came or the wait was over is found out at the same time.
    with pytest.raises(EnvironmentFault, match=f"{message}|no new packet for 2"):
        linked.reset()


def test_an_arm_that_does_not_arrive_is_an_error(linked, controller, impatient):
    linked.reset(seed=0)
    play(linked, 10)
    controller.control("deaf")
    assert rests(controller)
    with pytest.raises(
        EnvironmentFault, match=r"waited [\d.]+ s for the arm to arrive at the start"
    ):
        linked.reset()
    controller.control("clear")
    assert goes_on(linked)


@pytest.mark.parametrize(
    ("command", "line", "message"),
    [
        ("stopj(a=2", "protective_stop", "protective stop while the arm came to rest; find the"),
        ("movej", "protective_stop", "protective stop on the way to the start; find the cause"),
        ("movej", "silent", r"(waited|no new packet) (for )?2 s.* \(attempt 2 of 2\)"),
        ("movej", "drop", None),
    ],
)
def test_a_fault_during_a_reset(emulator, own_thread, command, line, message):
    env = reacher(emulator, own_thread, reconnects=1, stale_after=1.0)
    env.reset(seed=0)
    play(env, 30)
    when_sent(emulator, command, line)
    if message is None:
        env.reset()
    else:
        with pytest.raises(EnvironmentFault, match=message):
            env.reset()
    env.close()


def protectively_stopped(controller, backend="driver"):
    env = reacher(controller, backend, auto_unlock=NOBODY_IS_NEAR)
    env.reset(seed=0)
    play(env, 2)
    controller.control("protective_stop")
    assert play_to_the_end(env)[-1][4]["fault"]
    return env


def test_a_protective_stop_is_unlocked_after_five_seconds_if_that_is_asked_for(controller, backend):
    env = protectively_stopped(controller, backend)
    begin = controller.state()["time"]
    env.reset()
    state = controller.state()
    assert state["time"] > begin + 5 and state["safety_mode"] == 1
    env.close()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("stays_locked", r"waited 0\.3 s for the protective stop to end"),
        ("dashboard_silent", "dashboard of the controller.*timed out"),
    ],
)
def test_an_unlocking_that_fails_is_an_error(emulator, own_thread, impatient, line, message):
    env = protectively_stopped(emulator, own_thread)
    emulator.control(line)
    with pytest.raises(EnvironmentFault, match=message):
        env.reset()
    assert emulator.state()["safety_mode"] == 3
    env.close()
