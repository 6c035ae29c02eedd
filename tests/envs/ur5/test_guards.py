"""The guards of box and joints."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from hesrl.envs.ur5.guards import Command, Guards
from hesrl.envs.ur5.kinematics import Plane
from hesrl.envs.ur5.reacher_settings import ReacherSettings

SETTINGS = ReacherSettings()
PLANE = Plane(SETTINGS.q_ref)
START = (-2.4, 1.5)
WISH = Command(0.3, -0.2, 1.4)
# 6 mm and 17 mm to the left of the box.
LEFT, FURTHER_LEFT = (-2.93, 1.53), (-2.95, 1.53)


def settings(**others):
    """Settings that the task refuses."""
    return SimpleNamespace(**{**vars(SETTINGS), **others})


def make():
    return Guards(SETTINGS, PLANE)


def test_inside_the_command_stays_what_it_is():
    guards = make()
    assert guards(WISH, START, START, (0.3, 0.3)) is WISH and guards.active is None


def test_outside_the_box_the_arm_goes_back_to_the_nearest_point_inside():
    guards = make()
    y, z = PLANE.position(*LEFT)
    assert y < -0.3 and 0.5 < z < 1.0
    command = guards(WISH, LEFT, LEFT, (0.1, -0.2))
    goal = PLANE.shifted(LEFT, -0.299 - y, 0.0)
    way = np.subtract(goal, LEFT)
    assert guards.active == "box"
    assert math.hypot(command.shoulder, command.elbow) == pytest.approx(0.1)
    assert command[:2] == pytest.approx(tuple(0.1 * way / np.linalg.norm(way)))


def test_the_way_back_is_kept_until_the_arm_is_inside():
    guards = make()
    guards(WISH, LEFT, LEFT, (0.1, -0.2))
    kept = guards(WISH, FURTHER_LEFT, FURTHER_LEFT, (0.1, -0.2))
    fresh = make()(WISH, FURTHER_LEFT, FURTHER_LEFT, (0.1, -0.2))
    assert kept[:2] != pytest.approx(fresh[:2], abs=1e-6)
    guards(WISH, START, START, (0.0, 0.0))
    assert guards(WISH, FURTHER_LEFT, FURTHER_LEFT, (0.1, -0.2)) == fresh


def test_a_reset_forgets_the_way_back():
    guards = make()
    guards(WISH, LEFT, LEFT, (0.1, -0.2))
    guards.reset()
    assert guards.active is None
    fresh = make()(WISH, FURTHER_LEFT, FURTHER_LEFT, (0.1, -0.2))
    assert guards(WISH, FURTHER_LEFT, FURTHER_LEFT, (0.1, -0.2)) == fresh


@pytest.mark.parametrize(("v0", "v", "a"), [(0.1, 0.1, 2.0), (-0.4, 0.3, 2.4), (1.0, 1.0, 5.0)])
def test_the_acceleration_of_the_way_back_grows_with_the_speeds(v0, v, a):
    guards = make()
    guards(WISH, LEFT, LEFT, (0.05, v0))
    assert guards(WISH, LEFT, LEFT, (v, 0.05)).acceleration == pytest.approx(a)


def test_at_the_point_of_return_the_arm_stands():
    guards = make()
    y, _ = PLANE.position(*LEFT)
    goal = PLANE.shifted(LEFT, -0.299 - y, 0.0)
    guards(WISH, LEFT, LEFT, (0.0, 0.0))
    assert guards(WISH, LEFT, goal, (0.0, 0.0)) == (0.0, 0.0, 2.0)


def test_an_arm_too_short_to_return_stops():
    # Stretched out, with the box far away.
    guards = Guards(settings(box_low=(0.9, 1.9), box_high=(1.1, 2.1)), PLANE)
    assert guards(WISH, START, START, (0.3, 0.3))[:2] == (0.0, 0.0)


def wide(**limits):
    """Guards without a box to leave."""
    return Guards(settings(box_low=(-9.0, -9.0), box_high=(9.0, 9.0), **limits), PLANE)


@pytest.mark.parametrize(
    ("q", "wish", "expected"),
    [
        ((-3.2, 1.5), (-0.1, 0.3), (0.3, 0.3)),
        ((-1.0, 1.5), (0.3, 0.1), (-0.3, 0.1)),
        ((-2.4, -2.2), (0.2, -0.1), (0.2, 0.2)),
        ((-2.4, 2.3), (0.1, 0.2), (0.1, -0.2)),
        ((-1.0, 2.3), (0.1, 0.2), (-0.2, -0.2)),
    ],
)
def test_a_joint_beyond_its_limit_turns_inward_with_the_larger_speed(q, wish, expected):
    guards = wide()
    assert guards(Command(*wish, 1.4), q, q, (0.0, 0.0)) == (*expected, 1.4)
    assert guards.active == "joint"


def test_within_the_buffer_a_joint_beyond_by_its_target_turns_inward():
    limit = SETTINGS.joint_high[1]
    target, wish = (-2.4, limit + 0.001), Command(0.1, 0.2, 1.4)
    assert wide()(wish, target, (-2.4, limit - 0.0005), (0, 0)).elbow == -0.2
    assert wide()(wish, target, (-2.4, limit - 0.002), (0, 0)).elbow == 0.2


def test_the_box_comes_before_the_joints():
    guards = Guards(settings(joint_high=(-3.0, 1.0)), PLANE)
    guards(WISH, LEFT, LEFT, (0.0, 0.0))
    assert guards.active == "box"
