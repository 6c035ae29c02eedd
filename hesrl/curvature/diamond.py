"""Diamonds: paths from one tensor that fork and meet again in elementwise operations.

Rule by rule the curvature of such a tensor would lack the cross terms of the paths (PPO's
``log_std`` reaches the log-density through both σ and log σ; a categorical entropy multiplies
log-probabilities with probabilities). So the elementwise operations between the fork and the
place where all paths have met, the *diamond*, are differentiated as one. With the total gradient
``g`` known at every node, first-order tangents ``d = ∂node/∂x`` suffice:

    h(x) = Σ_nodes [ d² h_outside + g Σ_ij f_ij d_i d_j ] + d_last² h(last)

where ``h_outside`` is the curvature that consumers outside the diamond give to a node, and ``last``
the node where all paths have met, whose curvature is complete.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import Tensor

from hesrl.curvature.coefficients import add, fit, number, square, times
from hesrl.curvature.graph import Edge, Graph, Sources
from hesrl.curvature.registry import Coefficient, Pairs, Pointwise, Rule

Slopes: TypeAlias = "tuple[Coefficient | None, ...]"
Products: TypeAlias = list[tuple[int, int, Tensor]]
Use: TypeAlias = tuple[int, int]
"""A consumer of a tensor: the number of the node, and which of its inputs the tensor is."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one node of a diamond contributes."""

    node: int
    inner: tuple[tuple[int, Edge], ...]
    """Its inputs that depend on the entry."""
    has_tangent: bool
    """Whether its tangent is needed."""
    pairs: Pairs
    """The pairs of those inputs with a second derivative."""
    has_outside: bool
    """Whether a curvature reaches it from outside; for the last node, any curvature."""
    is_late: bool
    """Whether its slopes are numbers, which can be read when the node's tensors are gone."""


@dataclass(slots=True)
class Diamond:
    """A tensor whose paths meet again, and the nodes between."""

    entry: Edge
    members: tuple[int, ...]
    """The nodes, inputs first."""
    last: int | None
    """The node through which all of the paths go, if there is one."""
    steps: list[Step] = field(default_factory=list)
    """Those members that contribute, inputs first."""

    @property
    def recorded(self) -> int:
        """How many of its steps must be recorded while their tensors are there."""
        return sum(not step.is_late for step in self.steps)

    def inner(self, member: int, sources: Sequence[Sources]) -> tuple[tuple[int, Edge], ...]:
        """Return the inputs of a member that depend on the entry, with their positions."""
        return tuple(
            (position, source)
            for position, source in enumerate(sources[member])
            if source is not None and (source == self.entry or source[0] in self.members)
        )


def find_diamond(
    entry: Edge,
    uses: Mapping[Edge, Sequence[Use]],
    is_pointwise: Callable[[int], bool],
    reduces: Callable[[int], bool],
) -> Diamond | None:
    """Return the diamond below a tensor, None if its elementwise paths do not meet again.

    Args:
        entry: The tensor.
        uses: The consumers of each tensor.
        is_pointwise: Whether a node is an elementwise operation.
        reduces: Whether it reduces its terms to one number, beyond which nothing is elementwise.
    """
    starts = [use for use in uses[entry] if is_pointwise(use[0])]
    if len(starts) < 2:
        return None
    branches: dict[int, set[int]] = {}
    """The branches that lead to a node; those that meet share one set."""
    front: list[int] = []
    visited: list[int] = []
    last = None

    def reach(node: int, incoming: set[int]) -> None:
        if node not in branches:
            branches[node] = incoming
            heapq.heappush(front, node)
        elif branches[node] is not incoming:
            merged = branches[node] | incoming
            for other, members in branches.items():
                if not merged.isdisjoint(members):
                    branches[other] = merged

    for branch, (node, _) in enumerate(starts):
        reach(node, {branch})
    while front:
        node = heapq.heappop(front)
        visited.append(node)
        if not front and len(branches[node]) > 1:
            last = node
            break
        consumers = () if reduces(node) else uses.get((node, 0), ())
        for consumer, _ in consumers:
            if is_pointwise(consumer):
                reach(consumer, branches[node])
    members = tuple(node for node in visited if len(branches[node]) > 1)
    return Diamond(entry, members, last) if members else None


