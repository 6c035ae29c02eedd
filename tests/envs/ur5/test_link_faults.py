"""What goes wrong on the way to the controller: how each of it ends in the environment."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hesrl.envs.ur5.link import PersonNeeded
from hesrl.errors import EnvironmentFault
from tests.envs.ur5.emulated import (
    ACTION,
    before_cycles,
    commands,
    eventually,
    goes_on,
    pause,
    play,
    play_to_the_end,
    ports_of,
    put,
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
    assert emulator.movements == movements
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
    put(emulator, np.add(emulator.controller.arm.q_target, 0.1))
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
