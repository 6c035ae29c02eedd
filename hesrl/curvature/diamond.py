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
from typing import TypeAlias

from hesrl.curvature.graph import Edge, Sources
from hesrl.curvature.registry import Pairs

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
    members: frozenset[int]
    """The nodes."""
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
    branches = _Branches(len(starts))
    for branch, (node, _) in enumerate(starts):
        branches.reach(node, branch)
    last = None
    while branches.front and not branches.only_one_goes_on():
        node, branch = branches.next()
        if not branches.front and branches.has_met(branch):
            last = node
            break
        consumers = () if reduces(node) else uses.get((node, 0), ())
        for consumer, _ in consumers:
            if is_pointwise(consumer):
                branches.reach(consumer, branch)
    members = frozenset(n for n, branch in branches.of_node.items() if branches.has_met(branch))
    return Diamond(entry, members, last) if members else None


class _Branches:
    """The branches of a fork: where they have got to, and which have met (by union and find)."""

    def __init__(self, count: int) -> None:
        self.of_node: dict[int, int] = {}
        """A branch that leads to each node."""
        self.front: list[int] = []
        """The nodes whose consumers are next, a heap: a node comes after all that lead to it."""
        self._joined_to = list(range(count))
        self._sizes = [1] * count
        self._open: dict[int, int] = {}
        """How many nodes of the front the branches have that still go on."""

    def reach(self, node: int, branch: int) -> None:
        """Let a branch get to a node, where it meets those that did before."""
        if node in self.of_node:
            self._join(self._root(self.of_node[node]), self._root(branch))
        else:
            self.of_node[node] = branch
            heapq.heappush(self.front, node)
            root = self._root(branch)
            self._open[root] = self._open.get(root, 0) + 1

    def next(self) -> tuple[int, int]:
        """Take the next node of the front, with its branch."""
        node = heapq.heappop(self.front)
        branch = self.of_node[node]
        root = self._root(branch)
        self._open[root] -= 1
        if self._open[root] == 0:
            del self._open[root]
        return node, branch

    def has_met(self, branch: int) -> bool:
        """Whether a branch has met another one."""
        return self._sizes[self._root(branch)] > 1

    def only_one_goes_on(self) -> bool:
        """Whether all others have ended, so that none will meet any more."""
        return len(self._open) == 1 and self._sizes[next(iter(self._open))] == 1

    def _root(self, branch: int) -> int:
        while self._joined_to[branch] != branch:
            self._joined_to[branch] = self._joined_to[self._joined_to[branch]]
            branch = self._joined_to[branch]
        return branch

    def _join(self, a: int, b: int) -> None:
        if a != b:
            self._joined_to[b] = a
            self._sizes[a] += self._sizes[b]
            self._open[a] = self._open.get(a, 0) + self._open.pop(b, 0)
