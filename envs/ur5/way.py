"""The way of a ``movej``, before it is sent: where elbow, wrist and tool would go.

The controller moves the joints along a straight line in the space of the joints.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hesrl.envs.ur5.bounds import LOWEST
from hesrl.envs.ur5.reacher_settings import BOX_X, ReacherSettings

POINTS = ("elbow", "wrist", "tool")
"""What is looked at, in the order of `ArmModel.elbow_wrist_tool`."""
OUTSIDE_BOX = 0.05
"""How far outside the box the tool may come on the way (m); between two places in the default box
it comes up to 0.031 m outside."""
SHORTEST_TIME = 2.0
"""Shortest time of the movement to the start (s)."""
_STEP = 0.005
"""Largest step of a joint between two places of a way (rad)."""


class Way(NamedTuple):
    """The way from some angles to others."""

    begin: NDArray[np.float64]
    """Angles where it begins (6,), rad."""
    end: NDArray[np.float64]
    """Angles where it ends (6,), rad."""
    places: NDArray[np.float64]
    """Places of elbow, wrist and tool on it (n, 3, 3), m, in the task's frame."""
    outside: float
    """How far outside the box the tool comes (m)."""

    @property
    def turns(self) -> NDArray[np.float64]:
        """By what each joint turns (6,), rad."""
        return np.abs(self.end - self.begin)

    @property
    def lowest(self) -> dict[str, float]:
        """Smallest height of each of `POINTS` (m)."""
        heights = self.places[:, :, 2].min(axis=0).tolist()
        return dict(zip(POINTS, heights, strict=True))

    @property
    def too_low(self) -> str | None:
        """What comes too near to the floor, with the heights; None if nothing does."""
        point = min(POINTS, key=self.lowest.__getitem__)
        if self.lowest[point] >= LOWEST:
            return None
        return f"the {point} would come to z = {self.lowest[point]:.2f} m, below {LOWEST} m"

    def duration(self, speed: float) -> float:
        """Return the time (s) in which no joint gets faster than ``speed`` (rad/s)."""
        # The largest speed of a movement is less than twice the mean.
        return max(SHORTEST_TIME, 2 * float(self.turns.max()) / speed)


def way_between(begin: ArrayLike, end: ArrayLike, settings: ReacherSettings) -> Way:
    """Return the way from angles to others (6,), rad.

    Args:
        begin: Where it begins.
        end: Where it ends.
        settings: The box and the arm.
    """
    first, last = np.array(begin, dtype=np.float64), np.array(end, dtype=np.float64)
    count = 2 + int(np.abs(last - first).max() / _STEP)
    places = settings.model.elbow_wrist_tool(
        first + np.linspace(0, 1, count)[:, None] * (last - first)
    )
    low = [BOX_X[0], *settings.box_low]
    high = [BOX_X[1], *settings.box_high]
    tools = places[:, 2]
    outside = float(np.maximum(low - tools, tools - high).max())
    return Way(first, last, places, max(0.0, outside))
