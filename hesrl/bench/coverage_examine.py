"""One model beside itself: its native backward pass and the armed one, in the same state.

This runs in a process of its own for every family, so that a crash of it is a row of the table.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hesrl.bench.turns import peak_allocation
from hesrl.curvature import MissingRuleError
from hesrl.curvature.graph import Graph
from hesrl.curvature.rule_registry import find_rule
from hesrl.curvature.structure import LEAF
from hesrl.errors import one_line
from hesrl.optim import AdaHesScale

_SECONDS = 3.0
"""How long the rounds of one family may take."""


@dataclass(frozen=True)
class Case:
    """A small model of a family, with data."""

    name: str
    """What the library calls the model."""
    model: nn.Module
    loss: Callable[[], Tensor]
    """The loss of the model on its data, a scalar."""


Build = Callable[[], Case]


class Library(NamedTuple):
    """Where families come from."""

    package: str
    """What pip installs, with the same name to import."""
    preload: tuple[str, ...]
    """Modules that are imported once, before the families' processes are forked."""
    families: Callable[[], Iterable[str]]
    find: Callable[[str], Iterable[Build]]
    """Yields what builds a family, in the order to try; called in the family's own process."""


_NAMED = re.compile(r"(?:no curvature rule|nor) for (?:\d+ × )?([\w:]+)")
"""The operation that an error names: one in place on a view has a rule for some cases only."""

OK, MISSING, ERROR = "ok", "missing", "error"
NO_MODEL = "no model"
"""The family does not run without hesrl either: it counts for nothing."""


class Row(NamedTuple):
    """What was found for one family; empty fields were not measured."""

    library: str
    family: str
    model: str = ""
    parameters: str = ""
    result: str = NO_MODEL
    """ok, missing, error, timeout, crash, or no model."""
    missing: str = ""
    """The operations without a rule, with spaces between."""
    gradient_equal: str = ""
    not_finite: str = ""
    """How many curvatures are not finite."""
    time_ratio: str = ""
    """The update with AdaHesScale over that with torch's Adam: processor time."""
    memory_ratio: str = ""
    """The same for the peak of what PyTorch allocates during the update."""
    detail: str = ""
    """The first line of what went wrong."""


def examine(library: str, family: str, attempts: Iterable[Build], rounds: int) -> Row:
    """Run a family natively and armed.

    Args:
        library: Name for the row.
        family: Name for the row.
        attempts: Each makes the same model with the same data whenever it is called with the same
            seed. The first whose gradient PyTorch computes is taken.
        rounds: How often both are timed; 0 for no timing.
    """
    torch.set_num_threads(1)
    reasons: list[str] = []
    for build in attempts:
        # Whatever a foreign model raises: it is the model's, and becomes the row's detail.
        try:
            native = seeded(build)
            expected = _gradients(native)
            _check(expected)
        except Exception as error:
            reasons.append(_line(error)[:300])
            continue
        return _compare(Row(library, family), build, native, expected, rounds)
    return Row(library, family, detail="; ".join(dict.fromkeys((reasons[0], reasons[-1]))))


def _check(gradients: list[Tensor | None]) -> None:
    found = [g for g in gradients if g is not None]
    if not found:
        raise RuntimeError("the loss depends on no parameter")
    if not all(bool(g.isfinite().all()) for g in found):
        raise RuntimeError("the native gradient is not finite")


def _compare(
    row: Row, build: Build, native: Case, expected: list[Tensor | None], rounds: int
) -> Row:
    """Run a case armed and fill in the row."""
    count = sum(p.numel() for p in native.model.parameters())
    row = row._replace(model=native.name, parameters=str(count), result=ERROR)
    try:
        armed = seeded(build)
        armed.model.load_state_dict(native.model.state_dict())
        optimizer = AdaHesScale(wanted(armed.model), lr=0.0)
        actual = _gradients(armed)
    except MissingRuleError as error:
        names = missing_operations(seeded(build)) | set(_NAMED.findall(str(error)))
        return row._replace(result=MISSING, missing=" ".join(sorted(names)), detail=_line(error))
    except Exception as error:  # the row says which
        return row._replace(detail=_line(error))
    equal = _are_equal(actual, expected)
    if not equal and not _is_reproducible(build, native, expected):
        return row._replace(result=NO_MODEL, detail="the native gradient differs from run to run")
    hessians: list[Tensor | None] = [p.hess_diag for p in wanted(armed.model)]  # type: ignore[attr-defined]
    bad = sum(int((~h.isfinite()).sum()) for h in hessians if h is not None)
    unknown = sum(h is None for h, g in zip(hessians, actual, strict=True) if g is not None)
    row = row._replace(gradient_equal=str(equal), not_finite=str(bad))
    if not equal:
        return row._replace(detail="the gradient is not the native one")
    if bad or unknown:
        detail = f"{bad} curvatures are not finite, {unknown} parameters have none"
        return row._replace(detail=detail)
    if rounds:
        try:
            row = row._replace(**_ratios(native, armed, optimizer, rounds))
        except Exception as error:  # the row says which
            return row._replace(detail=_line(error))
    return row._replace(result=OK)


def _are_equal(some: list[Tensor | None], others: list[Tensor | None]) -> bool:
    return all(
        a is b or (a is not None and b is not None and torch.equal(a, b))
        for a, b in zip(some, others, strict=True)
    )


def missing_operations(case: Case) -> set[str]:
    """Return the names of all operations of a loss that have no rule."""
    graph = Graph([case.loss().grad_fn])
    return {
        node.name()
        for node, kind in zip(graph.nodes, graph.structure.kinds, strict=True)
        if kind is not LEAF and find_rule(kind) is None
    }


def _ratios(
    native: Case, armed: Case, optimizer: torch.optim.Optimizer, rounds: int
) -> dict[str, str]:
    def updating(case: Case, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
        def update() -> None:
            case.loss().backward()
            optimizer.step()

        return update

    optimizers = torch.optim.Adam(wanted(native.model), lr=0.0), optimizer
    updates = updating(native, optimizers[0]), updating(armed, optimizers[1])
    for update in updates:  # makes the states of the optimizers
        update()
    peaks = []
    for update, of in zip(updates, optimizers, strict=True):
        of.zero_grad()
        peaks.append(peak_allocation(update))
    ratios: list[float] = []
    end = time.monotonic() + _SECONDS
    while len(ratios) < rounds and (not ratios or time.monotonic() < end):
        seconds = []
        for update, of in zip(updates, optimizers, strict=True):
            start = time.thread_time()
            of.zero_grad()
            update()
            seconds.append(time.thread_time() - start)
        ratios.append(seconds[1] / seconds[0])
    return {
        "time_ratio": f"{median(ratios):.3f}",
        "memory_ratio": f"{peaks[1] / peaks[0]:.3f}" if peaks[0] else "",
    }


def seeded(build: Build) -> Case:
    """Build a case with fresh seeds."""
    _seed()
    case = build()
    _seed()
    return case


def _seed() -> None:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)


def wanted(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that take a gradient."""
    return [p for p in model.parameters() if p.requires_grad]


def _gradients(case: Case) -> list[Tensor | None]:
    _seed()
    case.model.zero_grad()
    case.loss().backward()
    return [None if p.grad is None else p.grad.clone() for p in wanted(case.model)]


def _is_reproducible(build: Build, native: Case, expected: list[Tensor | None]) -> bool:
    other = seeded(build)
    other.model.load_state_dict(native.model.state_dict())
    return _are_equal(_gradients(other), expected)


def _line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return one_line(f"{type(error).__name__}: {text}")
