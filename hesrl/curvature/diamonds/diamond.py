"""Diamonds: paths from one tensor that fork and meet again in elementwise operations.

Rule by rule the curvature of such a tensor would lack the cross terms of the paths (PPO's
``log_std`` reaches the log-density through both σ and log σ; a categorical entropy multiplies
log-probabilities with probabilities). So the operations between the fork and the place where all
paths have met, the *diamond*, are differentiated as one. With the total gradient ``g`` known at
every node, first-order tangents ``d = ∂node/∂x`` suffice:

    h(x) = Σ_nodes [ d² h_outside + g Σ_ij f_ij d_i d_j ] + d_last² h(last)

where ``h_outside`` is the curvature that consumers outside the diamond give to a node, and ``last``
the node where all paths have met, whose curvature is complete. Besides elementwise operations a
diamond may hold views, expansions and reductions (`hesrl.curvature.diamonds.layout`).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from hesrl.curvature.diamonds.layout import Layout
from hesrl.curvature.diamonds.moves import TERMS, Fit
from hesrl.curvature.rule_registry import Pairs
from hesrl.curvature.structure import Edge, Sources

Use: TypeAlias = tuple[int, int]
"""A consumer of a tensor: the number of the node, and which of its inputs the tensor is."""


class Facts(Protocol):
    """What is known of the nodes of a graph (`hesrl.curvature.analysis.Analysis`)."""

    sources: list[Sources]
    uses: dict[Edge, list[Use]]
    curved: list[Pairs]

    def can_join(self, node: int) -> bool:
        """Whether paths may meet in a node: it, or what is above it, has second derivatives."""

    def moves_entries(self, node: int) -> bool:
        """Whether a node that can join is a view, an expansion or a reduction."""

    def reduces(self, node: int) -> bool:
        """Whether an elementwise node reduces its terms to one number, where paths end."""

    def fit(self, node: int, output: int) -> Fit:
        """Return what a layout needs to know of an output of a node."""


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
    members: frozenset[int]
    """The nodes."""
    last: int | None
    """The node through which all of the paths go, if there is one."""
    layout: Layout | None = None
    """Where the dimensions of its tensors lie, if some are reduced or moved."""
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


def find_diamond(entry: Edge, facts: Facts) -> Diamond | None:
    """Return the diamond below a tensor, None if its paths do not meet again in one.

    Args:
        entry: The tensor.
        facts: What is known of the nodes.
    """
    found = _search(entry, facts, None)
    if found is None or not any(facts.moves_entries(node) for node in found.members):
        return found
    return _search(entry, facts, Layout(entry, facts.fit(entry[0], entry[1]).ones))


def _search(entry: Edge, facts: Facts, layout: Layout | None) -> Diamond | None:
    starts = [node for node, _ in facts.uses[entry] if facts.can_join(node)]
    if len(starts) < 2:
        return None
    branches = _Branches(starts)
    of_node: dict[int, int] = {}
    last = None
    while branches.may_meet():
        node, branch = branches.next()
        if layout is not None:
            inner = [s for s in facts.sources[node] if s and (s == entry or s[0] in of_node)]
            is_curved = bool(facts.curved[node])
            reduces = facts.reduces(node)
            fit = facts.fit(node, TERMS if reduces else 0)
            is_move = facts.moves_entries(node)
            if not layout.place(node, inner, fit, is_move, is_curved, reduces):
                continue
        of_node[node] = branches.join(branch)
        if not branches.front and branches.has_met(of_node[node]):
            last = node
            break
        if not facts.reduces(node):
            for consumer, _ in facts.uses.get((node, 0), ()):
                if facts.can_join(consumer):
                    branches.reach(consumer, of_node[node])
    members = frozenset(node for node, branch in of_node.items() if branches.has_met(branch))
    if not members:
        return None
    has_moves = any(facts.moves_entries(node) for node in members)
    return Diamond(entry, members, last, layout if has_moves else None)


class _Branches:
    """The branches of a fork: where they have got to, and which have met (by union and find).

    Args:
        starts: The first node of each.
    """

    def __init__(self, starts: Sequence[int]) -> None:
        self.front: list[int] = []
        """The nodes that are next, a heap: a node comes after all that lead to it."""
        self._arrived: dict[int, list[int]] = {}
        """The branches that lead to each node of the front."""
        self._joined_to = list(range(len(starts)))
        self._sizes = [1] * len(starts)
        self._open: Counter[int] = Counter()
        """How often each branch leads to a node of the front."""
        for branch, node in enumerate(starts):
            self.reach(node, branch)

    def reach(self, node: int, branch: int) -> None:
        """Let a branch get to a node."""
        if node not in self._arrived:
            heapq.heappush(self.front, node)
        self._arrived.setdefault(node, []).append(branch)
        self._open[self._root(branch)] += 1

    def next(self) -> tuple[int, list[int]]:
        """Take the next node of the front, with the branches that lead to it."""
        node = heapq.heappop(self.front)
        arrived = self._arrived.pop(node)
        for branch in arrived:
            root = self._root(branch)
            self._open[root] -= 1
            if not self._open[root]:
                del self._open[root]
        return node, arrived

    def join(self, branches: Sequence[int]) -> int:
        """Let branches meet in a node; return one that stands for all of them."""
        first, *others = dict.fromkeys(map(self._root, branches))
        for other in others:
            self._joined_to[other] = first
            self._sizes[first] += self._sizes[other]
            if other in self._open:
                self._open[first] += self._open.pop(other)
        return first

    def has_met(self, branch: int) -> bool:
        """Whether a branch has met another one."""
        return self._sizes[self._root(branch)] > 1

    def may_meet(self) -> bool:
        """Whether several branches go on, or some that have met."""
        return len(self._open) > 1 or any(self._sizes[root] > 1 for root in self._open)

    def _root(self, branch: int) -> int:
        while self._joined_to[branch] != branch:
            self._joined_to[branch] = self._joined_to[self._joined_to[branch]]
            branch = self._joined_to[branch]
        return branch
