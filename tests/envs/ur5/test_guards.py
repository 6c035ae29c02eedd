"""The guards of box and joints."""

from __future__ import annotations

import math
import re
from collections import deque
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from hesrl.envs.ur5.commands import guard_check
from hesrl.envs.ur5.controller import Controller
from hesrl.envs.ur5.guards import Guards
from hesrl.envs.ur5.kinematics import UR5, Command
from hesrl.envs.ur5.motion import law_for
from hesrl.envs.ur5.protocol import unpack
from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.envs.ur5.task import Task
from hesrl.envs.ur5.urscript import speedj

SETTINGS = ReacherSettings()
PLANE = SETTINGS.plane
START = (-2.4, 1.5)
WISH = Command(0.3, -0.2, 1.4)
# 6 mm and 17 mm to the left of the box.
LEFT, FURTHER_LEFT = (-2.93, 1.53), (-2.95, 1.53)


class AtRest(Guards):
    """Guards of an arm that the controller asks to rest."""

    def __call__(self, command, q_target, q, qd):
        """Return what takes the place of a command."""
        return super().__call__(command, q_target, q, qd, (0.0, 0.0))


def settings(**others):
    """Settings that the task refuses."""
    return SimpleNamespace(**{**vars(SETTINGS), **others})


def make():
    return AtRest(SETTINGS, PLANE)


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
    guards = AtRest(settings(box_low=(0.9, 1.9), box_high=(1.1, 2.1)), PLANE)
    assert guards(WISH, START, START, (0.3, 0.3))[:2] == (0.0, 0.0)


def wide(**limits):
    """Guards without a box to leave."""
    return AtRest(settings(box_low=(-9.0, -9.0), box_high=(9.0, 9.0), **limits), PLANE)


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
    assert wide()(wish, target, (-2.4, limit - 0.002), (0, 0)).elbow == 0.0


def test_the_box_comes_before_the_joints():
    guards = AtRest(settings(joint_high=(-3.0, 1.0)), PLANE)
    guards(WISH, LEFT, LEFT, (0.0, 0.0))
    assert guards.active == "box"


def test_a_command_is_sent_as_it_is_where_the_arm_can_still_stop():
    guards = Guards(SETTINGS, PLANE)
    assert guards(WISH, START, START, (0.3, -0.2), (0.3, -0.2)) is WISH and guards.active is None


# 2 cm within the box; 1 degree within a limit of the shoulder.
NEAR_BOX, NEAR_LIMIT = (-2.86, 1.53), (math.radians(-61), 0.2)


def test_a_command_after_which_the_arm_could_not_stop_is_slowed_down():
    guards = Guards(ReacherSettings(speed_limit=1.0, acceleration=2.0), PLANE)
    wish = Command(-1.0, 0.0, 2.0)
    sent = guards(wish, NEAR_BOX, NEAR_BOX, (-0.6, 0.0), (-0.6, 0.0))
    assert guards.active == "box" and -1.0 < sent.shoulder <= 0.0 and sent.acceleration == 5.0
    stop = guards(wish, NEAR_BOX, NEAR_BOX, (-0.9, 0.0), (-0.9, 0.0))
    assert stop == (0.0, 0.0, 5.0)
    inward = Command(1.0, 0.0, 2.0)
    assert guards(inward, NEAR_BOX, NEAR_BOX, (0.0, 0.0), (0.0, 0.0)) is inward


def test_a_joint_stops_at_its_limit():
    wide_box = {"box_low": (-9.0, -9.0), "box_high": (9.0, 9.0)}
    guards = Guards(settings(**wide_box), PLANE)
    outward, inward = Command(0.3, 0.0, 1.4), Command(-0.3, 0.0, 1.4)
    assert guards(outward, NEAR_LIMIT, NEAR_LIMIT, (0.3, 0.0), (0.3, 0.0)) == (0.0, 0.0, 2.0)
    assert guards.active == "joint"
    assert guards(inward, NEAR_LIMIT, NEAR_LIMIT, (0.0, 0.0), (0.0, 0.0)) is inward


def test_elbow_and_wrist_stay_above_the_floor():
    free = {"box_low": (-9.0, -9.0), "box_high": (9.0, 9.0)}
    free |= {"joint_low": (-9.0, -9.0), "joint_high": (9.0, 9.0)}
    guards = Guards(settings(**free), PLANE)
    # The elbow 1 cm above what is allowed; then the wrist, with the elbow high.
    elbow_low = (-math.pi, 1.0)
    down = Command(-0.3, 0.0, 1.4)
    assert guards(down, elbow_low, elbow_low, (-0.3, 0.0), (-0.3, 0.0)) == (0.0, 0.0, 2.0)
    assert guards.active == "floor"
    shoulder = -2.9
    forearm = math.asin((0.09 - UR5.d1 + 0.425 * math.sin(shoulder)) / -0.39225)
    for turned in (forearm, math.pi - forearm):
        low = (shoulder, turned - shoulder)
        down = Command(0.0, 0.3 if math.cos(turned) > 0 else -0.3, 1.4)
        guards.reset()
        sent = guards(down, low, low, (0.0, down.elbow), (0.0, down.elbow))
        assert guards.active == "floor" and 0 <= sent.elbow / down.elbow <= 0.5
        up = Command(0.0, -down.elbow, 1.4)
        guards.reset()
        assert guards(up, low, low, (0.0, 0.0), (0.0, 0.0)) is up


@pytest.mark.parametrize(("speed_limit", "acceleration"), [(0.3, 1.4), (1.0, 2.0)])
def test_random_episodes_stay_in_the_box_in_simulation(capsys, speed_limit, acceleration):
    """`hesrl ur5 guards` plays 2,000 of them."""
    args = guard_check.Args(30, speed_limit, acceleration)
    assert guard_check.main(args) == 0
    report = capsys.readouterr().out
    assert float(re.search(r"tool +([+-][\d.]+) mm outside", report)[1]) < 5
    assert float(re.search(r"joints +([+-][\d.]+) rad beyond", report)[1]) < 0.01


@pytest.mark.parametrize("latency", [0, 1])
def test_the_arm_behind_the_controller_stays_in_the_box(latency):
    """As the driver does it: a command for every packet, which may come a cycle later."""
    fast = ReacherSettings(speed_limit=1.0, acceleration=2.0)
    rng, task, outside = np.random.default_rng(3), Task(fast), []
    for _ in range(4):
        controller, late = Controller(fast.q_ref), deque([b"stopj(a=2.0)"] * latency)
        task.reset(rng)
        for action in guard_check.random_actions(rng, 100):
            law = law_for(fast.joints, partial(task.command, action))
            for _ in range(5):
                state = unpack(controller.cycle())
                late.append(speedj(*law(state), 0.008))
                controller.obey(late.popleft().decode())
                place = UR5.forward(state.q_actual)[1:]
                outside.append(max(*(fast.box_low - place), *(place - fast.box_high)))
                assert UR5.elbow_wrist_tool(state.q_actual)[:, 2].min() > 0.08
    assert -0.01 < max(outside) < 0.01
