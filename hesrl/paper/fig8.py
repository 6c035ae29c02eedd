"""Figure 8: the time of one update against the number of outputs and of layers.

An update is forward, backward with the second order, and the optimizer's step: eager, or in one
compiled call. The optimizers take turns in one process, so that a change of the machine's speed
meets all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from hesrl.errors import UserError
from hesrl.measuring.collect import collect
from hesrl.measuring.networks import dense_network
from hesrl.measuring.report import Claim, Report, write_report
from hesrl.measuring.tables import markdown_table
from hesrl.measuring.updates import eager_update
from hesrl.paper.fig8_plot import plot_times
from hesrl.paper.fig8_times import BASELINE, PAPER_RATIOS, PARTS, Row, Times
from hesrl.paper.training import unbounded
from hesrl.runs.machine import describe_machine
from hesrl.settings import Scale, require_between
from hesrl.train_step import TrainStep

_LEARNING_RATE = 1e-4
_TURN = 5
"""Updates that an optimizer makes before the next has its turn."""

OPTIMIZERS = {
    "torch-adam": BASELINE,
    "adam": "hesrl Adam",
    "adahesscalegn": "AdaHesScaleGN",
    "adahesscale": "AdaHesScale",
    "adabl89": "AdaBL89",
    "adaggnmc": "AdaGGNMC",
    "adahessian": "AdaHessian",
    "adam-compiled": "hesrl Adam, compiled",
    "adahesscale-compiled": "AdaHesScale, compiled",
}
"""Names on the command line and in the figure; the first is torch's, the others are hesrl's."""


@dataclass
class Args:
    """Measure the time of an update against outputs and layers (Figure 8 of the paper)."""

    SCALES: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {
            "outputs": (2, 4),
            "layers": (1, 2),
            "width": 8,
            "optimizers": ("torch-adam", "adahesscalegn", "adahesscale", "adahessian"),
            "updates": 6,
        },
        "small": {"outputs": (64, 256, 1024), "layers": (1, 4, 16)},
    }

    scale: Scale = "paper"
    """smoke (seconds), small (minutes) or paper (all sizes); it stands for what is not given"""
    outputs: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096)
    """numbers of outputs of the network 64–512–outputs"""
    layers: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """numbers of hidden layers of the network 64–512×layers–100"""
    width: int = 512
    """units of each hidden layer"""
    optimizers: tuple[str, ...] = tuple(OPTIMIZERS)
    """optimizers by name, beside torch's Adam"""
    batch_size: int = 32
    """samples in an update"""
    updates: int = 30
    """timed updates of each optimizer and size, in turns of 5"""
    threads: int = 1
    """threads of torch"""
    flush_denormal: bool = False
    """take numbers below 1e-38 for zero, which many processors are slow with"""
    out: Path = Path("results/paper/fig8")
    """where figure, data and report go; finished sizes in it are not measured again"""


def main(args: Args) -> int:
    """Measure the sizes that are missing and write the report.

    Raises:
        UserError: A setting is impossible, or the folder cannot be used.
    """
    _check(args)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(args.flush_denormal)
    sizes = [f"outputs-{k}" for k in args.outputs] + [f"layers-{k}" for k in args.layers]
    identity = {
        "width": args.width,
        "optimizers": sorted(args.optimizers),
        "batch_size": args.batch_size,
        "updates": args.updates,
        "flush_denormal": args.flush_denormal,
        "machine": describe_machine(),
    }
    collected = collect(partial(measure, args), sizes, Row, args.out, identity)
    times = Times(collected.rows)
    report = Report(
        "fig8",
        "Figure 8: time of an update",
        f"Forward, backward with the second order, and step: mean of {args.updates} updates after "
        "a warm-up, the optimizers taking turns, and its ratio to torch's Adam in the same run. "
        f"Cross-entropy, batches of {args.batch_size}; (a) 64–{args.width}–K with K outputs, (b) "
        f"64–{args.width}×L–100 with L hidden layers, all tanh; {args.threads} thread(s). Eager, "
        "but for the two that are marked, which take the whole update in one compiled call "
        "(`hesrl.train_step`). The paper gives neither its batch size nor its K and L. 5/3 is the "
        "bound from counting products: HesScale adds two to the three of forward and backward. In "
        "deep networks h² of the first layers falls below the smallest normal number of float32, "
        "with which many processors are slow: --flush-denormal takes it for zero.",
        list(find_claims(times)),
        [_table(times, part) for part in PARTS],
    )
    write_report(report, args, collected, plot_times(times))
    return 0


