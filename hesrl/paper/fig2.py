"""Figure 2: the error of nine estimates of the Hessian diagonal, on a classifier of digits.

The error of an estimate is its L1 distance from the exact diagonal of one example's loss, summed
over the layers and averaged over the examples; the figure divides it by HesScale's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hesrl.curvature import hess_diag
from hesrl.curvature.estimators.preactivation import preactivation_hessians
from hesrl.measuring.collect import collect
from hesrl.measuring.report import Claim, Report, write_report
from hesrl.measuring.tables import markdown_table
from hesrl.paper.fig2_errors import EXACT, GN_TO_GGN, METHODS, OTHERS, STAGES, Errors, Row
from hesrl.paper.fig2_plot import plot_errors
from hesrl.paper.training import Stage, TrainingArgs, train


@dataclass
class Args(TrainingArgs):
    """Measure the errors of nine estimates of the Hessian diagonal (Figure 2 of the paper)."""

    out: Path = Path("results/paper/fig2")
    """where figure, data and report go; finished seeds in it are not computed again"""


def main(args: Args) -> int:
    """Compute the seeds that are missing and write the report.

    Raises:
        UserError: A setting is impossible, or the folder cannot be used.
    """
    args.check()
    torch.set_num_threads(1)
    seeds = range(1, args.seeds + 1)
    collected = collect(partial(measure, args), seeds, Row, args.out, args.identity(), args.jobs)
    errors = Errors(collected.rows)
    accuracies = ", ".join(f"{errors.accuracy(stage):.1%} {STAGES[stage]}" for stage in STAGES)
    report = Report(
        "fig2",
        "Figure 2: how far estimates are from the Hessian diagonal",
        "L1 distance from the exact Hessian diagonal of one example's loss, summed over weights "
        "and biases of all layers, averaged over the examples, divided by HesScale's. "
        f"{args.describe()}. Accuracy on all images: {accuracies}. The paper does not give the "
        "step size.",
        list(find_claims(errors)),
        [_ratio_table(errors), _layer_table(errors)],
    )
    write_report(report, args, collected, plot_errors(errors))
    return 0


def measure(args: Args, seed: int) -> list[Row]:
    """Return the errors of one seed, before and after training."""
    rows = []
    for stage in train(args, seed):
        for method, layers in _errors(stage).items():
            for layer, error in enumerate(layers.tolist(), start=1):
                rounded = float(f"{error:.6g}")
                rows.append(Row(seed, stage.name, stage.accuracy, method, layer, rounded))
    return rows


def _errors(stage: Stage) -> dict[str, Tensor]:
    """Return each method's L1 distance by layer, averaged over the examples."""
    params = list(stage.model.parameters())
    exact = exact_diagonals(stage)
    layers = len(params) // 2
    sums = {method: torch.zeros(layers) for method in (*METHODS, EXACT, GN_TO_GGN)}
    for n, target in enumerate(stage.targets):
        loss = F.cross_entropy(stage.model(stage.inputs[n : n + 1]), target.unsqueeze(0))
        truth = [diagonal for h, a in exact for diagonal in (h[n].outer(a[n].square()), h[n])]
        found = {
            name: hess_diag(loss, params, method, samples=samples)
            for name, (method, samples) in METHODS.items()
        }
        for method, estimate in found.items():
            sums[method] += _distance(estimate, truth)
        sums[EXACT] += _distance(truth, [torch.zeros_like(p) for p in params])
        sums[GN_TO_GGN] += _distance(found["HesScaleGN"], found["GGN"])
    return {method: total / len(stage.targets) for method, total in sums.items()}


def _distance(left: list[Tensor], right: list[Tensor]) -> Tensor:
    """Return the L1 distance of each layer, whose weight and bias follow each other."""
    parts = [(x - y).abs().sum() for x, y in zip(left, right, strict=True)]
    return torch.stack(parts).view(-1, 2).sum(1)


def exact_diagonals(stage: Stage) -> list[tuple[Tensor, Tensor]]:
    """Return ``diag H(z)`` (E, O) and the input a (E, I) of every layer, for all examples at once.

    The exact diagonal of an example is ``diag H(z) ⊗ a²`` for the weight and ``diag H(z)`` for the
    bias.
    """
    inputs, a = [], stage.inputs
    for module in stage.model:
        if isinstance(module, nn.Linear):
            inputs.append(a.detach())
        a = module(a)
    hessians = preactivation_hessians(
        stage.model,
        lambda: F.cross_entropy(stage.model(stage.inputs), stage.targets, reduction="sum"),
    )
    diagonals = [hessian.diagonal(dim1=1, dim2=2) for hessian in hessians.values()]
    return list(zip(diagonals, inputs, strict=True))


