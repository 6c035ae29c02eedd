"""How far the first steps move each parameter, against Adam's at the same step size.

Parameters of networks with every common loss, and of the model families of other libraries, are
trained by torch's Adam and by an optimizer with its defaults, from the same state on the same
batches. A distance is the largest norm of θ − θ₀ of one parameter over the first steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hesrl import optim
from hesrl.bench.coverage import in_own_process, installed, preload
from hesrl.bench.coverage_examine import Build, Case, Library, seeded, wanted
from hesrl.bench.safety_cases import all_cases
from hesrl.bench.turns import begin
from hesrl.curvature import MissingRuleError
from hesrl.errors import UserError, one_line
from hesrl.measuring.tables import markdown_table, write_csv
from hesrl.runs.atomic import require_writable
from hesrl.settings import MAX_STEPS, require_between, require_positive

FIRST = 5
"""Steps after which distances are taken, besides the last."""
SAFE = 10.0
"""Ratio that no parameter should exceed."""


@dataclass
class Args:
    """Compare how far the first steps of an optimizer move each parameter with Adam's."""

    optimizer: str = "adahesscale"
    """a name of docs/optimizers.md"""
    learning_rate: float = 1e-3
    """step size of both"""
    adam_bound: float = 3.0
    """most that an entry may move, in steps of Adam; inf: no bound"""
    steps: int = 100
    """how many of each"""
    libraries: tuple[str, ...] = ()
    """torchvision, timm, transformers, diffusers, torch_geometric: also their families"""
    timeout: float = 180.0
    """seconds that a family of a library may take"""
    out: Path = Path("safety.csv")
    """the table, which gets a row as soon as it is there"""


class Row(NamedTuple):
    """What was found for one network and loss."""

    source: str
    """hesrl, or the library."""
    network: str
    loss: str = ""
    result: str = ""
    """ok, diverged, missing (an operation has no rule), no model, timeout, crash."""
    first: str = ""
    """Largest ratio of the distances of a parameter over the first 5 steps."""
    all: str = ""
    """The same over all steps."""
    parameter: str = ""
    """Which has the larger of both."""
    detail: str = ""


def main(args: Args) -> int:
    """Run everything, print the largest ratios, and return the exit status.

    Raises:
        UserError: A setting is impossible.
    """
    require_positive(args, "learning_rate adam_bound timeout")
    require_between(args, "steps", 1, MAX_STEPS)
    require_writable(args.out)  # before a word on libraries
    make, libraries = _maker(args), installed(args.libraries)
    begin(args.out)
    torch.set_num_threads(1)
    rows: list[Row] = []
    for row in _rows(args, make, libraries):
        rows.append(row)
        print(*row, flush=True)
        write_csv(args.out, Row._fields, rows)
    print(largest(rows), *unsafe(rows), sep="\n")
    return 0


def _maker(args: Args) -> Callable[..., torch.optim.Optimizer]:
    # Sampled Gauss-Newton diagonals need a likelihood, which not every loss here has.
    names = [name for name in optim.known() if not name.endswith("ggnmc")]
    if args.optimizer not in names:
        raise UserError(f"--optimizer {args.optimizer}: choose one of {', '.join(names)}")
    cls = optim.get(args.optimizer)
    settings: dict[str, Any] = {"lr": args.learning_rate}
    if issubclass(cls, optim.AdaptiveByCurvature):
        settings["adam_bound"] = args.adam_bound
    return partial(cls, **settings)


def _rows(
    args: Args, make: Callable[..., torch.optim.Optimizer], libraries: Iterable[Library]
) -> Iterator[Row]:
    for (network, loss), build in all_cases().items():
        yield compare(Row("hesrl", network, loss), [build], make, args.learning_rate, args.steps)
    for library in libraries:
        preload(library)
        for family in library.families():
            job = partial(_compare_family, library, family, make, args.learning_rate, args.steps)
            yield in_own_process(job, Row(library.package, family), args.timeout)


def _compare_family(library: Library, family: str, *rest: Any) -> Row:
    return compare(Row(library.package, family), library.find(family), *rest)


def compare(
    row: Row,
    attempts: Iterable[Build],
    make: Callable[..., torch.optim.Optimizer],
    learning_rate: float,
    steps: int,
) -> Row:
    """Train a network by Adam and by another optimizer and fill in the row.

    Args:
        row: Names the network.
        attempts: Each makes the same model with the same data whenever it is called with the same
            seed. The first that Adam can train is taken.
        make: The other optimizer, of parameters.
        learning_rate: Adam's step size.
        steps: How many of each.
    """
    reason = ""
    for build in attempts:
        # Whatever a foreign model raises: it is the model's, and becomes the row's detail.
        try:
            native = seeded(build)
            adam = torch.optim.Adam(wanted(native.model), lr=learning_rate)
            expected = distances(native, adam, steps)
        except Exception as error:
            reason = one_line(error)[:300]
            continue
        other = seeded(build)
        try:
            found = distances(other, make(wanted(other.model)), steps)
        except MissingRuleError as error:
            return row._replace(result="missing", detail=one_line(error)[:300])
        except FloatingPointError as error:
            return row._replace(result="diverged", detail=one_line(error)[:300])
        ratios = [
            [_ratio(a, b) for a, b in zip(ours, theirs, strict=True)]
            for ours, theirs in zip(found, expected, strict=True)
        ]
        first, last = (max(ratio) for ratio in ratios)
        named = [name for name, p in other.model.named_parameters() if p.requires_grad]
        worst = max(zip(map(max, *ratios), named, strict=True))[1]
        return row._replace(result="ok", first=f"{first:.3g}", all=f"{last:.3g}", parameter=worst)
    return row._replace(result="no model", detail=reason)


def distances(
    case: Case, optimizer: torch.optim.Optimizer, steps: int
) -> tuple[list[float], list[float]]:
    """Return how far each parameter gets within the first 5 steps, and within all."""
    params = wanted(case.model)
    start = [p.detach().clone() for p in params]
    farthest = first = [0.0] * len(params)
    for step in range(steps):
        optimizer.zero_grad()
        case.loss().backward()
        optimizer.step()
        moved = [torch.dist(p.detach(), s).item() for p, s in zip(params, start, strict=True)]
        farthest = [_farther(*pair) for pair in zip(moved, farthest, strict=True)]
        if step < FIRST:
            first = farthest
    return first, farthest


def _farther(now: float, before: float) -> float:
    return math.inf if math.isnan(now) else max(now, before)


def _ratio(ours: float, theirs: float) -> float:
    if theirs == 0:
        return 0.0 if ours == 0 else math.inf
    return ours / theirs


def largest(rows: Iterable[Row]) -> str:
    """Return a table of the largest ratios of each source."""
    sources: dict[str, list[Row]] = {}
    for row in rows:
        if row.result == "ok":
            sources.setdefault(row.source, []).append(row)
    cells = [
        [
            source,
            str(len(found)),
            *(f"{max(float(getattr(r, at)) for r in found):.1f}" for at in ("first", "all")),
        ]
        for source, found in sources.items()
    ]
    header = ["source", "trained", f"largest ratio, {FIRST} steps", "largest ratio, all steps"]
    return markdown_table(header, cells)


def unsafe(rows: Iterable[Row]) -> Iterator[str]:
    """Yield a line for each row that diverged or has too large a ratio."""
    for row in rows:
        if row.result == "diverged" or (row.result == "ok" and float(row.all) > SAFE):
            yield f"{row.source}, {row.network}, {row.loss}: {row.result} {row.first} {row.all}"
