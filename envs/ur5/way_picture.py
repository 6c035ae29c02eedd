"""The way of the arm to the start as a picture: from the side and from above."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hesrl.envs.ur5.bounds import LOWEST
from hesrl.envs.ur5.kinematics import in_base_frame
from hesrl.envs.ur5.reacher_settings import BOX_X, ReacherSettings
from hesrl.envs.ur5.way import POINTS, Way
from hesrl.runs.figures import new_figure, write_figure

COLORS = ("#e69f00", "#56b4e9", "#009e73")
"""Of the ways of elbow, wrist and tool."""
_VIEWS = {"from the side": (1, 2), "from above": (1, 0)}
"""Which coordinates, of x, y and z, each view has."""


def write_picture(file: Path, way: Way, settings: ReacherSettings) -> None:
    """Draw a way in the base frame of Universal Robots.

    Args:
        file: The file, in the format of its suffix.
        way: The way.
        settings: The box and the arm.

    Raises:
        UserError: The file cannot be written.
    """
    figure = new_figure(11, 5, dpi=120)
    places = in_base_frame(way.places)
    corners = [[BOX_X[0], *settings.box_low], [BOX_X[1], *settings.box_high]]
    low, high = np.sort(in_base_frame(corners), axis=0)
    for number, (title, (across, up)) in enumerate(_VIEWS.items(), start=1):
        axes = figure.add_subplot(1, 2, number)
        xs, ys = [low[across], high[across]], [low[up], high[up]]
        axes.plot(np.take(xs, [0, 1, 1, 0, 0]), np.take(ys, [0, 0, 1, 1, 0]), "k:", label="box")
        if up == 2:
            axes.axhline(0.0, color="black", linewidth=2)
            axes.axhline(LOWEST, color="#d1495b", linestyle="--", label="lowest allowed")
        for point, color in enumerate(COLORS):
            line = places[:, point]
            axes.plot(
                line[:, across], line[:, up], color=color, label=f"way of the {POINTS[point]}"
            )
        for place, style, name in ((places[0], "0.6", "now"), (places[-1], "black", "start")):
            joints = np.vstack([np.zeros(3), [0.0, 0.0, settings.model.d1], place])
            axes.plot(joints[:, across], joints[:, up], "o-", color=style, label=f"arm, {name}")
        axes.set(title=title, aspect="equal", xlabel=f"{'xyz'[across]} of the base (m)")
        axes.set_ylabel(f"{'xyz'[up]} of the base (m)")
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False)
    write_figure(file, figure)