def find_claims(errors: Errors) -> Iterator[Claim]:
    """Yield what the paper says about Figure 2, and whether it is so."""
    hutchinson = ["AdaHessian-MC1", "AdaHessian-MC50"]
    rest = [method for method in OTHERS if method not in hutchinson]
    for stage, when in STAGES.items():
        above = {m: sum(ratio > 1 for ratio in errors.ratios(stage, m)) for m in OTHERS}
        fewest = min(OTHERS, key=lambda m: (above[m], median(errors.ratios(stage, m))))
        closest = min(OTHERS, key=lambda m: median(errors.ratios(stage, m)))
        yield Claim(
            f"HesScale has the smallest error of all ({when})",
            all(count == len(errors.seeds) for count in above.values()),
            f"next is {closest} with {_spread(errors.ratios(stage, closest))} times the error; "
            f"{fewest} is above 1 for {above[fewest]} of {len(errors.seeds)} seeds",
        )
    for stage, when in STAGES.items():
        ratios = errors.ratios(stage, "BL89")
        yield Claim(
            f"the exact last layer makes a large difference to BL89 ({when})",
            median(ratios) > 1.5,
            f"BL89 has {_spread(ratios)} times the error (large: 1.5)",
        )
    for stage, when in STAGES.items():
        layers = range(errors.layers - 1)
        by_layer = {method: errors.by_layer(stage, method) for method in METHODS}
        best = [min(by_layer[m][i] for m in OTHERS) / by_layer["HesScale"][i] for i in layers]
        yield Claim(
            f"HesScale has the smallest error in every layer, too ({when})",
            all(ratio > 1 for ratio in best),
            "the best of the others, by hidden layer: "
            + ", ".join(f"{ratio:.2f}" for ratio in best)
            + " times the error; exact at the output layer",
        )
    for stage, when in STAGES.items():
        middle = {m: median(errors.ratios(stage, m)) for m in OTHERS}
        worst = max(rest, key=lambda m: middle[m])
        once, often = (_short(middle[m]) for m in hutchinson)
        yield Claim(
            f"AdaHessian is far worse than all others, with 50 samples too ({when})",
            min(middle[m] for m in hutchinson) > 2 * middle[worst],
            f"{once} times HesScale's error, with 50 samples {often}; the worst of the others is "
            f"{worst} with {_short(middle[worst])} (far: twice that)",
        )
    for stage, when in STAGES.items():
        pairs = zip(errors.total(stage, GN_TO_GGN), errors.total(stage, "GGN"), strict=True)
        apart = median(distance / error for distance, error in pairs)
        ours, exact = (_short(median(errors.ratios(stage, m))) for m in ("HesScaleGN", "GGN"))
        yield Claim(
            f"HesScaleGN is close to the exact GGN diagonal ({when})",
            apart < 0.25,
            f"they are {apart:.2f} times as far from each other as GGN is from the Hessian (close: "
            f"below 0.25); their errors are {ours} and {exact} times HesScale's",
        )


def _spread(values: list[float]) -> str:
    return f"{_short(median(values))} ({_short(min(values))} to {_short(max(values))})"


def _ratio_table(errors: Errors) -> str:
    header = ["error / HesScale's: median (range) over the seeds", *STAGES.values()]
    rows = [
        [method, *(_spread(errors.ratios(stage, method)) for stage in STAGES)] for method in METHODS
    ]
    return markdown_table(header, rows)


def _layer_table(errors: Errors) -> str:
    """Return the errors relative to the norm of the exact diagonal."""
    columns = [(stage, layer) for stage in STAGES for layer in range(errors.layers)]
    header = [f"{stage}, layer {layer + 1}" for stage, layer in columns]
    rows = [
        [method, *(_short(errors.relative(stage, method)[layer]) for stage, layer in columns)]
        for method in METHODS
    ]
    return markdown_table(["error / L1 norm of the exact diagonal", *header], rows)


def _short(value: float) -> str:
    """Return a number with three digits, and what is rounding as 0."""
    return "0" if value < 1e-10 else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
