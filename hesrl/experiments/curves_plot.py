"""The picture of learning curves: a panel for each environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hesrl.runs.figures import label_steps, new_figure, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = ("#1f5fa8", "#d1495b", "#e9a23b", "#2a9d8f", "#8d6cab", "#6b4f3a", "#9a9a9a", "#111111")
_STYLES = ("-", "--", ":")
COLUMNS = 3
"""Most panels beside each other."""


def plot_curves(curves: Sequence[Any], ylabel: str) -> Figure:
    """Draw means as lines and 95 % intervals as bands; equal labels have equal colours.

    Args:
        curves: Those of `hesrl.experiments.curves`.
        ylabel: Name of the metric.
    """
    env_ids = list(dict.fromkeys(curve.env_id for curve in curves))
    labels = sorted({curve.label for curve in curves})
    rows = -(-len(env_ids) // COLUMNS)
    columns = -(-len(env_ids) // rows)
    figure = new_figure(1.0 + 4.6 * columns, 3.8 * rows + 0.35 * -(-len(labels) // columns))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    lines: dict[str, Any] = {}
    for ax, env_id in zip(panels, env_ids, strict=False):
        for curve in curves:
            if curve.env_id == env_id:
                lines[curve.label] = _draw(ax, curve, labels.index(curve.label))
        ax.set_title(env_id, fontsize=13, loc="left")
        label_steps(ax, fontsize=11)
        style_axes(ax, grid="both")
    for ax in panels[len(env_ids) :]:
        ax.set_axis_off()
    for ax in panels[::columns]:
        ax.set_ylabel(ylabel, fontsize=11)
    handles = [lines[label] for label in labels]
    figure.legend(
        handles, labels, frameon=False, fontsize=11, loc="outside lower center", ncols=columns
    )
    return figure


def _draw(ax: Axes, curve: Any, number: int) -> Any:
    """Draw one curve and return its line."""
    steps, means, margins = np.array(curve.points).T
    color = _COLORS[number % len(_COLORS)]
    style = _STYLES[number // len(_COLORS) % len(_STYLES)]
    (line,) = ax.plot(steps, means, style, color=color, linewidth=2)
    ax.fill_between(steps, means - margins, means + margins, color=color, alpha=0.15, linewidth=0)
    return line
