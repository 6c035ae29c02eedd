"""Time and peak memory of AdaHesScale beside torch's Adam on twenty architectures.

The processor's time counts, as in `hesrl.bench.update`: both optimizers take turns, and the ratio
is the median over the rounds. The memory is counted byte by byte: the most that PyTorch allocates
during three updates beyond model and data, which includes gradients and the optimizer's state.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from rich.table import Table

from hesrl.bench.model_zoo import MODELS
from hesrl.bench.turns import begin, median_ratio, peak_allocation, processor_seconds, take_turns
from hesrl.bench.update import BASELINE, step_with
from hesrl.errors import UserError
from hesrl.measuring.tables import write_csv
from hesrl.measuring.updates import Update
from hesrl.optim import AdaHesScale
from hesrl.rl.threads import limit_threads

CONTENDER = "AdaHesScale"
_LEARNING_RATE = 1e-7
"""So small that the networks hardly change: only time and memory are measured."""
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
    out: Path | None = None
    """file to write the table to"""


class Result(NamedTuple):
    """What was measured on one model."""

    model: str
    adam_ms: float
    """Milliseconds of an update with torch's Adam."""
    time_ratio: float
    adam_mib: float
    """Peak memory with torch's Adam (MiB)."""
    memory_ratio: float


def make_update(model: str, optimizer: str) -> Update:
    """Return the update of a model with fresh weights by one of `CONTENDERS`."""
    torch.manual_seed(0)
    return CONTENDERS[optimizer](*MODELS[model]())


def compare(model: str, rounds: int) -> Result:
    """Measure one model."""
    base_peak, peak = (peak_allocation(make_update(model, name), count=3) for name in CONTENDERS)
    turns = {name: partial(processor_seconds, make_update(model, name)) for name in CONTENDERS}
    seconds = take_turns(turns, rounds, warm_up=True)
    return Result(
        model,
        1e3 * median(seconds[BASELINE]),
        median_ratio(seconds[CONTENDER], seconds[BASELINE]),
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
    console = begin(args.out)
    limit_threads(1)
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler reports its starts otherwise
    results = []
    for model in args.models:
        results.append(compare(model, args.rounds))
        if args.out is not None:
            rows = ((name, *(f"{x:.3f}" for x in numbers)) for name, *numbers in results)
            write_csv(args.out, Result._fields, rows)
    console.print(_table(results))
    return 0


def _table(results: Sequence[Result]) -> Table:
    table = Table(title=f"{CONTENDER} beside {BASELINE}")
    for column in ("model", "Adam ms", "time", "Adam MiB", "memory"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for r in results:
        table.add_row(
            r.model,
            f"{r.adam_ms:.1f}",
            f"{r.time_ratio:.2f}",
            f"{r.adam_mib:.1f}",
            f"{r.memory_ratio:.2f}",
        )
    time, memory = (
        median(getattr(r, name) for r in results) for name in ("time_ratio", "memory_ratio")
    )
    table.add_section()
    table.add_row("median", "", f"{time:.2f}", "", f"{memory:.2f}")
    return table
