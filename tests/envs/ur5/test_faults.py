"""What goes wrong at the controller or in a reset: how each of it ends in the environment."""

from __future__ import annotations

import numpy as np
import pytest

from hesrl.envs.ur5 import start, way
from hesrl.envs.ur5.homing import NOBODY_IS_NEAR
from hesrl.errors import EnvironmentFault
from tests.envs.ur5.emulated import (
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


@pytest.fixture
def impatient(monkeypatch):
    """Waits that fail end soon."""
    monkeypatch.setattr(start, "PATIENCE", 0.3)
    monkeypatch.setattr(way, "SHORTEST_TIME", 0.2)


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


def test_an_arm_that_is_too_slow_on_its_way_is_stopped(env, emulator, impatient):
    env.reset(seed=0)
    play(env, 10)
    arm, movej = emulator.controller.arm, emulator.controller.arm.movej
    arm.movej = lambda q, a, v, t: movej(q, a, v, 10_000)
    with pytest.raises(EnvironmentFault, match="for the arm to arrive at the start"):
        env.reset()
    assert eventually(lambda: emulator.state()["last_command"] == "stopj(a=2.000000000)")
    assert rests(emulator)


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
