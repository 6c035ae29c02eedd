"""Pictures of the arm from the side: box, target, links and the way of the tool, in NumPy.

Every shape is a line with round ends. It covers the pixels that are nearer than half its width. A
pixel at the edge is a mixture of the shape and the picture below, by the part that is covered.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hesrl.envs.ur5.kinematics import Pair, Plane
from hesrl.envs.ur5.reacher_settings import ReacherSettings

FRAMES_PER_SECOND = 25
"""Pictures per second of the real time of the arm: one for every action."""
SIZE = 480
"""Height and width of a picture (pixels)."""
VIEW_LOW, VIEW_HIGH = (-0.65, -0.1), (0.65, 1.2)
"""Smallest and largest y and z in the picture (m)."""

Color = tuple[int, int, int]
WHITE: Color = (255, 255, 255)
FLOOR: Color = (120, 120, 120)
BOX: Color = (170, 170, 170)
LINKS: Color = (86, 125, 170)
JOINTS: Color = (40, 60, 90)
TRAIL: Color = (240, 170, 80)
TARGET: Color = (200, 40, 40)
TOOL: Color = (20, 140, 70)


class Picture:
    """Draws one arm; remembers where its tool has been.

    Args:
        settings: The box.
        plane: The arm.
    """

    def __init__(self, settings: ReacherSettings, plane: Plane) -> None:
        self._plane = plane
        self._background = np.full((SIZE, SIZE, 3), WHITE, dtype=np.uint8)
        draw_line(self._background, [(VIEW_LOW[0], 0.0), (VIEW_HIGH[0], 0.0)], 0.006, FLOOR)
        (y_low, z_low), (y_high, z_high) = settings.box_low, settings.box_high
        corners = [(y_low, z_low), (y_high, z_low), (y_high, z_high), (y_low, z_high)]
        draw_line(self._background, [*corners, corners[0]], 0.004, BOX)
        self.clear()

    def clear(self) -> None:
        """Forget where the tool has been."""
        # With the trail, which only grows.
        self._canvas = self._background.copy()
        self._last_tool: NDArray[np.float64] | None = None

    def draw(self, q: Pair, target: Pair) -> NDArray[np.uint8]:
        """Return a picture (H, W, 3) in bytes of RGB.

        Args:
            q: Angles of shoulder and elbow, rad.
            target: y and z of the target (m).
        """
        points = self._plane.links(q)
        tool = points[-1]
        if self._last_tool is not None:
            draw_line(self._canvas, [self._last_tool, tool], 0.006, TRAIL)
        self._last_tool = tool
        image = self._canvas.copy()
        draw_line(image, points[:-1], 0.045, LINKS)
        draw_line(image, points[-2:], 0.02, LINKS)
        for joint in points[1:-1]:
            draw_line(image, [joint, joint], 0.03, JOINTS)
        draw_line(image, [target, target], 0.05, TARGET)
        draw_line(image, [target, target], 0.03, WHITE)
        draw_line(image, [tool, tool], 0.026, TOOL)
        return image


def draw_line(
    image: NDArray[np.uint8], points: Iterable[ArrayLike], width: float, color: Color
) -> None:
    """Draw a line through points, or a disc where two are the same.

    Args:
        image: The picture (H, W, 3), which changes.
        points: y and z of each (2,), m; what is outside the view is not drawn.
        width: In m.
        color: Red, green and blue in bytes.
    """
    pixels_per_meter = SIZE / (VIEW_HIGH[0] - VIEW_LOW[0])
    radius = 0.5 * width * pixels_per_meter
    # The first row of a picture is its upper edge.
    corner, signs = (VIEW_LOW[0], VIEW_HIGH[1]), (pixels_per_meter, -pixels_per_meter)
    places = [(np.asarray(point) - corner) * signs for point in points]
    for begin, end in pairwise(places):
        low = np.floor(np.minimum(begin, end) - radius - 1).astype(int).clip(0, SIZE)
        high = np.ceil(np.maximum(begin, end) + radius + 1).astype(int).clip(0, SIZE)
        column = np.arange(low[0], high[0]) + 0.5 - begin[0]
        row = (np.arange(low[1], high[1]) + 0.5 - begin[1])[:, None]
        along = end - begin
        length = along @ along
        part = (column * along[0] + row * along[1]) / (length if length > 0 else 1.0)
        part = part.clip(0, 1)
        distance = np.hypot(column - part * along[0], row - part * along[1])
        cover = (radius + 0.5 - distance).clip(0, 1)[:, :, None]
        region = image[low[1] : high[1], low[0] : high[0]]
        region[...] = np.rint(region + cover * (np.array(color) - region.astype(np.float64)))