def _check(args: Args) -> None:
    require_between(args, "width batch_size threads", 1, float("inf"))
    require_between(args, "updates", 2, float("inf"))
    for name, sizes in (("--outputs", args.outputs), ("--layers", args.layers)):
        if len(set(sizes)) < 2 or len(set(sizes)) < len(sizes) or min(sizes) < 1:
            raise UserError(f"{name} must be two or more different numbers of at least 1")
    unknown = set(args.optimizers) - set(OPTIMIZERS)
    if unknown or "torch-adam" not in args.optimizers:
        raise UserError(f"--optimizers must be torch-adam and others of {', '.join(OPTIMIZERS)}")


def measure(args: Args, size: str) -> list[Row]:
    """Return the times of all optimizers for ``"outputs-K"`` or ``"layers-L"``."""
    part, number = size.split("-")
    outputs, layers = (int(number), 1) if part == "outputs" else (100, int(number))
    updates = {}
    for name in args.optimizers:
        torch.manual_seed(0)
        model = dense_network([64, *[args.width] * layers, outputs])
        x = torch.randn(args.batch_size, 64)
        target = torch.randint(outputs, (args.batch_size,))
        updates[name] = update_with(name, model, x, target)
    seconds: dict[str, list[float]] = {name: [] for name in updates}
    for done in range(0, args.updates, _TURN):
        for name, update in updates.items():
            # The first update of a turn, too, finds the caches full of another model.
            update()
            for _ in range(min(_TURN, args.updates - done)):
                start = time.perf_counter()
                update()
                seconds[name].append(time.perf_counter() - start)
    parameters = sum(p.numel() for p in model.parameters())
    baseline = fmean(seconds["torch-adam"])
    rows = []
    for name, values in seconds.items():
        mean, error = fmean(values), stdev(values) / len(values) ** 0.5
        numbers = (round(x, 4) for x in (1e3 * mean, 1e3 * error, mean / baseline))
        rows.append(Row(part, int(number), parameters, OPTIMIZERS[name], *numbers))
    return rows


def update_with(
    name: str, model: nn.Module, x: torch.Tensor, target: torch.Tensor
) -> Callable[[], object]:
    """Return a function that makes one update of a model.

    Args:
        name: One of `OPTIMIZERS`.
        model: From inputs to logits.
        x: Inputs (N, …).
        target: Their classes (N,).

    Raises:
        UserError: It is a compiled one, and it could not be compiled.
    """

    def loss() -> torch.Tensor:
        return F.cross_entropy(model(x), target)

    if name == "torch-adam":
        adam = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE)
        return eager_update(adam, loss)
    optimizer = unbounded(name.removesuffix("-compiled"))(model.parameters(), lr=_LEARNING_RATE)
    if not name.endswith("-compiled"):
        return eager_update(optimizer, loss)
    step = TrainStep(
        lambda x, target: (F.cross_entropy(model(x), target), ()),
        optimizer,
        compile="on",
        report=_refuse_eager,
    )
    everything = torch.arange(len(x))

    def compiled_update() -> None:
        step((x, target), everything)

    compiled_update()  # the first step of an optimizer is eager
    return compiled_update


def _refuse_eager(line: str) -> None:
    raise UserError(f"{line}; leave names that end in -compiled out of --optimizers")


def find_claims(times: Times) -> Iterator[Claim]:
    """Yield what the paper says about Figure 8, and whether it is so."""
    for name, paper in PAPER_RATIOS.items():
        if ratios := times.ratios(name):
            mean = fmean(ratios)
            word = "cheaper" if mean < paper else "dearer"
            yield Claim(
                f"{name} costs {paper:g} times as much as Adam on average",
                abs(mean / paper - 1) <= 0.15,
                f"{mean:.2f} times torch's Adam ({min(ratios):.2f} to {max(ratios):.2f}), {word} "
                "than the paper's (15 % allowed)",
            )
    for name in ("AdaHesScale", "AdaHesScaleGN"):
        if growth := [times.exponent(part, name) for part in PARTS if times.ratios(name)]:
            yield Claim(
                f"the cost of {name} is linear in the number of parameters",
                max(growth) <= 1.25,
                "between the two largest networks the time grows as the number of parameters to "
                f"the power of {growth[0]:.2f} (outputs) and {growth[1]:.2f} (layers); at most "
                f"1.25 allowed; torch's Adam: {times.exponent('outputs', BASELINE):.2f} and "
                f"{times.exponent('layers', BASELINE):.2f}",
            )


def _table(times: Times, part: str) -> str:
    names = times.optimizers
    rows = []
    for size in times.sizes(part):
        found = [times.row(part, size, name) for name in names]
        cells = [f"{row.milliseconds:.2f} ms ({row.ratio:.2f})" for row in found]
        rows.append([f"{size} ({found[0].parameters:,})", *cells])
    return markdown_table([f"{PARTS[part]} (parameters)", *names], rows)
