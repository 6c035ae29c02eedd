"""Mean return of a run against its step size, with and without scaled steps (Figures 6, 11–13).

Each environment is normalized over its optimizers, so that the lowest mean is 0 and the highest 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from hesrl.experiments.reports.statistics import mean_interval
from hesrl.measuring.report import Claim
from hesrl.measuring.tables import markdown_table
from hesrl.paper.rl_command import Kind, Page, Point, points
from hesrl.paper.rl_results import Array, Results, Task
from hesrl.paper.verdicts import difference
from hesrl.runs.figures import legend_below, line_styles, new_figure, style_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ADAM = "adam"
NOT_HELPED = ("Humanoid-v5",)
"""Where scaling is said not to help."""


def draw(results: Results) -> Page:
    """Return the page of runs that have finished."""
    normalized = {task: normalize(results, task) for task in results.tasks}
    return Page(
        "Mean return of the training episodes of whole runs, as in the authors' code, against the "
        "step size; means with 95 % intervals over the seeds. In each environment 0 is the lowest "
        "and 1 the highest mean of any optimizer and step size. The spread of an optimizer is the "
        "difference between its best and its worst step size, computed for each seed.",
        list(find_claims(normalized)),
        [_table(results, normalized)],
        list(_points(results, normalized)),
        _plot(results, normalized),
    )


def normalize(results: Results, task: Task) -> dict[str, Array]:
    """Return the normalized returns (L, N) of each optimizer's step sizes and seeds."""
    areas = {name: results.areas(task, name) for name in results.optimizers}
    areas = {name: values for name, values in areas.items() if values.size}
    means = np.concatenate([values.mean(1) for values in areas.values()] or [np.zeros(1)])
    low, high = means.min(), means.max()
    return {name: (values - low) / ((high - low) or 1.0) for name, values in areas.items()}


def spread(values: Array) -> Array:
    """Return the difference between the best and the worst step size (L, N) of each seed (N,)."""
    return np.asarray(values.max(0) - values.min(0))


def find_claims(normalized: dict[Task, dict[str, Array]]) -> Iterator[Claim]:
    """Yield what the paper says about step sizes, and whether it is so."""
    for task, values in normalized.items():
        others = [name for name in values if name != ADAM and ADAM in values]
        for name in others:
            gain = difference(spread(values[ADAM]), spread(values[name]))
            less = gain.is_above()
            helps = task.env_id not in NOT_HELPED
            yield Claim(
                f"{task.label}: {name} depends less on the step size than Adam"
                if helps
                else f"{task.label}: {name} does not help against the step size",
                less if helps or less is None else not less,
                f"spreads {np.mean(spread(values[name])):.2f} and "
                f"{np.mean(spread(values[ADAM])):.2f}, {gain.text('+.2f')} less",
            )


def _table(results: Results, normalized: dict[Task, dict[str, Array]]) -> str:
    rates = sorted({r for t in results.tasks for o in results.optimizers
                    for r in results.step_sizes(t, o)})  # fmt: skip
    rows = []
    for task, by_optimizer in normalized.items():
        for name, values in by_optimizer.items():
            means = dict(zip(results.step_sizes(task, name), values.mean(1), strict=True))
            cells = [f"{means[rate]:.2f}" if rate in means else "" for rate in rates]
            rows.append([task.label, name, *cells, f"{np.mean(spread(values)):.2f}"])
    header = ["task", "optimizer", *(f"{rate:g}" for rate in rates), "spread"]
    return "Normalized means.\n\n" + markdown_table(header, rows, names=2)


def _points(results: Results, normalized: dict[Task, dict[str, Array]]) -> Iterator[Point]:
    for task, by_optimizer in normalized.items():
        for name, values in by_optimizer.items():
            rates, curve = results.step_sizes(task, name), mean_interval(values.T)
            yield from points(task, name, "reported", rates, curve, digits=4)


def _plot(results: Results, normalized: dict[Task, dict[str, Array]]) -> Figure:
    """Draw a panel for each task."""
    columns = min(4, len(normalized))
    lines = -(-len(normalized) // columns)
    figure = new_figure(3.6 * columns, 3 * lines + 0.5)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    styles = line_styles((name, name) for name in results.optimizers)
    for ax, (task, by_optimizer) in zip(panels.flat, normalized.items(), strict=False):
        for name, values in by_optimizer.items():
            style, rates = styles[name, name], results.step_sizes(task, name)
            curve = mean_interval(values.T)
            ax.plot(rates, curve.value, marker="o", markersize=3, label=name, **style)
            ax.fill_between(
                rates, curve.low, curve.high, color=style["color"], alpha=0.18, linewidth=0
            )
        ax.set_xscale("log")
        ax.set_ylim(-0.1, 1.2)
        ax.set_title(task.label, fontsize=12, loc="left")
        ax.set_xlabel("step size", fontsize=10)
        style_axes(ax)
    for ax in panels.flat[len(normalized) :]:
        ax.set_visible(False)
    for row in panels:
        row[0].set_ylabel("normalized return", fontsize=10)
    legend_below(figure, panels[0, 0], columns=4)
    return figure


STEP_SIZES = Kind("sensitivity", "return against step size", draw)
