"""What is dropped at which operation of a graph, for `hesrl.curvature.explain`."""

from __future__ import annotations

import math
from typing import Any

import torch

from hesrl.curvature.coefficients import adjoint
from hesrl.curvature.diamonds.diamond import Diamond
from hesrl.curvature.graph import Graph
from hesrl.curvature.plan import Plan
from hesrl.curvature.rule_registry import Local, Pointwise

EXACT, _DIAGONAL = "exact", "drops off-diagonals"


def exactness_of(graph: Graph, plan: Plan, node: int) -> str:
    """Return what is dropped at a node, or that nothing is."""
    rule = plan.rules[node]
    if node in plan.facts.forced:
        return "as if elementwise"
    if any(_leaves_copied(graph, diamond, node) for diamond in plan.diamonds):
        return _DIAGONAL
    # A node that hands no curvature on is there for its diamonds only.
    if node not in plan.facts.nonzero or not plan.targets[node]:
        return EXACT
    if isinstance(rule, Pointwise):
        positions = (target.position for target in plan.targets[node])
        return _DIAGONAL if any(_is_copied(graph.nodes[node], i) for i in positions) else EXACT
    if isinstance(rule, Local):
        one_entry = not graph.nodes[node]._input_metadata[0].shape
        return EXACT if rule.separate or one_entry else _DIAGONAL
    return EXACT if _is_separate(graph.nodes[node]) else _DIAGONAL


def _leaves_copied(graph: Graph, diamond: Diamond, node: int) -> bool:
    """Whether curvature enters a diamond at a node that has copies of the diamond's entry."""
    if not any(step.node == node and step.has_outside for step in diamond.steps):
        return False
    if diamond.layout is not None:
        return diamond.layout.has_copies(node)
    entry, output = diamond.entry
    return _size(graph.nodes[entry], output) < _size(graph.nodes[node], 0)


def _is_copied(node: Any, position: int) -> bool:
    """Whether an elementwise node broadcasts one of its inputs."""
    source, output = node.next_functions[position]
    return _size(source, output) < _size(node, 0)


def _size(node: Any, output: int) -> int:
    return math.prod(node._input_metadata[output].shape)


def _is_separate(node: Any) -> bool:
    """Whether a linear map with coefficients 0 and 1 takes every entry to one output at most."""
    ones = tuple(
        torch.ones(tuple(output.shape), dtype=output.dtype, device=output.device)
        for output in node._input_metadata
    )
    counts = adjoint(node, ones)
    counts = counts if isinstance(counts, tuple) else (counts,)
    return all(bool((count <= 1).all()) for count in counts if count is not None)
