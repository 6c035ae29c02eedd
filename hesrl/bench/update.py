"""Time of one update (forward, backward, curvature, step) beside a loop with torch's Adam.

The contenders take turns for some rounds in one process and on one thread, so that a change of
the machine's speed meets all of them. A ratio is the median over the rounds. Only the processor's
time counts, without waits for other programs. Subnormal numbers are zero, as in training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from rich.table import Table
from torch import nn

from hesrl.bench.turns import begin, median_ratio, processor_seconds, ratios, take_turns
from hesrl.bench.update_tasks import TASKS
from hesrl.curvature import disarm, give_curvature, patch_torch
from hesrl.errors import UserError
from hesrl.measuring.tables import write_csv
from hesrl.measuring.updates import Loss, Update, eager_update
from hesrl.optim import AdaHesScale, AdaHessian, Adam
from hesrl.optim.base import CurvatureOptimizer
from hesrl.rl.threads import limit_threads
from hesrl.train_step import TrainStep

BASELINE = "torch Adam"
COMPILED_BASELINE = "compiled Adam"
COMPILED_CONTENDER = "compiled AdaHesScale"
_LEARNING_RATE = 1e-4
COMPILED_TASKS = ("ppo-minibatch", "wide", "wide-1")
"""Tasks with compiled contenders, each of which takes 2 to 3 s to compile for the first time."""


MakeUpdate = Callable[[nn.Module, Loss], Update]
"""Makes the update of a model, given its loss."""


def step_with(make: Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]) -> MakeUpdate:
    """Return what makes an eager update, given an optimizer's constructor."""
    return lambda model, loss: eager_update(make(model.parameters()), loss)


def adahessian_update(model: nn.Module, loss: Loss) -> Update:
    """Make an update of AdaHessian (Yao et al., 2021): ``h = z ∘ (H z)`` for one random sign z."""
    params = list(model.parameters())
    optimizer = AdaHesScale(params, lr=_LEARNING_RATE)
    disarm(params)

    def update() -> None:
        grads = torch.autograd.grad(loss(), params, create_graph=True)
        signs = [torch.randint_like(p, 2) * 2 - 1 for p in params]
        products = torch.autograd.grad(grads, params, signs, materialize_grads=True)
        for p, grad, sign, product in zip(params, grads, signs, products, strict=True):
            p.grad = grad.detach()
            give_curvature(p, sign * product)
        optimizer.step()
        disarm(params)

    return update


def recorded_update(
    optimizer: CurvatureOptimizer,
    loss: Loss,
    compile: str,
    remedy: str,
    max_grad_norm: float = math.inf,
) -> Update:
    """Return an update in one call, of which the first one is eager.

    Args:
        optimizer: What steps.
        loss: The loss, on the same data at each call.
        compile: ``"auto"`` to replay what was recorded, ``"on"`` to compile it.
        remedy: What to do where it cannot be compiled, the end of the error's line.
        max_grad_norm: Norm to clip the gradient to.
    """

    def refuse(line: str) -> None:
        raise UserError(f"{line}{remedy}")

    step = TrainStep(
        lambda: (loss(), ()),
        optimizer,
        max_grad_norm=max_grad_norm,
        compile=compile,
        report=refuse,
    )
    no_indices = torch.empty(0, dtype=torch.int64)
    return lambda: step((), no_indices)


def _recorded_with(make: Callable[..., CurvatureOptimizer], compile: str) -> MakeUpdate:
    """Return what makes an update that is replayed ("auto") or compiled ("on") as a whole."""
    remedy = f"; leave out --tasks {' '.join(COMPILED_TASKS)}"
    return lambda model, loss: recorded_update(
        make(model.parameters(), lr=_LEARNING_RATE), loss, compile, remedy
    )


CONTENDERS: dict[str, MakeUpdate] = {
    BASELINE: step_with(lambda params: torch.optim.Adam(params, lr=_LEARNING_RATE)),
    "hesrl Adam": step_with(lambda params: Adam(params, lr=_LEARNING_RATE)),
    "AdaHesScale": step_with(lambda params: AdaHesScale(params, lr=_LEARNING_RATE)),
    "AdaHessian": adahessian_update,
}
BESIDE = "unarmed Adam"
"""torch's Adam on a model that is not armed while others are; the baseline runs in a PyTorch that
hesrl has not changed."""
COMPILED: dict[str, MakeUpdate] = {
    "replayed Adam": _recorded_with(Adam, "auto"),
    "replayed AdaHesScale": _recorded_with(AdaHesScale, "auto"),
    COMPILED_BASELINE: _recorded_with(Adam, "on"),
    COMPILED_CONTENDER: _recorded_with(AdaHesScale, "on"),
    "compiled AdaHessian": _recorded_with(AdaHessian, "on"),
}


