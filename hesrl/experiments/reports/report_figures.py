"""The figures of a report; each names environments, seeds, steps and hesrl's version."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hesrl.experiments.reports.comparisons import (
    AGGREGATES,
    Comparison,
    learned,
    profiles,
    sensitivity,
)
from hesrl.experiments.reports.curves_plot import draw_curve, env_panels, limit_bands
from hesrl.experiments.reports.scores import Method, Scores
from hesrl.experiments.reports.statistics import Interval
from hesrl.runs.figures import (
    freeze_layout,
    label_steps,
    legend_outside,
    new_figure,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "linestyle": "none"}


def draw_figures(
    scores: Scores, several: Sequence[Comparison], caption: str
) -> dict[str, tuple[str, Figure]]:
    """Return what can be drawn: title and figure by the name of its files.

    Args:
        scores: The scores.
        several: The comparisons; curves are those of the first.
        caption: What every figure says at its top.
    """
    looks, first = scores.styles, several[0]
    drawn: dict[str, tuple[str, Figure | None]] = {
        "curves-steps": ("Learning curves, by environment steps", _curves(scores, first, looks)),
        "curves-seconds": (
            "Learning curves, by time of training",
            _curves(scores, first, looks, seconds=True),
        ),
        "aggregates": ("Normalized scores over all environments", _aggregates(several, looks)),
        "improvement": ("Probability of improvement", _improvement(several, looks)),
        "profiles": ("Performance profiles", _profiles(several, looks)),
        "step-size": ("Sensitivity to the step size", _step_sizes(scores, looks)),
    }
    figures = {}
    for name, (title, figure) in drawn.items():
        if figure is not None:
            _caption(figure, caption)
            freeze_layout(figure)
            figures[name] = title, figure
    return figures


def _caption(figure: Figure, caption: str) -> None:
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(caption, int(13 * width))
    figure.set_size_inches(width, height + 0.15 + 0.17 * len(lines))
    figure.suptitle("\n".join(lines), fontsize=9, x=0.01, ha="left", color="0.35")


def _curves(
    scores: Scores, comparison: Comparison, looks: Mapping[Method, Any], seconds: bool = False
) -> Figure | None:
    figure, panels = env_panels(scores.env_ids)
    seen = {}
    for method, choice in comparison.choices.items():
        for env_id, ax in panels.items():
            if (curve := learned(scores, choice[env_id], env_id)) is not None:
                x = curve.seconds / 60 if seconds else curve.steps
                draw_curve(ax, x, *curve.returns, looks[method])
                seen[method.label] = looks[method]
    if not seen:
        return None
    for ax in panels.values():
        limit_bands(ax)
        if seconds:
            ax.set_xlabel("minutes of training, mean of the seeds", fontsize=11)
            ax.set_xlim(left=0)
        else:
            label_steps(ax, fontsize=11)
    next(iter(panels.values())).set_ylabel("episode return", fontsize=11)
    legend_outside(figure, seen)
    return figure


def _aggregates(several: Sequence[Comparison], looks: Mapping[Method, Any]) -> Figure | None:
    methods = _methods(several)
    if not methods:
        return None
    figure = new_figure(2 + 2.5 * len(AGGREGATES), _height(methods, several))
    panels = figure.subplots(1, len(AGGREGATES), sharey=True)
    for number, comparison in enumerate(several):
        for ax, (name, found) in zip(panels, comparison.aggregates.items(), strict=True):
            _intervals(ax, found, methods, looks, number, len(several))
            ax.set_title(name, fontsize=12)
            less = name == "optimality gap"
            ax.set_xlabel(f"normalized, {'less' if less else 'more'} is better", fontsize=10)
    _name_rows(panels[0], methods)
    _name_choices(figure, several)
    return figure


def _improvement(several: Sequence[Comparison], looks: Mapping[Method, Any]) -> Figure | None:
    pairs = {m: other for c in several for m, (other, _) in c.improvements.items()}
    if not pairs:
        return None
    figure = new_figure(7.5, _height(pairs, several) + 0.3)
    ax = figure.add_subplot()
    for number, comparison in enumerate(several):
        found = {method: chance for method, (_, chance) in comparison.improvements.items()}
        _intervals(ax, found, list(pairs), looks, number, len(several))
    ax.axvline(0.5, color="0.4", linestyle=":", linewidth=1.3)
    ax.set_xlim(-0.02, 1.02)
    names = [f"{method.label} > {other.label}" for method, other in pairs.items()]
    ax.set_xlabel("probability that a run scores higher", fontsize=11)
    _name_rows(ax, list(pairs), names)
    _name_choices(figure, several)
    return figure


def _profiles(several: Sequence[Comparison], looks: Mapping[Method, Any]) -> Figure | None:
    several = [comparison for comparison in several if comparison.scores]
    if not several:
        return None
    figure = new_figure(1 + 4.8 * len(several), 3.7)
    panels = figure.subplots(1, len(several), sharey=True, squeeze=False)[0]
    for ax, comparison in zip(panels, several, strict=True):
        thresholds, found = profiles(comparison)
        for method, shares in found.items():
            draw_curve(ax, thresholds, *shares, looks[method])
        ax.set_title(comparison.title, fontsize=11, loc="left")
        ax.set_xlabel("normalized score τ", fontsize=11)
        ax.set_xlim(thresholds[0], thresholds[-1])
        style_axes(ax, grid="both")
    panels[0].set_ylabel("share of runs above τ", fontsize=11)
    legend_outside(figure, {method.label: looks[method] for method in _methods(several)})
    return figure


def _step_sizes(scores: Scores, looks: Mapping[Method, Any]) -> Figure | None:
    found = {
        (method, env_id): sizes
        for method in scores.methods
        for env_id in scores.env_ids
        if len(sizes := sensitivity(scores, method, env_id)) > 1
    }
    if not found:
        return None
    figure, panels = env_panels(scores.env_ids)
    every = sorted({size for sizes in found.values() for size in sizes})
    for (method, env_id), sizes in found.items():
        low, mean, high = np.array([(i.low, i.value, i.high) for i in sizes.values()]).T
        ax = panels[env_id]
        draw_curve(ax, list(sizes), mean, low, high, {**looks[method], "marker": "o"})
        best, at_best = max(sizes.items(), key=lambda item: item[1].value)
        ax.plot(best, at_best.value, "o", color=looks[method]["color"], markersize=11,
                fillstyle="none")  # fmt: skip
    for ax in panels.values():
        limit_bands(ax)
        # Ticks at the step sizes themselves; those of a logarithmic axis take a second to lay out.
        ax.set_xscale("log")
        ax.minorticks_off()
        ax.set_xticks(every, [f"{size:g}" for size in every])
        ax.set_xlabel("step size", fontsize=11)
    label = f"{scores.score} score, {scores.chosen_by} seeds"
    next(iter(panels.values())).set_ylabel(label, fontsize=11)
    legend_outside(figure, {m.label: looks[m] for m in looks if any(m == k for k, _ in found)})
    return figure


def _methods(several: Sequence[Comparison]) -> list[Method]:
    return list(dict.fromkeys(method for comparison in several for method in comparison.scores))


def _height(rows: Sequence[Any] | Mapping[Any, Any], several: Sequence[Any]) -> float:
    return 0.9 + (0.25 + 0.17 * len(several)) * len(rows)


def _intervals(
    ax: Axes, found: Mapping[Method, Interval], methods: Sequence[Method],
    looks: Mapping[Method, Any], number: int, count: int,
) -> None:  # fmt: skip
    """Draw an interval in the row of each method; those of the second comparison are hollow."""
    for method, (value, low, high) in found.items():
        y = methods.index(method) + 0.3 * (number - (count - 1) / 2)
        color = looks[method]["color"]
        ax.plot([low, high], [y, y], color=color, linewidth=3, alpha=0.45, solid_capstyle="butt")
        ax.plot(value, y, "o", color=color, markersize=7, **(HOLLOW if number else {}))


def _name_rows(ax: Axes, methods: Sequence[Method], names: Sequence[str] | None = None) -> None:
    ax.set_yticks(range(len(methods)), names or [method.label for method in methods], fontsize=11)
    ax.set_ylim(len(methods) - 0.4, -0.6)
    for panel in ax.figure.axes:
        style_axes(panel, grid="x")


def _name_choices(figure: Figure, several: Sequence[Comparison]) -> None:
    if len(several) > 1:
        looks = [{"marker": "o", "linestyle": "none"}, {"marker": "o", **HOLLOW}]
        names = [comparison.title for comparison in several]
        legend_outside(
            figure, {n: {"color": "0.35", **look} for n, look in zip(names, looks, strict=True)}
        )
