"""Time and peak memory of AdaHesScale beside torch's Adam on twenty architectures.

The time is the processor's, as in `hesrl.bench.update`: both take turns, and the ratio is the
median over the rounds. The memory is what PyTorch allocates, counted byte by byte: how far it rises
in three updates above that of model and data, with gradients and the optimizer's state in it.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from hesrl.bench.model_zoo import MODELS
from hesrl.bench.update import BASELINE, Update, measure, step_with
from hesrl.errors import UserError
from hesrl.optim import AdaHesScale
from hesrl.rl.threads import limit_threads
from hesrl.runs.machine import describe_machine

CONTENDER = "AdaHesScale"
_LEARNING_RATE = 1e-7
"""So small that networks keep the numbers that they start with: what is measured is time."""
CONTENDERS = {
    BASELINE: step_with(lambda params: torch.optim.Adam(params, lr=_LEARNING_RATE)),
    CONTENDER: step_with(lambda params: AdaHesScale(params, lr=_LEARNING_RATE)),
}


@dataclass
class Args:
    """Measure time and peak memory of an update on twenty architectures beside torch's Adam."""

    models: tuple[str, ...] = tuple(MODELS)
    """which architectures"""
    rounds: int = 9
    """turns of each optimizer"""
    csv: Path | None = None
    """file to write the table to"""


@dataclass(frozen=True)
class Result:
    """What was measured on one model."""

    model: str
    milliseconds: float
    """An update with torch's Adam."""
    time_ratio: float
    mebibytes: float
    """The peak with torch's Adam."""
    memory_ratio: float


def peak_allocation(update: Update) -> int:
    """Return the largest number of bytes that three updates hold at once beyond those before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for _ in range(3):
            update()
    results = profiler.profiler
    assert results is not None and results.kineto_results is not None
    held = peak = 0
    for event in sorted(results.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def make_update(model: str, optimizer: str) -> Update:
    """Return the update of a model with fresh weights by one of `CONTENDERS`."""
    torch.manual_seed(0)
    return CONTENDERS[optimizer](*MODELS[model]())


def compare(model: str, rounds: int) -> Result:
    """Measure one model."""
    names = BASELINE, CONTENDER
    base_peak, peak = (peak_allocation(make_update(model, name)) for name in names)
    updates = [make_update(model, name) for name in names]
    for update in updates:
        measure(update)
    turns = [[measure(update) for update in updates] for _ in range(rounds)]
    base_times = [base for base, _ in turns]
    return Result(
        model,
        1e3 * median(base_times),
        median(ours / base for base, ours in turns),
        base_peak / (1 << 20),
        peak / base_peak,
    )


def main(args: Args) -> int:
    """Measure, print the table, write it to a file if asked to, and return the exit status.

    Raises:
        UserError: A setting is impossible.
    """
    unknown = [model for model in args.models if model not in MODELS]
    if unknown or not args.models or args.rounds < 1:
        raise UserError(f"--models must be among {', '.join(MODELS)} and --rounds at least 1")
    limit_threads(1)
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler reports its starts otherwise
    console = Console()
    console.print(describe_machine(), highlight=False)
    results = []
    for model in args.models:
        results.append(compare(model, args.rounds))
        if args.csv is not None:
            _write(args.csv, results)
    console.print(_table(results))
    return 0


def _write(path: Path, results: Sequence[Result]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("model", "adam_ms", "time_ratio", "adam_mib", "memory_ratio"))
        for r in results:
            numbers = (r.milliseconds, r.time_ratio, r.mebibytes, r.memory_ratio)
            rows.writerow((r.model, *(f"{number:.3f}" for number in numbers)))


def _table(results: Sequence[Result]) -> Table:
    table = Table(title=f"{CONTENDER} beside {BASELINE}")
    for column in ("model", "Adam ms", "time", "Adam MiB", "memory"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for r in results:
        table.add_row(
            r.model,
            f"{r.milliseconds:.1f}",
            f"{r.time_ratio:.2f}",
            f"{r.mebibytes:.1f}",
            f"{r.memory_ratio:.2f}",
        )
    time, memory = (
        median(getattr(r, name) for r in results) for name in ("time_ratio", "memory_ratio")
    )
    table.add_section()
    table.add_row("median", "", f"{time:.2f}", "", f"{memory:.2f}")
    return table
