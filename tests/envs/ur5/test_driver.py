"""The driver: what it sends and when, and how it ends."""

from __future__ import annotations

import gc
import socket
import threading
import time

import pytest

from hesrl.envs.ur5.driver import Driver
from hesrl.envs.ur5.link import PersonNeeded
from hesrl.envs.ur5.motion import Limits, Motion
from hesrl.envs.ur5.urscript import speedj
from hesrl.errors import EnvironmentFault
from tests.envs.ur5.emulated import SETTINGS, STALE_AFTER, commands, eventually

LIMITS = Limits(0.3, 5.0)
QD = (0.0, 0.1, -0.2, 0.0, 0.0, 0.0)


def connect(emulator, **options):
    defaults = {"limits": LIMITS, "stale_after": STALE_AFTER, "t_min": 0.2}
    defaults["clock_speed"] = emulator.speed
    return Driver("127.0.0.1", emulator.port, **{**defaults, **options})


@pytest.fixture
def driver(emulator):
    made = connect(emulator)
    yield made
    made.close()


def constant(state):
    return Motion(QD, 1.4)


def moving(driver):
    """Let the arm move, and wait until it does."""
    driver.follow(constant)
    return driver.wait(lambda state: state.qd_actual[1] > 0.09, 60, "the speed")


def test_a_law_is_followed_with_every_packet(emulator, driver):
    moving(driver)
    assert eventually(lambda: len(commands(emulator, "speedj")) > 10)
    sent = commands(emulator, "speedj")
    assert set(sent) == {speedj(QD, 1.4, 0.2).decode().strip()}


def test_a_law_sees_the_newest_packet(driver):
    seen = []

    def law(state):
        seen.append(state.time)
        return constant(state)

    driver.follow(law)
    driver.wait(lambda state: len(seen) > 10, 60, "ten packets")
    assert seen == sorted(seen) and seen[-1] > seen[0]


def test_a_law_that_is_not_given_again_ends_in_a_stop(emulator):
    driver = connect(emulator, silence=0.1)
    moving(driver)
    assert eventually(lambda: commands(emulator, "stopj(a=3.0"))
    assert eventually(lambda: not emulator.controller.arm.is_moving)
    count = len(commands(emulator, "speedj"))
    time = driver.state.time
    driver.wait(lambda state: state.time > time + 0.4, 60, "more packets")
    assert len(commands(emulator, "speedj")) == count and driver.fault is None
    driver.close()


def test_nothing_is_sent_in_answer_to_a_packet_that_is_too_old(emulator, driver):
    """As after a halt of this program: the thread looks at a new packet first."""
    answered = []

    def law(state):
        answered.append(state.time)
        return constant(state)

    with driver._changed:
        old = driver.state.time
        driver._deadline = time.monotonic() - 0.01
        driver.follow(law)
        assert not answered
    assert eventually(lambda: answered) and answered[0] > old
    with driver._changed:
        driver._deadline = time.monotonic() - 0.01
        with pytest.raises(EnvironmentFault, match="this program was halted for"):
            driver.movej(SETTINGS.q_ref, 1.0, 1.0, 0.5)
    assert driver.is_broken and not commands(emulator, "movej")


@pytest.mark.parametrize(("gap", "fault"), [(0.0, "did not obey"), (10.0, "no new packet for 1")])
def test_disobedience_in_a_gap_between_packets_is_a_fault_of_the_link(driver, gap, fault):
    with driver._changed:
        driver.watch.fault = lambda state, arrival: "did not obey"
        driver._arrival = time.monotonic() - gap
    assert eventually(lambda: driver.fault)
    assert fault in driver.fault and driver.is_broken == bool(gap)


def test_a_speed_holds_for_one_cycle_unless_asked_otherwise(emulator):
    driver = connect(emulator, t_min=0.008)
    driver.follow(constant)
    assert eventually(lambda: speedj(QD, 1.4, 0.008).decode().strip() in commands(emulator, ""))
    driver.close()


def test_the_watchdog_waits_half_a_second_and_a_packet_lives_a_tenth(emulator):
    driver = Driver("127.0.0.1", emulator.port, limits=LIMITS, clock_speed=10.0)
    assert (driver._silence, driver.stale_after) == (0.5, 0.1)
    driver.close()


