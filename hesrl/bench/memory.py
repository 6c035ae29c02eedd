"""Peak memory of one update beside a loop with torch's Adam, each in a process of its own.

The peak of the process's resident memory counts, minus its resident memory with model and data in
place. The difference holds activations, gradients, curvature and temporary tensors.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.table import Table

from hesrl.bench.turns import begin
from hesrl.bench.update import BASELINE, CONTENDERS
from hesrl.bench.update_tasks import image_classifier
from hesrl.errors import UserError
from hesrl.measuring.tables import write_csv
from hesrl.runs.machine import peak_memory


@dataclass
class Args:
    """Measure the peak memory of forward, backward and curvature beside torch's Adam."""

    batch_size: int = 128
    """images in the batch that ALL-CNN-C classifies"""
    updates: int = 3
    """how many updates; the highest of their peaks counts"""
    out: Path | None = None
    """file to write the table to"""


def measure(batch_size: int, optimizer: str, updates: int) -> float:
    """Return the peak of the resident memory in MiB, above that before the first update."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, loss = image_classifier(batch_size)
    update = CONTENDERS[optimizer](model, loss)
    before = peak_memory()
    for _ in range(updates):
        update()
    return peak_memory() - before


def main(args: Args) -> int:
    """Measure, print the table and return the exit status.

    Raises:
        UserError: A setting is impossible.
    """
    if args.batch_size < 1 or args.updates < 1:
        raise UserError("--batch-size and --updates must be at least 1")
    console = begin(args.out)
    title = f"ALL-CNN-C, batch of {args.batch_size}: memory of an update"
    table = Table("optimizer", "peak MiB", "ratio", title=title)
    context = multiprocessing.get_context("spawn")
    peaks: dict[str, float] = {}
    for name in CONTENDERS:
        with context.Pool(1) as process:
            peaks[name] = process.apply(measure, (args.batch_size, name, args.updates))
        table.add_row(name, f"{peaks[name]:,.0f}", f"{peaks[name] / peaks[BASELINE]:.2f}")
    console.print(table)
    if args.out is not None:
        rows = ((name, f"{x:.1f}", f"{x / peaks[BASELINE]:.3f}") for name, x in peaks.items())
        write_csv(args.out, ("optimizer", "peak_mib", "ratio"), rows)
    return 0
