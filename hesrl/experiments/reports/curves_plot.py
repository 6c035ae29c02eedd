"""The picture of learning curves: a panel for each environment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hesrl.runs.figures import label_steps, legend_outside, line_styles, new_figure, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
"""Most panels beside each other."""


def plot_curves(curves: Sequence[Any], ylabel: str) -> Figure:
    """Draw means as lines and 95 % intervals as bands; equal labels have equal lines.

    Args:
        curves: Those of `hesrl.experiments.reports.curves`.
        ylabel: Name of the metric.
    """
    env_ids = list(dict.fromkeys(curve.env_id for curve in curves))
    figure, panels = env_panels(env_ids)
    styles = line_styles(dict.fromkeys((curve.optimizer, curve.label) for curve in curves))
    for curve in curves:
        steps, means, margins = np.array(curve.points).reshape(-1, 3).T
        style = styles[curve.optimizer, curve.label]
        draw_curve(panels[curve.env_id], steps, means, means - margins, means + margins, style)
    for env_id, ax in panels.items():
        label_steps(ax, fontsize=11)
        limit_bands(ax)
        seeds = [curve.seeds for curve in curves if curve.env_id == env_id]
        ax.set_title(f"{env_id}, {seeds_text(sorted({s for several in seeds for s in several}))}",
                     fontsize=11, loc="left")  # fmt: skip
    next(iter(panels.values())).set_ylabel(ylabel, fontsize=11)
    legend_outside(figure, {label: style for (_, label), style in styles.items()})
    return figure


def env_panels(env_ids: Sequence[str]) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure with a panel for each environment, by its id."""
    rows = -(-len(env_ids) // COLUMNS)
    columns = -(-len(env_ids) // rows)
    figure = new_figure(1.0 + 4.2 * columns, 3.6 * rows)
    figure.set_layout_engine("constrained", hspace=0.06)
    every = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in every[len(env_ids) :]:
        ax.set_axis_off()
    panels = dict(zip(env_ids, every, strict=False))
    for env_id, ax in panels.items():
        ax.set_title(env_id, fontsize=13, loc="left")
        style_axes(ax, grid="both")
    return figure, panels


def draw_curve(ax: Axes, x: Any, mean: Any, low: Any, high: Any, style: dict[str, Any]) -> None:
    """Draw a line with its interval as a band; an interval that is NaN has none."""
    ax.plot(x, mean, linewidth=2, **style)
    ax.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)


def limit_bands(ax: Axes) -> None:
    """Keep the lines apart where intervals are far wider than they: cut the bands at the edge."""
    drawn = [np.asarray(line.get_ydata(), dtype=np.float64) for line in ax.lines]
    values = np.concatenate([np.empty(0), *drawn])
    values = values[np.isfinite(values)]
    if values.size:
        low, high = values.min(), values.max()
        margin = 1.5 * (high - low) or 1.0
        bottom, top = ax.get_ylim()
        ax.set_ylim(max(bottom, low - margin), min(top, high + margin))


def seeds_text(seeds: Iterable[int]) -> str:
    """Return seeds in words, such as ``seeds 1–5, 101``."""
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], seed]
        else:
            parts.append([seed])
    words = ["–".join(map(str, part)) for part in parts]
    single = len(parts) == 1 and len(parts[0]) == 1
    return f"seed{'' if single else 's'} {', '.join(words)}"
