"""The picture of Figure 2: errors over the seeds, and by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hesrl.paper.fig2_errors import METHODS, STAGES, Errors
from hesrl.runs.figures import new_figure, optimizer_color, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OPTIMIZERS = (
    "adahesscale", "adahesscalegn", "kfac", "adaggnmc", "adaggnmc", "adabl89", "adam",
    "adahessian", "adahessian",
)  # fmt: skip
_COLORS = dict(zip(METHODS, map(optimizer_color, _OPTIMIZERS), strict=True))
"""Those of the optimizers with the estimates; no optimizer has the exact GGN."""
_DASHED = ("GGN-MC1", "AdaHessian-MC1")
"""One sample instead of 50."""
_EXACT = 1e-10
"""Relative errors below it are rounding; they are left out of the plot by layer."""


def plot_errors(errors: Errors) -> Figure:
    """Draw (a) errors divided by HesScale's over the seeds, (b) errors by layer."""
    figure = new_figure(12, 9)
    axes = figure.subplots(2, 2, sharey="row")
    for column, (stage, when) in enumerate(STAGES.items()):
        _boxes(axes[0, column], errors, stage)
        _layers(axes[1, column], errors, stage)
        axes[0, column].set_title(when, fontsize=14, loc="left")
    axes[0, 0].set_ylabel("error / HesScale's error", fontsize=12)
    axes[1, 0].set_ylabel("error / norm of exact diagonal", fontsize=12)
    axes[1, 1].legend(
        frameon=False,
        fontsize=10,
        title="no point: exact",
        loc="center left",
        bbox_to_anchor=(1, 0.5),
    )
    for ax in axes.flat:
        ax.set_yscale("log")
        style_axes(ax)
    return figure


def _boxes(ax: Axes, errors: Errors, stage: str) -> None:
    ratios = [errors.ratios(stage, method) for method in METHODS]
    boxes = ax.boxplot(
        ratios,
        patch_artist=True,
        widths=0.6,
        showfliers=False,
        medianprops={"color": "black"},
    )
    for patch, color in zip(boxes["boxes"], _COLORS.values(), strict=True):
        patch.set(facecolor=color, alpha=0.45, edgecolor=color)
    for place, (values, color) in enumerate(zip(ratios, _COLORS.values(), strict=True), start=1):
        # The seeds side by side, in their order, so that none hides another.
        across = [place - 0.25 + 0.5 * (i + 0.5) / len(values) for i in range(len(values))]
        ax.plot(across, values, ".", color=color, markersize=4)
    ax.axhline(1, color="0.4", linewidth=1, linestyle="--")
    ax.set_xticks(range(1, len(METHODS) + 1), METHODS, rotation=35, ha="right")


def _layers(ax: Axes, errors: Errors, stage: str) -> None:
    for method, color in _COLORS.items():
        relative = errors.relative(stage, method)
        points = [(i, value) for i, value in enumerate(relative, start=1) if value > _EXACT]
        dashes = "o--" if method in _DASHED else "o-"
        ax.plot(*zip(*points, strict=True), dashes, color=color, markersize=5, label=method)
    names = [f"layer {i}" for i in range(1, errors.layers)] + ["output layer"]
    ax.set_xticks(range(1, errors.layers + 1), names)
