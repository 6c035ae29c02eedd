"""Kinematics of UR5 and UR5e against Denavit and Hartenberg's matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hesrl.envs.ur5.kinematics import ARM_MODELS
from hesrl.envs.ur5.reacher_settings import ReacherSettings

Q_REF = ReacherSettings().q_ref
PUBLISHED = {
    "ur5": ((0, -0.425, -0.39225, 0, 0, 0), (0.089159, 0, 0, 0.10915, 0.09465, 0.0823)),
    "ur5e": ((0, -0.425, -0.3922, 0, 0, 0), (0.1625, 0, 0, 0.1333, 0.0997, 0.0996)),
}
"""Lengths a (6,) and offsets d (6,) of each arm (m), by Universal Robots."""


@pytest.fixture(params=PUBLISHED)
def name(request):
    """The name of an arm."""
    return request.param


@pytest.fixture
def model(name):
    """An arm."""
    return ARM_MODELS[name]


@pytest.fixture
def plane(name):
    """The same in the plane."""
    return ReacherSettings(arm_model=name).plane


def frames(q, name="ur5"):
    """Multiply the transformations between the links: the frame of each link (6, 4, 4)."""
    a, d = PUBLISHED[name]
    alpha = (math.pi / 2, 0, 0, math.pi / 2, -math.pi / 2, 0)
    transform, found = np.eye(4), []
    for angle, a_i, d_i, alpha_i in zip(q, a, d, alpha, strict=True):
        c, s, ca, sa = math.cos(angle), math.sin(angle), math.cos(alpha_i), math.sin(alpha_i)
        transform = transform @ [
            [c, -s * ca, s * sa, a_i * c],
            [s, c * ca, -c * sa, a_i * s],
            [0, sa, ca, d_i],
            [0, 0, 0, 1],
        ]
        found.append(transform)
    return np.array(found)


def pose(q, name):
    """The frame of the last link, which holds the tool (4, 4)."""
    return frames(q, name)[-1]


def random_pairs(n, seed=0):
    settings = ReacherSettings()
    return np.random.default_rng(seed).uniform(settings.joint_low, settings.joint_high, (n, 2))


def whole(pair):
    """All joints of an arm whose shoulder and elbow have these angles."""
    q = np.array(Q_REF)
    q[1:3] = pair
    return q


def test_the_start_pose_is_where_the_robot_has_it():
    place = ARM_MODELS["ur5"].forward(Q_REF)
    np.testing.assert_allclose(place, [-0.1041, 0.0194, 0.7700], atol=5e-5)


def test_forward_is_the_product_of_the_transformations_up_to_the_turned_base(name, model):
    q = np.random.default_rng(1).uniform(-math.pi, math.pi, (5, 4, 6))
    expected = np.array([[pose(one, name)[:3, 3] for one in row] for row in q])
    # The base of SenseAct's convention is turned by half a turn around z.
    np.testing.assert_allclose(model.forward(q), expected * [-1, -1, 1], atol=1e-12)


def test_the_arm_in_the_plane_is_the_whole_arm(model, plane):
    pairs = random_pairs(50)
    expected = model.forward([whole(pair) for pair in pairs])[:, 1:]
    np.testing.assert_allclose([plane.position(*pair) for pair in pairs], expected, atol=1e-14)


def test_x_stays_in_the_box_whatever_shoulder_and_elbow_do(model):
    x = model.forward([whole(pair) for pair in random_pairs(10_000)])[:, 0]
    assert -0.2 < x.min() < x.max() < 0.2


def test_a_shift_moves_the_tool_and_keeps_its_orientation(name, model, plane):
    for pair in random_pairs(200):
        q = whole(pair)
        moved = plane.shifted(tuple(pair), 0.01, -0.02)
        if moved is None:
            continue
        q_moved = whole(moved)
        q_moved[3] -= sum(moved) - sum(pair)
        shift = (model.forward(q_moved) - model.forward(q))[1:]
        np.testing.assert_allclose(shift, [0.01, -0.02], atol=1e-12)
        turned, orientation = pose(q_moved, name)[:3, :3], pose(q, name)[:3, :3]
        np.testing.assert_allclose(turned, orientation, atol=1e-12)


def test_a_shift_of_nothing_stays_at_the_same_angles_turns_included(plane):
    for pair in [*random_pairs(50), (-2.4 - 2 * math.pi, 1.5), (-2.4, -1.5 + 2 * math.pi)]:
        assert plane.shifted(tuple(pair), 0, 0) == pytest.approx(tuple(pair), abs=1e-7)


def test_a_shift_beyond_the_arm_is_none(plane):
    assert plane.shifted((-2.4, 1.5), 1.0, 1.0) is None


def test_links_have_their_lengths_and_end_at_the_tool(name, plane):
    points = plane.links((-2.4, 1.5))
    s1, (a, d) = math.sin(Q_REF[0]), PUBLISHED[name]
    lengths = np.hypot(np.diff(points[:, 0]) / s1, np.diff(points[:, 1]))
    assert lengths[:3] == pytest.approx([d[0], -a[1], -a[2]], abs=1e-12)
    assert points[-1] == pytest.approx(plane.position(-2.4, 1.5))


def test_reach_bounds_the_distance_from_the_shoulder_and_is_attained(plane):
    elbows = np.linspace(-math.pi, math.pi, 2001)
    y, z = np.transpose([plane.position(-1.0, elbow) for elbow in elbows])
    distances = np.hypot((y - plane.shoulder[0]) / math.sin(Q_REF[0]), z - plane.shoulder[1])
    assert distances.max() == pytest.approx(plane.reach, abs=1e-5)