class Crossing:
    """What one sweep knows of the nodes of a diamond, until it can give the entry's curvature.

    Args:
        diamond: The diamond.
        graph: The graph that is swept.
        rules: The rule of each node.
    """

    def __init__(self, diamond: Diamond, graph: Graph, rules: Sequence[Rule | None]) -> None:
        self._diamond, self._graph, self._rules = diamond, graph, rules
        self._expected = diamond.recorded
        self._records: dict[int, tuple[Slopes, Products, Tensor | None]] = {}
        self._outside: dict[int, Tensor] = {}

    def add_from_outside(self, node: int, hess: Tensor) -> None:
        """Add to the curvature that consumers outside the diamond give to a node."""
        self._outside[node] = add(self._outside.get(node), hess)

    def record(self, node: int, first: Slopes, curved: Products, hess: Tensor | None) -> bool:
        """Keep what is needed of a node whose saved tensors are about to go.

        Args:
            node: Its number.
            first: Its slopes, one for each input.
            curved: ``(i, j, g f_ij)`` for pairs of inputs.
            hess: Its complete curvature, which counts for the last node only.

        Returns:
            Whether nothing is missing any more.
        """
        if node != self._diamond.last:
            hess = self._outside.pop(node, None)
        self._records[node] = first, curved, hess
        return len(self._records) == self._expected

    def curvature(self) -> Tensor | None:
        """Return the curvature that the diamond gives to its entry, and forget the records.

        h(x) = Σ_nodes [ d² h_outside + g Σ_ij f_ij d_i d_j ],   d = ∂node/∂x, d(x) = 1
        """
        entry = self._diamond.entry
        tangents: dict[Edge, Coefficient] = {entry: 1.0}
        parts: list[Tensor] = []
        for step in self._diamond.steps:
            first, curved, hess = self._recorded(step)
            inner = {i: tangents[source] for i, source in step.inner if source in tangents}
            for i, j, q in curved:
                if i == j and i in inner:
                    parts.append(times(square(inner[i]), q))
                elif i in inner and j in inner:
                    part = times(inner[j], times(inner[i], q))
                    parts.append(part + part)
            if step.has_tangent:
                tangent = _tangent(first, inner)
                if tangent is not None:
                    tangents[step.node, 0] = tangent
                    if hess is not None:
                        parts.append(times(square(tangent), hess))
        self._records.clear()
        return _sum(parts, self._graph.nodes[entry[0]], entry[1])

    def _recorded(self, step: Step) -> tuple[Slopes, Products, Tensor | None]:
        if not step.is_late:
            return self._records[step.node]
        rule = self._rules[step.node]
        assert isinstance(rule, Pointwise)
        first, _ = rule.partials(self._graph.nodes[step.node])
        return first, [], None


def _tangent(first: Slopes, inner: Mapping[int, Coefficient]) -> Coefficient | None:
    """Return ``d = Σ_i f_i d_i``, None for zero."""
    total: Coefficient | None = None
    for i, d in inner.items():
        slope = first[i]
        if slope is not None:
            term: Coefficient = times(slope, d)
            total = term if total is None else number(total) + number(term)
    return total


def _sum(parts: list[Tensor], node: Any, output: int) -> Tensor | None:
    """Add up contributions to the curvature of a tensor, each broadcast in its own way."""
    total = None
    for part in parts:
        if total is not None and part.shape != total.shape:
            total, part = fit(total, node, output), fit(part, node, output)
        total = part if total is None else total + part
    return None if total is None else fit(total, node, output)