def contenders(task: str) -> dict[str, MakeUpdate]:
    """Return the contenders of a task."""
    found = {BASELINE: CONTENDERS[BASELINE], BESIDE: CONTENDERS[BASELINE], **CONTENDERS}
    return found | COMPILED if task in COMPILED_TASKS else found


@dataclass
class Args:
    """Measure the time of one update beside torch's Adam in the same loop."""

    tasks: tuple[str, ...] = tuple(TASKS)
    """ppo (loss as CleanRL writes it), ppo-fused (by hesrl.losses), ppo-minibatch (gathered, also
    compiled), wide and wide-1 (64-512-512-100, batch 256 and 1, also compiled), all-cnn-c (128)"""
    rounds: int = 15
    """turns of each contender"""
    out: Path | None = None
    """file to write the table to"""


class Row(NamedTuple):
    """One contender of a task; the numbers are rounded, as in a file."""

    task: str
    optimizer: str
    microseconds: str
    """Median of the processor's time for one update."""
    ratio: str
    """Median over the rounds of the time divided by torch Adam's."""
    lowest: str
    """The smallest of these ratios."""
    highest: str
    """The largest."""
    ratio_to_compiled: str
    """Median of the ratio to compiled Adam's time; empty where nothing is compiled."""


def main(args: Args) -> int:
    """Measure, print a table for each task and return the exit status.

    Raises:
        UserError: A setting is impossible.
    """
    unknown = [task for task in args.tasks if task not in TASKS]
    if unknown or not args.tasks or args.rounds < 1:
        raise UserError(f"--tasks must be among {', '.join(TASKS)} and --rounds at least 1")
    console = begin(args.out)
    limit_threads(1)
    rows: list[Row] = []
    for task in args.tasks:
        of_task = _rows(task, measure(task, args.rounds))
        console.print(_table(task, args.rounds, of_task))
        rows += of_task
        if args.out is not None:
            write_csv(args.out, Row._fields, rows)
    return 0


def measure(task: str, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of an update for each contender, one number for each round."""
    turns = {}
    for name, make_update in contenders(task).items():
        torch.manual_seed(0)
        turns[name] = partial(_turn, name, make_update(*TASKS[task]()))
    return take_turns(turns, rounds, warm_up=True)


def _turn(name: str, update: Update) -> float:
    patch_torch(name != BASELINE)
    return processor_seconds(update)


def _rows(task: str, seconds: dict[str, list[float]]) -> list[Row]:
    rows = []
    for name, values in seconds.items():
        of_rounds = ratios(values, seconds[BASELINE])
        compiled = seconds.get(COMPILED_BASELINE)
        row = Row(
            task,
            name,
            microseconds=f"{1e6 * median(values):.1f}",
            ratio=f"{median(of_rounds):.3f}",
            lowest=f"{min(of_rounds):.3f}",
            highest=f"{max(of_rounds):.3f}",
            ratio_to_compiled=f"{median_ratio(values, compiled):.3f}" if compiled else "",
        )
        rows.append(row)
    return rows


def _table(task: str, rounds: int, rows: Sequence[Row]) -> Table:
    title = f"{task}: one update, {rounds} rounds, ratio to {BASELINE}"
    table = Table("optimizer", "median µs", "ratio", "range of the ratio", title=title)
    for row in rows:
        spread = f"{float(row.lowest):.2f} to {float(row.highest):.2f}"
        microseconds, ratio = float(row.microseconds), float(row.ratio)
        table.add_row(row.optimizer, f"{microseconds:,.0f}", f"{ratio:.2f}", spread)
        if row.optimizer == COMPILED_CONTENDER:
            ratio = float(row.ratio_to_compiled)
            table.caption = f"{COMPILED_CONTENDER} / {COMPILED_BASELINE}: {ratio:.2f}"
    return table
