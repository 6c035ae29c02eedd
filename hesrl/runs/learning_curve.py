"""The learning curve of one run as a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hesrl.runs.directory import RunDirectory
from hesrl.runs.figures import label_steps, new_figure, optimizer_color, style_axes, write_figure
from hesrl.runs.metrics import read_metric

WINDOW = 20
EVALUATION_COLOR = "#d1495b"


def plot_learning_curve(run: RunDirectory, title: str) -> None:
    """Draw ``learning_curve.png``: episode returns, their running mean and evaluation returns.

    Reads ``charts/episodic_return`` and, if there, ``eval/episodic_return`` from ``metrics.csv``.
    Leaves matplotlib's global settings and backend alone.

    Args:
        run: The run, locked by this process.
        title: Text above the plot.

    Raises:
        UserError: ``metrics.csv`` is missing or foreign, or the directory is not writable.
    """
    steps, returns = read_metric(run, "charts/episodic_return")
    eval_steps, eval_returns = read_metric(run, "eval/episodic_return")

    color = optimizer_color(run.settings["optimizer"])
    figure = new_figure(8, 5, dpi=150)
    axes = figure.add_subplot()
    axes.plot(steps, returns, ".", color=color, alpha=0.25, markersize=5, label="one episode")
    axes.plot(
        *mean_by_step(steps, returns, WINDOW),
        color=color,
        linewidth=2,
        label=f"mean of the last {WINDOW} episodes",
    )
    if eval_steps.size:
        axes.plot(
            *_mean_by_step(eval_steps, eval_returns),
            "D",
            color=EVALUATION_COLOR,
            markersize=8,
            clip_on=False,
            label="evaluation (mean)",
        )
    if steps.size or eval_steps.size:
        axes.legend(frameon=False, fontsize=11)
    else:
        axes.text(0.5, 0.5, "no episode has ended", ha="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=14, loc="left")
    axes.set_ylabel("episode return (sum of rewards)", fontsize=12)
    axes.tick_params(labelsize=11)
    label_steps(axes)
    style_axes(axes, grid="both")
    write_figure(run.learning_curve, figure)


def mean_by_step(
    steps: NDArray[np.int64], values: NDArray[np.float64], window: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the running mean at each step, after all that ended there: no vertical bars.

    Args:
        steps: Shape (n,), ascending; several environments may end an episode at one step.
        values: Shape (n,).
        window: Number of values to average.

    Returns:
        The different steps and the means there.
    """
    last = np.append(steps[1:] != steps[:-1], True)[: steps.size]
    return steps[last], running_mean(values, window)[last]


def running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean of the last ``window`` values, or of all so far where there are fewer.

    Args:
        values: Shape (n,).
        window: Number of values to average.

    Returns:
        Shape (n,).
    """
    total = np.concatenate([[0.0], np.cumsum(values)])
    last = np.arange(1, values.size + 1)
    first = np.maximum(last - window, 0)
    mean: NDArray[np.float64] = (total[last] - total[first]) / (last - first)
    return mean


def _mean_by_step(
    steps: NDArray[np.int64], values: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    unique, group = np.unique(steps, return_inverse=True)
    return unique, np.bincount(group, weights=values) / np.bincount(group)
