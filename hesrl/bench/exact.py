"""Time of exact diagonals, beside BackPACK's (Dangel et al., 2020) where that is installed.

Both start from a model and its data and end with the diagonal of every parameter. They take turns,
as in `hesrl.bench.update`, and must agree.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from hesrl.bench.turns import begin, median_ratio, processor_seconds, take_turns
from hesrl.curvature import hess_diag
from hesrl.errors import UserError
from hesrl.measuring.networks import dense_network
from hesrl.measuring.tables import write_csv
from hesrl.rl.threads import limit_threads

INSTALL = "BackPACK is not installed: pip install backpack-for-pytorch==1.7.1"
EXTENSIONS = {"hessian": "DiagHessian", "ggn": "DiagGGNExact"}
"""BackPACK's name for each of our methods."""
COLUMNS = ["model", "parameters", "method", "hesrl_ms", "backpack_ms", "ratio"]

Problem = tuple[nn.Module, nn.Module, Tensor, Tensor]
"""Model, loss, inputs and targets."""


def _conv(activation: Callable[[], nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3), activation(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), activation()),
        *(nn.Flatten(), nn.Linear(256, 64), activation(), nn.Linear(64, 10)),
    )


def _classes(model: nn.Module, *shape: int) -> Problem:
    x = torch.randn(shape)
    return model, nn.CrossEntropyLoss(), x, torch.randint(10, (len(x),))


def _labels(model: nn.Module, *shape: int) -> Problem:
    x = torch.randn(shape)
    return model, nn.BCEWithLogitsLoss(), x, torch.randint(2, (len(x), 1)).float()


def _values(model: nn.Module, *shape: int) -> Problem:
    x = torch.randn(shape)
    return model, nn.MSELoss(), x, torch.randn(len(x), 10)


_DEEP = 100, 128, 64, 64
PROBLEMS: dict[str, Callable[[], Problem]] = {
    "784-32-10 relu": lambda: _classes(dense_network([784, 32, 10], nn.ReLU), 32, 784),
    "100-128-64-64-10 tanh": lambda: _classes(dense_network([*_DEEP, 10]), 32, 100),
    "100-128-64-64-10 sigmoid, mse": lambda: _values(
        dense_network([*_DEEP, 10], nn.Sigmoid), 32, 100
    ),
    "100-128-64-64-1 relu, bce": lambda: _labels(dense_network([*_DEEP, 1], nn.ReLU), 32, 100),
    "two convolutions relu": lambda: _classes(_conv(nn.ReLU), 16, 1, 14, 14),
    "two convolutions tanh": lambda: _classes(_conv(nn.Tanh), 16, 1, 14, 14),
}


@dataclass
class Args:
    """Measure the time of exact diagonals, of the Hessian and of the Gauss-Newton matrix."""

    rounds: int = 9
    """turns of hesrl and of BackPACK"""
    out: Path | None = None
    """CSV file for the numbers"""


def _ours(problem: Problem, method: Any) -> Callable[[], list[Tensor]]:
    model, loss, x, target = problem
    params = list(model.parameters())
    return lambda: hess_diag(loss(model(x), target), params, method)


def _backpack(problem: Problem, method: str) -> Callable[[], list[Tensor]]:
    package, extensions = (
        importlib.import_module(f"backpack{name}") for name in ("", ".extensions")
    )
    extension = getattr(extensions, EXTENSIONS[method])()
    model, loss = (package.extend(copy.deepcopy(module)) for module in problem[:2])

    def diagonals() -> list[Tensor]:
        value = loss(model(problem[2]), problem[3])
        with package.backpack(extension):
            value.backward()
        return [getattr(p, extension.savefield) for p in model.parameters()]

    return diagonals


def compare(name: str, method: str, rounds: int, beside: bool) -> dict[str, Any]:
    """Return a row of `COLUMNS`.

    Args:
        name: Which of `PROBLEMS`.
        method: "hessian" or "ggn".
        rounds: How many turns.
        beside: Whether BackPACK takes turns, too.

    Raises:
        RuntimeError: The diagonals differ.
    """
    torch.manual_seed(0)
    problem = PROBLEMS[name]()
    ways = {"hesrl": _ours(problem, method)}
    if beside:
        ways["backpack"] = _backpack(problem, method)
    results = [way() for way in ways.values()]
    for ours, theirs in zip(results[0], results[-1], strict=True):
        if (ours - theirs).norm() > 1e-4 * theirs.norm():
            raise RuntimeError(f"{name}, {method}: hesrl and BackPACK give other diagonals")
    turns = {key: partial(processor_seconds, way) for key, way in ways.items()}
    seconds = take_turns(turns, rounds, warm_up=True)
    entries = sum(p.numel() for p in problem[0].parameters())
    row = {"model": name, "parameters": entries, "method": method}
    row |= {f"{key}_ms": f"{1e3 * median(times):.2f}" for key, times in seconds.items()}
    if beside:
        row["ratio"] = f"{median_ratio(seconds['hesrl'], seconds['backpack']):.2f}"
    return row


def main(args: Args) -> int:
    """Measure, print a table and return the exit status.

    Raises:
        UserError: A setting is impossible.
    """
    if args.rounds < 1:
        raise UserError("--rounds must be at least 1")
    console = begin(args.out)
    limit_threads(1)
    # A word of PyTorch's on BackPACK's hooks.
    warnings.filterwarnings("ignore", "Full backward hook is firing")
    beside = importlib.util.find_spec("backpack") is not None
    if not beside:
        console.print(INSTALL, highlight=False)
    found = [
        compare(name, method, args.rounds, beside) for name in PROBLEMS for method in EXTENSIONS
    ]
    rows = [[str(row.get(column, "")) for column in COLUMNS] for row in found]
    table = Table(*COLUMNS, title="exact diagonals, forward pass included")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if args.out is not None:
        write_csv(args.out, COLUMNS, rows)
    return 0
