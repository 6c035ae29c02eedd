"""How the simulated arm follows its commands."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hesrl.envs.ur5.arm import COMMAND_DELAY_TICKS, LAG, MAX_SPEED, TICK, Arm
from hesrl.envs.ur5.reacher_settings import ReacherSettings

Q_REF = np.array(ReacherSettings().q_ref)
SHOULDER, ELBOW = np.eye(6)[1:3]


def ticks(arm, n):
    for _ in range(n):
        arm.tick()


def test_a_command_is_obeyed_after_two_ticks():
    arm = Arm(Q_REF)
    arm.speedj(0.3 * ELBOW, 1.4, 1.0)
    ticks(arm, COMMAND_DELAY_TICKS)
    assert not arm.qd_target.any() and arm.time == 2 * TICK
    arm.tick()
    assert arm.qd_target[2] == pytest.approx(1.4 * TICK) and arm.is_moving
    assert arm.q_target[2] == pytest.approx(Q_REF[2] + 1.4 * TICK**2)
    assert arm.qdd_target[2] == pytest.approx(1.4)


def test_the_acceleration_is_that_of_the_joint_that_changes_most():
    arm = Arm(Q_REF)
    arm.speedj([0, 0.3, -0.1, 0, 0, 0.05], 1.5, 1.0)
    ticks(arm, 5)
    np.testing.assert_allclose(arm.qdd_target, [0, 1.5, -0.5, 0, 0, 0.25], atol=1e-12)
    ticks(arm, 50)
    np.testing.assert_allclose(arm.qd_target, [0, 0.3, -0.1, 0, 0, 0.05], atol=1e-12)
    assert not arm.qdd_target.any()


def test_the_joints_follow_with_a_lag_of_the_first_order():
    arm = Arm(Q_REF)
    arm.speedj(0.3 * ELBOW, 1e6, 1.0)
    ticks(arm, COMMAND_DELAY_TICKS)
    for n in range(1, 10):
        before = arm.q_actual
        arm.tick()
        assert arm.qd_actual[2] == pytest.approx(0.3 * (1 - math.exp(-n * TICK / LAG)))
        np.testing.assert_allclose((arm.q_actual - before) / TICK, arm.qd_actual, atol=1e-12)


def test_a_speed_lasts_for_its_time_and_then_decelerates():
    arm = Arm(Q_REF)
    arm.speedj(0.3 * ELBOW, 3.0, 0.2)
    ticks(arm, COMMAND_DELAY_TICKS + 25)
    assert arm.qd_target[2] == 0.3
    arm.tick()
    assert arm.qd_target[2] == pytest.approx(0.3 - 3.0 * TICK)
    ticks(arm, 20)
    assert arm.qd_target[2] == 0 and not arm.is_moving


def test_a_speed_sent_at_every_tick_holds():
    arm, speeds = Arm(Q_REF), []
    for _ in range(60):
        arm.speedj(0.3 * ELBOW, 1.4, 0.008)
        arm.tick()
        speeds.append(arm.qd_target[2])
    assert speeds == sorted(speeds) and speeds[-1] == 0.3


def test_no_joint_exceeds_its_largest_speed():
    arm = Arm(Q_REF)
    arm.speedj(-9 * ELBOW, 1e3, 1.0)
    ticks(arm, 20)
    assert arm.qd_target[2] == -MAX_SPEED


def test_a_newer_command_takes_the_place_of_the_one_before():
    arm = Arm(Q_REF)
    arm.speedj(0.3 * ELBOW, 1e6, 1.0)
    arm.speedj(-0.2 * ELBOW, 1e6, 1.0)
    ticks(arm, 10)
    assert arm.qd_target[2] == -0.2


@pytest.mark.parametrize("t", [2.0, 0.5])
def test_movej_arrives_in_its_time_and_stays(t):
    arm, goal = Arm(Q_REF), Q_REF + 0.5 * SHOULDER - 0.8 * ELBOW
    arm.movej(goal, 1.4, 1.0, t)
    ticks(arm, COMMAND_DELAY_TICKS + math.ceil(t / TICK) - 1)
    assert np.abs(arm.q_target - goal).max() > 1e-9
    arm.tick()
    np.testing.assert_allclose(arm.q_target, goal, atol=1e-12)
    ticks(arm, 20)
    np.testing.assert_allclose(arm.q_actual, goal, atol=1e-6)
    assert not arm.is_moving


def test_movej_without_a_time_keeps_to_speed_and_acceleration():
    for a, v in ((1.4, 0.2), (0.5, 3.0)):
        arm = Arm(Q_REF)
        arm.movej(Q_REF - 0.4 * ELBOW, a, v)
        motion = []
        while arm.is_moving or arm.time < 0.1:
            arm.tick()
            motion.append((abs(arm.qd_target[2]) / v, abs(arm.qdd_target[2]) / a))
        assert 0.95 < np.max(motion) < 1.01
        assert arm.q_target[2] == pytest.approx(Q_REF[2] - 0.4)


def test_movej_begins_with_the_speed_that_the_arm_has():
    arm = Arm(Q_REF)
    arm.speedj(0.3 * ELBOW, 1.4, 1.0)
    ticks(arm, 50)
    arm.movej(Q_REF, 1.4, 1.0, 1.0)
    ticks(arm, COMMAND_DELAY_TICKS + 1)
    assert arm.qd_target[2] == pytest.approx(0.3, abs=5e-3)
    ticks(arm, 150)
    np.testing.assert_allclose(arm.q_target, Q_REF, atol=1e-12)


def test_stopj_decelerates_after_the_delay_and_a_brake_at_once():
    for name, delay in (("stopj", COMMAND_DELAY_TICKS), ("brake", 0)):
        arm = Arm(Q_REF)
        arm.speedj(0.3 * ELBOW, 1.4, 10.0)
        ticks(arm, 50)
        getattr(arm, name)(2.0)
        ticks(arm, delay)
        assert arm.qd_target[2] == 0.3
        ticks(arm, 5)
        assert arm.qd_target[2] == pytest.approx(0.3 - 2.0 * 5 * TICK)
        ticks(arm, 50)
        assert not arm.is_moving


def test_a_brake_forgets_the_commands_that_wait():
    arm = Arm(Q_REF)
    arm.speedj(0.3 * ELBOW, 1.4, 1.0)
    arm.brake(3.0)
    ticks(arm, 10)
    assert np.array_equal(arm.q_target, Q_REF)


@pytest.mark.parametrize(
    ("send", "message"),
    [
        (lambda arm: arm.speedj([0, math.nan, 0, 0, 0, 0], 1.4, 0.008), "speeds must be six"),
        (lambda arm: arm.speedj([0, 0], 1.4, 0.008), "speeds must be six finite numbers"),
        (lambda arm: arm.speedj(ELBOW, 0.0, 0.008), "a is 0.0; it must be a finite number above 0"),
        (lambda arm: arm.speedj(ELBOW, 1.4, math.inf), "a time is inf"),
        (lambda arm: arm.movej(Q_REF, 1.4, -1.0), "v is -1.0"),
        (lambda arm: arm.movej(Q_REF, 1.4, 1.0, -2.0), "t is -2.0"),
        (lambda arm: arm.stopj(-3.0), "a is -3.0"),
    ],
)
def test_impossible_commands_are_refused_and_change_nothing(send, message):
    arm = Arm(Q_REF)
    with pytest.raises(ValueError, match=message):
        send(arm)
    ticks(arm, 10)
    assert np.array_equal(arm.q_target, Q_REF) and not arm.is_moving
