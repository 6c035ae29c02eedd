"""The picture of Figure 8: milliseconds, and ratios to Adam."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hesrl.paper.fig8_times import BASELINE, FLOP_BOUND, PAPER_RATIOS, PARTS, Times
from hesrl.runs.figures import legend_below, new_figure, optimizer_color, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CURVED = ("AdaHesScaleGN", "AdaHesScale", "AdaBL89", "AdaGGNMC", "AdaHessian")
_COLORS = {
    BASELINE: "0.6",
    "hesrl Adam": optimizer_color("adam"),
    **{name: optimizer_color(name.lower()) for name in _CURVED},
    "hesrl Adam, compiled": optimizer_color("adam"),
    "AdaHesScale, compiled": optimizer_color("adahesscale"),
}


def plot_times(times: Times) -> Figure:
    """Draw a column for each part: the times of an update above, their ratios to Adam below."""
    figure = new_figure(12, 8.5)
    axes = figure.subplots(2, len(PARTS), sharex="col", sharey="row")
    for column, (part, what) in enumerate(PARTS.items()):
        _draw(axes[0, column], times, part, "milliseconds")
        _draw(axes[1, column], times, part, "ratio")
        _reference_lines(axes[1, column], label=column == 1)
        axes[0, column].set_yscale("log")
        axes[0, column].yaxis.set_major_formatter("{x:g}")
        axes[0, column].set_title(f"({'ab'[column]}) {what}", fontsize=14, loc="left")
        axes[1, column].set_xlabel(f"number of {what}", fontsize=12)
        axes[1, column].set_xticks(times.sizes(part), [str(size) for size in times.sizes(part)])
        axes[1, column].minorticks_off()
    axes[0, 0].set_ylabel("time of an update (ms)", fontsize=12)
    axes[1, 0].set_ylabel(f"ratio to {BASELINE}", fontsize=12)
    axes[1, 0].set_ylim(bottom=0)
    legend_below(figure, axes[0, 0], columns=5)
    return figure


def _draw(ax: Axes, times: Times, part: str, value: str) -> None:
    for name in times.optimizers:
        sizes = times.sizes(part)
        values = [getattr(times.row(part, size, name), value) for size in sizes]
        style = "o--" if name.endswith("compiled") else "o-"
        ax.plot(sizes, values, style, color=_COLORS[name], markersize=4, label=name)
    ax.set_xscale("log", base=2)
    style_axes(ax)


def _reference_lines(ax: Axes, label: bool) -> None:
    """Draw the paper's ratios and the bound by counting products, named at the right margin."""
    lines = [(ratio, f"paper: {name}", _COLORS[name]) for name, ratio in PAPER_RATIOS.items()]
    for ratio, text, color in [*lines, (FLOP_BOUND, "products: 5/3", "0.3")]:
        ax.axhline(ratio, color=color, linestyle=":", linewidth=1.3)
        if label:
            ax.annotate(
                f"{text} {ratio:g}" if "5/3" not in text else text,
                (1.01, ratio),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=9,
                color=color,
            )
