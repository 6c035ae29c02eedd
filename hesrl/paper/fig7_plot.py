"""The picture of Figure 7: a panel of learning curves for each optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hesrl.paper.fig7_curves import GOOD, Curve
from hesrl.runs.figures import label_steps, legend_below, new_figure, optimizer_color, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_curves(found: Mapping[str, Sequence[Curve]]) -> Figure:
    """Draw the runs of each optimizer, their peaks, and their mean.

    Args:
        found: Curves by optimizer; all have the same steps.
    """
    figure = new_figure(1.5 + 4.2 * len(found), 4.8)
    panels = figure.subplots(1, len(found), sharex=True, sharey=True, squeeze=False)[0]
    for ax, (optimizer, runs) in zip(panels, found.items(), strict=True):
        _draw(ax, runs, optimizer_color(optimizer))
        ax.set_title(optimizer, fontsize=14, loc="left")
        label_steps(ax)
    panels[0].set_ylabel("return, mean of 100 episodes", fontsize=12)
    legend_below(figure, panels[0], columns=4)
    return figure


def _draw(ax: Axes, runs: Sequence[Curve], color: str) -> None:
    ax.axhline(GOOD, color="0.6", linestyle=":", linewidth=1.3, label=f"{GOOD:+}")
    for number, curve in enumerate(runs):
        labels = ("one run", "its peak") if number == 0 else ("_", "_")
        ax.plot(curve.steps, curve.returns, color=color, alpha=0.35, linewidth=1, label=labels[0])
        ax.plot(
            curve.peak_step, curve.peak, "o", color=color, markersize=5, label=labels[1], zorder=3
        )
    mean = np.mean([curve.returns for curve in runs], axis=0)
    ax.plot(runs[0].steps, mean, color=color, linewidth=2.5, label="mean of the runs")
    style_axes(ax)
