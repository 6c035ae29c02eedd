"""What autograd graphs of the same operations have in common: nodes, and who takes what."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch.autograd.graph import get_gradient_edge

Edge: TypeAlias = tuple[int, int]
"""A tensor of the graph: the number of the node that made it, and which of its outputs it is."""

Sources: TypeAlias = "tuple[Edge | None, ...]"
"""The tensors that a node takes; None for one that takes no gradient."""

LEAF: Any = type(get_gradient_edge(torch.empty(0, requires_grad=True)).node)
"""The kind of node that accumulates the gradient of a leaf tensor."""


@dataclass(frozen=True, eq=False, slots=True)
class Structure:
    """What graphs of the same operations have in common; one object for all of them.

    The nodes are numbered so that inputs come first, and of the softmaxes of a tensor the one that
    stands for all (`hesrl.curvature.patterns.softmax_forms`). There are no tensors in it.
    """

    kinds: tuple[Any, ...]
    """For each node the kind of operation, for which `find_rule` finds the rule."""
    sources: tuple[Sources, ...]
    """For each node the tensors that it takes."""
    details: dict[int, Hashable]
    """Saved values on which the choice of a node's rule depends, by its number."""
    roots: tuple[int, ...]
    """The numbers of the nodes that the graph starts from."""
    leaves: tuple[int, ...] = ()
    """The numbers of the leaf nodes."""
    order: list[int] | None = None
    """The nodes of a walk in the order of their numbers, if it is another one."""
    plans: dict[Hashable, Any] = field(default_factory=dict)
    """The plans made for it (`hesrl.curvature.plan.plan_for`)."""


def kind_name(kind: Any) -> str:
    """Return the name of a kind of node, empty for one without a class of its own."""
    return getattr(kind, "__name__", "")
