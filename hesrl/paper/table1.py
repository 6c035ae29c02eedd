"""Table 1: how diagonal the Hessians are that HesScale takes for diagonal.

The measure is ``‖diag M‖_F / ‖M‖_F`` of the Hessian of one example's loss with respect to a layer's
pre-activations: 1 for a diagonal matrix, and about ``1/√O`` for O × O random numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hesrl.curvature.estimators.preactivation import preactivation_hessians
from hesrl.measuring.collect import collect
from hesrl.measuring.report import Claim, Report, write_report
from hesrl.measuring.tables import markdown_table
from hesrl.paper.training import TrainingArgs, train
from hesrl.runs.figures import legend_below, new_figure, style_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = {"before": (0.94, 0.91, 0.89, 0.91), "after": (0.75, 0.54, 0.81, 0.98)}
"""The paper's table, for the hidden layers of a network on EMNIST."""

_COLORS = {"before": "#1f5fa8", "after": "#d1495b", "random": "0.5"}
_LABELS = {
    "before": "before training",
    "after": "after training",
    "random": "random Gaussian matrix",
}


@dataclass
class Args(TrainingArgs):
    """Measure how diagonal the pre-activation Hessians are (Table 1 of the paper)."""

    hidden_layers: int = 4
    """hidden layers"""
    out: Path = Path("results/paper/table1")
    """where figure, data and report go; finished seeds in it are not computed again"""


class Row(NamedTuple):
    """The mean over the examples for one layer."""

    seed: int
    matrix: str
    """``"before"`` or ``"after"`` training, or ``"random"`` for a matrix of that layer's size."""
    layer: int
    """From 1; the last is the output layer."""
    dominance: float


Table = dict[str, list[list[float]]]
"""The seeds' values of each layer, by matrix."""


def main(args: Args) -> int:
    """Compute the seeds that are missing and write the report.

    Raises:
        UserError: A setting is impossible, or the folder cannot be used.
    """
    args.check()
    torch.set_num_threads(1)
    seeds = range(1, args.seeds + 1)
    collected = collect(partial(measure, args), seeds, Row, args.out, args.identity(), args.jobs)
    table = tabulate(collected.rows)
    report = Report(
        "table1",
        "Table 1: how diagonal the pre-activation Hessians are",
        "‖diag M‖_F / ‖M‖_F of the Hessian of one example's loss with respect to the "
        "pre-activations of a layer, averaged over the examples; mean and standard deviation over "
        f"the seeds. {args.describe()}. The paper used EMNIST; it gives neither the step size nor "
        "the width, and no number for the output layer.",
        list(find_claims(table)),
        [_markdown(table)],
    )
    write_report(report, args, collected, _plot(table))
    return 0


def measure(args: Args, seed: int) -> list[Row]:
    """Return the values of one seed, before and after training, and of random matrices."""
    rows = []
    for stage in train(args, seed):
        hessians = preactivation_hessians(
            stage.model,
            lambda stage=stage: F.cross_entropy(  # type: ignore[misc]
                stage.model(stage.inputs), stage.targets, reduction="sum"
            ),
        )
        for layer, hessian in enumerate(hessians.values(), start=1):
            rows.append(Row(seed, stage.name, layer, diagonal_dominance(hessian)))
    for layer, hessian in enumerate(hessians.values(), start=1):
        rows.append(Row(seed, "random", layer, diagonal_dominance(torch.randn_like(hessian))))
    return rows


def diagonal_dominance(matrices: Tensor) -> float:
    """Return the mean of ``‖diag M‖_F / ‖M‖_F`` over matrices (N, O, O) that are not zero."""
    ratios = matrices.diagonal(dim1=1, dim2=2).norm(dim=1) / matrices.flatten(1).norm(dim=1)
    return float(f"{ratios.nanmean():.6g}")


def tabulate(rows: list[Row]) -> Table:
    """Return the values in order of the layers."""
    cells: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        cells[row.matrix][row.layer].append(row.dominance)
    return {matrix: [layers[i] for i in sorted(layers)] for matrix, layers in cells.items()}


def find_claims(table: Table) -> Iterator[Claim]:
    """Yield what the paper says about Table 1, and whether it is so."""
    chance = max(fmean(values) for values in table["random"][:-1])
    for matrix in PAPER:
        means = [fmean(values) for values in table[matrix][:-1]]
        yield Claim(
            f"the Hessians are diagonally dominant {_LABELS[matrix]}",
            min(means) > 0.5,
            f"{min(means):.2f} to {max(means):.2f} in the hidden layers (0.5 taken as the bound); "
            f"a random matrix has {chance:.2f}",
        )
        known = list(zip(PAPER[matrix], means, strict=False))
        off = max(abs(paper - mean) for paper, mean in known)
        yield Claim(
            f"the values {_LABELS[matrix]} are {_numbers([paper for paper, _ in known])}",
            off <= 0.05 and len(means) == len(PAPER[matrix]),
            f"{_numbers([mean for _, mean in known])}; at most {off:.2f} apart (0.05 allowed)",
        )


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def _markdown(table: Table) -> str:
    header = ["layer"]
    for matrix in PAPER:
        header += [f"paper, {_LABELS[matrix]}", f"here, {_LABELS[matrix]}"]
    rows = []
    for index, chance in enumerate(table["random"]):
        last = index == len(table["random"]) - 1
        row = ["output" if last else str(index + 1)]
        for matrix, paper in PAPER.items():
            row.append("" if last or index >= len(paper) else f"{paper[index]:.2f}")
            row.append(_mean_and_spread(table[matrix][index]))
        rows.append([*row, _mean_and_spread(chance)])
    return markdown_table([*header, _LABELS["random"]], rows)


def _mean_and_spread(values: list[float]) -> str:
    return f"{fmean(values):.3f} ± {pstdev(values):.3f}"


def _plot(table: Table) -> Figure:
    """Draw a point for each seed and layer, and the paper's numbers as bars across them."""
    figure = new_figure(9, 5)
    ax = figure.add_subplot()
    for shift, matrix in zip((-0.22, 0.0, 0.22), _COLORS, strict=True):
        for layer, values in enumerate(table[matrix], start=1):
            across = [
                layer + shift + 0.12 * ((i + 0.5) / len(values) - 0.5) for i in range(len(values))
            ]
            label = _LABELS[matrix] if layer == 1 else ""
            ax.plot(across, values, "o", color=_COLORS[matrix], markersize=4, label=label)
        for layer, value in enumerate(PAPER.get(matrix, ())[: len(table[matrix]) - 1], start=1):
            ax.hlines(
                value,
                layer + shift - 0.1,
                layer + shift + 0.1,
                color=_COLORS[matrix],
                linewidth=2.5,
                label=f"the paper, {_LABELS[matrix]}" if layer == 1 else "",
            )
    layers = len(table["random"])
    names = [f"layer {i}" for i in range(1, layers)] + ["output layer"]
    ax.set_xticks(range(1, layers + 1), names, fontsize=11)
    ax.set_ylim(0, 1.02)
    ax.set_ylabel("‖diag M‖ / ‖M‖", fontsize=12)
    ax.set_title(
        "Diagonal of the pre-activation Hessians, a point for each seed", fontsize=14, loc="left"
    )
    style_axes(ax)
    legend_below(figure, ax, columns=3)
    return figure
