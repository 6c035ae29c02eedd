"""Figure 9: accuracy on CIFAR-100 against the step size of each optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hesrl.experiments.reports.statistics import mean_interval
from hesrl.measuring.report import Claim, Report
from hesrl.measuring.tables import markdown_table
from hesrl.paper.cifar_runs import CifarArgs, Runs, describe, make_page
from hesrl.runs.figures import legend_below, new_figure, optimizer_color, style_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Args(CifarArgs):
    """Train two networks on CIFAR-100 by many step sizes (Figure 9 of the paper)."""

    out: Path = Path("results/paper/fig9")
    """where figure, data and report go"""


def main(args: Args) -> int:
    """Make the runs that are missing and write the report.

    Raises:
        UserError: A setting is impossible, or the archive or a folder cannot be used.
    """
    return make_page(args, partial(_report, args), _plot)


def _report(args: Args, runs: Runs) -> Report:
    return Report(
        "fig9",
        "Figure 9: CIFAR-100 against step sizes",
        "Test accuracy after the last epoch against the step size; means with 95 % intervals over "
        "the seeds. A run that diverged counts as 0. The paper shows the sensitivity without a "
        f"claim on it; the one below is that its step sizes reach far enough. {describe(args)}",
        list(find_claims(runs)),
        [_table(runs)],
    )


def find_claims(runs: Runs) -> Iterator[Claim]:
    """Yield for each network whether the best step sizes lie inside of those that were tried."""
    for network in runs.networks:
        best = {name: runs.best_rate(network, name) for name in runs.optimizers}
        edges = [
            name
            for name, rate in best.items()
            if rate in (None, *(f(runs.rates(network, name)) for f in (min, max)))
        ]
        yield Claim(
            f"{network}: the best step size of each optimizer lies inside the grid",
            not edges,
            f"at an edge: {', '.join(edges)}" if edges else "none is at an edge",
        )


def _table(runs: Runs) -> str:
    rates = sorted({r for n in runs.networks for o in runs.optimizers for r in runs.rates(n, o)})
    rows = []
    for network in runs.networks:
        for name in runs.optimizers:
            cells = []
            for rate in rates:
                accuracy = 100 * runs.at_end(network, name, rate, "test_accuracy").mean()
                diverged = runs.diverged(network, name, rate)
                cells.append(f"{accuracy:.1f}" + (f" ({diverged} diverged)" if diverged else ""))
            rows.append([network, name, *cells])
    header = ["network", "optimizer", *(f"{rate:g}" for rate in rates)]
    return "Test accuracy (%).\n\n" + markdown_table(header, rows, names=2)


def _plot(runs: Runs) -> Figure:
    figure = new_figure(5.5 * len(runs.networks), 4.6)
    panels = figure.subplots(1, len(runs.networks), squeeze=False)[0]
    for network, ax in zip(runs.networks, panels, strict=True):
        for name in runs.optimizers:
            rates, color = runs.rates(network, name), optimizer_color(name)
            ends = [runs.at_end(network, name, rate, "test_accuracy") for rate in rates]
            curve = mean_interval(100 * np.array(ends).T)
            ax.plot(rates, curve.value, "o-", color=color, markersize=3, label=name)
            ax.fill_between(rates, curve.low, curve.high, color=color, alpha=0.18, linewidth=0)
        ax.set_xscale("log")
        ax.set_title(network, fontsize=13, loc="left")
        ax.set_xlabel("step size", fontsize=11)
        style_axes(ax)
    panels[0].set_ylabel("test accuracy (%)", fontsize=11)
    legend_below(figure, panels[0], columns=4)
    return figure
