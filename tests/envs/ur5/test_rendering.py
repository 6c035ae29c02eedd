"""Pictures of the arm."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.envs.ur5.rendering import (
    JOINTS,
    LINKS,
    SIZE,
    TARGET,
    TOOL,
    TRAIL,
    VIEW_HIGH,
    VIEW_LOW,
    WHITE,
    Picture,
    draw_line,
)
from hesrl.envs.ur5.simulation import UR5ReacherSim

PLANE = ReacherSettings().plane
START = (-2.4, 1.5)


def at(image, place):
    """The color at y and z (m)."""
    scale = SIZE / (VIEW_HIGH[0] - VIEW_LOW[0])
    column, row = (place[0] - VIEW_LOW[0]) * scale, (VIEW_HIGH[1] - place[1]) * scale
    return tuple(image[int(row), int(column)].tolist())


def count(image, color):
    return int((image == color).all(axis=-1).sum())


def test_the_picture_shows_links_joints_tool_and_target_where_they_are():
    image = Picture(ReacherSettings(), PLANE).draw(START, (0.2, 0.8))
    points = PLANE.links(START)
    assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8
    assert [at(image, joint) for joint in points[1:4]] == [JOINTS] * 3
    middles = [(begin + end) / 2 for begin, end in pairwise(points[:4])]
    assert [at(image, middle) for middle in middles] == [LINKS] * 3
    assert at(image, points[4]) == TOOL
    assert at(image, (0.2, 0.8)) == WHITE and at(image, (0.22, 0.8)) == TARGET
    assert at(image, (0.6, 0.3)) == WHITE


def test_the_tool_leaves_a_trail_until_the_next_episode():
    picture = Picture(ReacherSettings(), PLANE)
    first = picture.draw(START, (0.2, 0.8))
    assert count(first, TRAIL) == 0
    moved = picture.draw((-2.6, 1.5), (0.2, 0.8))
    assert count(moved, TRAIL) > 50
    assert np.array_equal(picture.draw((-2.6, 1.5), (0.2, 0.8)), moved)
    picture.clear()
    assert np.array_equal(picture.draw(START, (0.2, 0.8)), first)


@pytest.mark.parametrize("length", [0.0, 0.3])
def test_a_line_covers_its_area(length):
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    draw_line(image, [(-0.1, 0.5), (-0.1 + length * 0.6, 0.5 + length * 0.8)], 0.1, WHITE)
    area = (np.pi * 0.05**2 + 0.1 * length) * (SIZE / 1.3) ** 2
    assert image.sum() / 255 / 3 == pytest.approx(area, rel=0.01)


def test_what_is_outside_the_view_is_left_out():
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    draw_line(image, [(5.0, 5.0), (6.0, 9.0)], 0.1, WHITE)
    draw_line(image, [(-9.0, -9.0), (-9.0, -9.0)], 0.1, WHITE)
    assert not image.any()
    draw_line(image, [(-0.7, 0.5), (0.7, 0.5)], 0.01, WHITE)
    assert image[:, 0].any() and image[:, -1].any()


def test_an_environment_renders_its_episode():
    env = UR5ReacherSim(render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    for _ in range(30):
        env.step([1.0, 1.0])
        moved = env.render()
    assert count(moved, TRAIL) > 20
    env.reset(seed=0)
    assert np.array_equal(env.render(), first)
    assert UR5ReacherSim().render() is None