def test_a_movement_arrives(emulator, driver):
    goal = tuple(angle + 0.05 for angle in SETTINGS.q_ref)
    driver.movej(goal, 1.0, 1.0, 0.5)
    state = driver.wait(lambda state: abs(state.q_actual[0] - goal[0]) < 1e-5, 60, "the goal")
    assert state.q_actual == pytest.approx(goal, abs=1e-4)


@pytest.mark.parametrize(
    "motion",
    [
        Motion((0.0, 0.31, 0.0, 0.0, 0.0, 0.0), 1.4),
        Motion((0.0, -0.31, 0.0, 0.0, 0.0, 0.0), 1.4),
        Motion(QD, 5.1),
        Motion(QD, float("nan")),
        Motion(QD, 0.0),
        Motion((0.0, 0.1, float("nan"), 0.0, 0.0, 0.0), 1.4),
        Motion(QD[:3], 1.4),
    ],
)
def test_what_is_beyond_the_limits_is_never_sent(emulator, driver, motion):
    with pytest.raises(ValueError):
        driver.follow(lambda state: motion)
    assert eventually(lambda: commands(emulator, "stopj"))
    assert not commands(emulator, "speedj") and not emulator.refused
    assert driver.fault is not None


def test_a_law_that_raises_later_is_the_fault(driver):
    time = driver.state.time

    def law(state):
        if state.time > time + 0.2:
            raise ZeroDivisionError("no way")
        return constant(state)

    driver.follow(law)
    with pytest.raises(EnvironmentFault, match=r"law of the motion raised.*no way"):
        driver.wait(lambda state: False, 60, "nothing")


def test_waiting_ends(driver):
    with pytest.raises(EnvironmentFault, match=r"127\.0\.0\.1.*waited 0\.05 s for the moon"):
        driver.wait(lambda state: False, 0.05, "the moon")
    assert driver.fault is None


def test_waiting_is_over_with_the_link_even_where_its_last_packet_would_do(driver):
    with pytest.raises(PersonNeeded):
        driver.refuse("the arm moved")
    with pytest.raises(PersonNeeded, match="the arm moved"):
        driver.wait(lambda state: True, 60, "any packet")


def test_nobody_there_is_named_with_the_cause(emulator):
    emulator.close()
    with pytest.raises(
        EnvironmentFault, match=rf"127\.0\.0\.1:{emulator.port} cannot be reached: .*refused"
    ):
        connect(emulator)


def test_a_host_without_address_is_named():
    with pytest.raises(EnvironmentFault, match=r"no\.invalid:1 cannot be reached"):
        Driver("no.invalid", 1, limits=LIMITS)


def test_another_service_is_not_taken_for_a_controller(emulator):
    with pytest.raises(EnvironmentFault, match="first bytes b'Connect"):
        Driver("127.0.0.1", emulator.dashboard_port, limits=LIMITS)


def test_a_service_that_says_nothing_is_left_after_a_while():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(EnvironmentFault, match=f"{port}"):
            Driver("127.0.0.1", port, limits=LIMITS, timeout=0.1)


def test_closing_stops_the_arm(emulator, driver):
    moving(driver)
    driver.close()
    driver.close()
    assert eventually(lambda: emulator.state()["last_command"] == "stopj(a=3.000000000)")
    assert eventually(lambda: not emulator.controller.arm.is_moving)
    with pytest.raises(EnvironmentFault, match="has been closed"):
        driver.follow(constant)


def test_a_driver_that_is_forgotten_stops_the_arm(emulator):
    driver = connect(emulator)
    moving(driver)
    del driver
    gc.collect()
    assert eventually(lambda: emulator.state()["last_command"] == "stopj(a=3.000000000)")
    assert eventually(lambda: emulator.state()["connections"] == 0)


def test_no_thread_outlives_its_driver(emulator):
    before = threading.active_count()
    for _ in range(3):
        connect(emulator).close()
    assert eventually(lambda: threading.active_count() == before)


def test_the_age_is_that_of_the_newest_packet(emulator):
    driver = connect(emulator, stale_after=1.0)
    age = lambda: time.monotonic() - driver.arrival  # noqa: E731
    assert age() < 1.0
    emulator.control("silent")
    assert eventually(lambda: driver.fault is not None)
    assert age() >= 1.0 and "no new packet for 1" in driver.fault
