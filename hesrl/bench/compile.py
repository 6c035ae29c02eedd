"""Seconds until a training step is compiled, and until one that was compiled before is loaded.

Each takes a process of its own, and the first an empty folder of compiled steps. Only the
processor's time counts, without waits for other programs: that of recording, translating and
loading in the process, and that of the C++ compiler. ``python -m hesrl.bench.compile ppo-minibatch
AdaHesScale`` is such a process; it prints both.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from rich.table import Table

from hesrl import optim
from hesrl.bench.turns import begin
from hesrl.bench.update import recorded_update
from hesrl.bench.update_tasks import TASKS
from hesrl.errors import UserError, one_line
from hesrl.rl.threads import limit_threads

OPTIMIZERS = ("Adam", "AdaHesScale")


@dataclass
class Args:
    """Measure how long a training step compiles, and how long a compiled one takes to load."""

    tasks: tuple[str, ...] = ("ppo-minibatch",)
    """tasks of hesrl bench update"""
    rounds: int = 3
    """turns of each optimizer"""


def main(args: Args) -> int:
    """Measure, print a table and return the exit status.

    Raises:
        UserError: A setting is impossible, or a step cannot be compiled.
    """
    unknown = [task for task in args.tasks if task not in TASKS]
    if unknown or not args.tasks or args.rounds < 1:
        raise UserError(f"--tasks must be among {', '.join(TASKS)} and --rounds at least 1")
    console = begin()
    title = f"seconds of the processor for a compiled step, median of {args.rounds}"
    table = Table("task", "optimizer", "cold", "of it the compiler", "warm", title=title)
    contenders = [(task, name) for task in args.tasks for name in OPTIMIZERS]
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {c: [] for c in contenders}
    for _ in range(args.rounds):
        for contender in contenders:
            with tempfile.TemporaryDirectory() as folder:
                own, compiler = _seconds(*contender, folder)
                warm, _ = _seconds(*contender, folder)
            found[contender].append((own + compiler, compiler, warm))
    for contender, rounds in found.items():
        table.add_row(
            *contender, *(f"{median(values):.2f}" for values in zip(*rounds, strict=True))
        )
    console.print(table)
    return 0


def _seconds(task: str, optimizer: str, folder: str) -> tuple[float, float]:
    """Return the seconds of a process and of its compiler, given the folder of compiled steps."""
    command = [sys.executable, "-m", "hesrl.bench.compile", task, optimizer]
    environment = {**os.environ, "HESRL_CACHE": str(Path(folder) / "compiled")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise UserError(f"{task} with {optimizer}: {one_line(lines[-1])}")
    own, compiler = done.stdout.split()
    return float(own), float(compiler)


def compile_once(task: str, optimizer: str) -> tuple[float, float]:
    """Take the first compiled step of a task; return the seconds of this process and its children.

    Raises:
        UserError: It cannot be compiled.
    """
    limit_threads(1)
    torch.manual_seed(0)
    model, loss = TASKS[task]()
    optimizer_class = getattr(optim, optimizer)
    step = recorded_update(optimizer_class(model.parameters()), loss, "on", "", max_grad_norm=0.5)
    step()
    before = [_spent(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    step()
    after = [_spent(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return after[0] - before[0], after[1] - before[1]


def _spent(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    print(*compile_once(*sys.argv[1:]))
