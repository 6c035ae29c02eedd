"""Figure 4: accuracy on CIFAR-100 against epochs and seconds, at the best step sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hesrl.experiments.reports.statistics import mean_interval
from hesrl.measuring.report import Claim, Report
from hesrl.measuring.tables import markdown_table, mean_cell
from hesrl.paper.cifar_runs import CifarArgs, Runs, describe, make_page
from hesrl.paper.verdicts import Array, all_of, difference
from hesrl.runs.figures import legend_below, new_figure, optimizer_color, style_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HESSIAN, BL89, OURS_GN = "adahessian", "adabl89", "adahesscalegn"
ABOVE_GN = {"3c3d": (), "all-cnn-c": ("adahesscale",)}
"""Which optimizers AdaHesScaleGN is not said to be above."""


@dataclass
class Args(CifarArgs):
    """Train two networks on CIFAR-100 by several optimizers (Figure 4 of the paper)."""

    out: Path = Path("results/paper/fig4")
    """where figure, data and report go"""


def main(args: Args) -> int:
    """Make the runs that are missing and write the report.

    Raises:
        UserError: A setting is impossible, or the archive or a folder cannot be used.
    """
    return make_page(args, partial(_report, args), _plot)


def _report(args: Args, runs: Runs) -> Report:
    return Report(
        "fig4",
        "Figure 4: CIFAR-100 against epochs and seconds",
        "Test accuracy at the step size with the best validation accuracy; means with 95 % "
        f"intervals over the seeds. {describe(args)}",
        list(find_claims(runs)),
        [_table(runs)],
    )


def _best(runs: Runs, network: str, column: str) -> dict[str, Array]:
    """Return a column at the end of the best runs (N,) of each optimizer."""
    rates = {name: runs.best_rate(network, name) for name in runs.optimizers}
    return {
        name: runs.at_end(network, name, rate, column)
        for name, rate in rates.items()
        if rate is not None
    }


def find_claims(runs: Runs) -> Iterator[Claim]:
    """Yield what the paper says about the figure, and whether it is so."""
    for network in runs.networks:
        found = _best(runs, network, "test_accuracy")
        if HESSIAN in found:
            others = [name for name in found if name not in (HESSIAN, BL89)]
            yield _above(
                f"{network}: AdaHessian is worse than all others but BL89",
                {name: (found[name], found[HESSIAN]) for name in others},
            )
        if OURS_GN in found:
            others = [n for n in found if n != OURS_GN and n not in ABOVE_GN[network]]
            text = "all others but AdaHesScale" if ABOVE_GN[network] else "all others"
            yield _above(
                f"{network}: AdaHesScaleGN is better than {text}",
                {name: (found[OURS_GN], found[name]) for name in others},
            )
        times = _best(runs, network, "seconds")
        if HESSIAN in times:
            yield Claim(
                f"{network}: AdaHessian takes the most time",
                max(times, key=lambda name: times[name].mean()) == HESSIAN,
                ", ".join(f"{name} {seconds.mean():,.0f} s" for name, seconds in times.items()),
            )


def _above(text: str, pairs: dict[str, tuple[Array, Array]]) -> Claim:
    gains = {name: difference(*pair) for name, pair in pairs.items()}
    numbers = (f"{name} {gain.text('+.1%')}" for name, gain in gains.items())
    return Claim(text, all_of(gain.is_above() for gain in gains.values()), "; ".join(numbers))


def _table(runs: Runs) -> str:
    rows = []
    for network in runs.networks:
        for name in runs.optimizers:
            rate = runs.best_rate(network, name)
            cells = ["–", "–", "–"]
            if rate is not None:
                end = {c: runs.at_end(network, name, rate, c) for c in ("test_accuracy", "seconds")}
                percent = (100 * end["test_accuracy"]).tolist()
                cells = [f"{rate:g}", mean_cell(percent, ".1f"), f"{end['seconds'].mean():,.1f}"]
            rows.append([network, name, *cells])
    header = ["network", "optimizer", "step size", "test accuracy (%)", "seconds"]
    return markdown_table(header, rows, names=2)


def _plot(runs: Runs) -> Figure:
    """Draw a row for each network: against epochs, and against seconds of training."""
    figure = new_figure(11, 4 * len(runs.networks) + 0.5)
    panels = figure.subplots(len(runs.networks), 2, sharey="row", squeeze=False)
    for network, (by_epoch, by_second) in zip(runs.networks, panels, strict=True):
        for name in runs.optimizers:
            rate = runs.best_rate(network, name)
            if rate is None:
                continue
            curve = mean_interval(100 * runs.curves(network, name, rate, "test_accuracy"))
            seconds = runs.curves(network, name, rate, "seconds").mean(0)
            color = optimizer_color(name)
            for ax, x in ((by_epoch, range(1, len(seconds) + 1)), (by_second, seconds)):
                ax.plot(x, curve.value, color=color, linewidth=1.6, label=name)
                ax.fill_between(x, curve.low, curve.high, color=color, alpha=0.18, linewidth=0)
        by_epoch.set_title(network, fontsize=13, loc="left")
        by_epoch.set_ylabel("test accuracy (%)", fontsize=11)
        by_epoch.set_xlabel("epochs", fontsize=11)
        by_second.set_xlabel("seconds of training", fontsize=11)
        style_axes(by_epoch)
        style_axes(by_second)
    legend_below(figure, panels[0, 0], columns=4)
    return figure
