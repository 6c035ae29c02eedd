"""Between a reset and the first action there may be any time, such as for learning."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from tests.envs.ur5.emulated import before_cycles, commands, eventually, pause, rests


def test_a_pause_before_the_first_action_is_no_delay(env, emulator):
    env.reset(seed=0)
    assert eventually(lambda: commands(emulator, "movej"))
    sent = len(emulator.controller.commands)
    pause(emulator, 20.0)
    assert len(emulator.controller.commands) == sent
    begin = env._link.state.time
    *_, truncated, _ = env.step([0.5, 0])
    assert not truncated
    assert env._link.state.time >= begin + 0.04
    # A second of this machine's clock, which it may be busy for.
    metrics = env.take_metrics()
    assert metrics["ur5/longest_delay"] < 10.0
    assert "ur5/response_time_median" not in metrics


def test_a_pause_before_another_action_is_one(env, emulator):
    env.reset(seed=0)
    env.step([0, 0])
    seen = env._link.state.time
    assert eventually(lambda: env._link.state.time > seen + 0.2)
    assert env.step([0.5, 0])[4]["late"]
    metrics = env.take_metrics()
    assert metrics["ur5/late_steps"] == 1 and metrics["ur5/longest_delay"] >= 0.15
    # The emulator's clock runs ten times as fast.
    assert metrics["ur5/response_time_median"] >= 0.015


def test_an_arm_that_was_moved_meanwhile_is_not_commanded(env, emulator):
    first, _ = env.reset(seed=0)
    # An arm that was at the start already has arrived before it is told to go there.
    assert eventually(lambda: commands(emulator, "movej")) and rests(emulator)
    arm = emulator.controller.arm
    arm.movej(np.add(arm.q_actual, [0, 0.1, 0, 0, 0, 0]), 1.0, 1.0, 0.5)
    pause(emulator, 1.0)
    obs, _, _, truncated, info = env.step([0.5, 0])
    assert truncated and "moved by 0.1 rad since the reset" in info["fault"]
    assert obs[0] == pytest.approx(first[0] + 0.1, abs=0.01)
    assert not commands(emulator, "speedj")


@pytest.mark.parametrize(
    ("line", "fault"), [("protective_stop", "protective stop"), ("drop", "the connection is lost")]
)
def test_a_fault_meanwhile_ends_the_episode_at_its_first_step(env, emulator, line, fault):
    env.reset(seed=0)
    pause(emulator, 0.2)
    emulator.control(line)
    pause(emulator, 0.2)
    obs, _, _, truncated, info = env.step([0.5, 0])
    assert truncated and fault in info["fault"] and np.isfinite(obs).all()
    assert not commands(emulator, "speedj")
    assert env.take_metrics()["ur5/faults"] == 1


def test_packets_that_the_controller_did_not_send_are_lost(emulator, env):
    env.reset(seed=0)
    env.step([0, 0])
    silence = partial(setattr, emulator.controller.faults, "silent")
    before_cycles(emulator, *[partial(silence, True)] * 50, partial(silence, False))
    assert [env.step([0, 0])[3] for _ in range(99)] == [False] * 98 + [True]
    assert env.take_metrics()["ur5/lost_packets"] == 50


def test_a_halt_stops_the_arm_and_ends_the_episode(env, emulator):
    env.halt()  # before there is a connection
    env.reset(seed=0)
    env.step([1, 1])
    env.halt()
    assert rests(emulator)
    assert emulator.state()["last_command"] == "stopj(a=3.000000000)"
    with pytest.raises(ResetNeeded):
        env.step([1, 1])
