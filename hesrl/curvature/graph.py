"""Read the autograd graph that PyTorch recorded: its nodes, and who made the inputs of whom.

The gradient's graph holds all that curvature needs, so the forward pass stays native. What is to
be done at which node follows from the structure alone (`hesrl.curvature.plan`), which is the same
for every batch of a training loop; only this walk is repeated in every backward pass.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from itertools import islice
from threading import RLock
from typing import Any

from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from hesrl.curvature.patterns.details import DETAILED, detail, is_detailed
from hesrl.curvature.patterns.softmax_forms import order_of
from hesrl.curvature.structure import LEAF, Sources, Structure

_SHARED_BY_KINDS = "CppFunction"
"""Python class of the nodes that have no class of their own; their name tells them apart."""

_MAX_CACHED, _MAX_TRIED = 64, 3
_cache: dict[Hashable, Structure] = {}
"""The structures of graphs that were seen before, the last ones last."""
_lock = RLock()
"""Held while `_cache` is read or changed: several threads may train."""


class Graph:
    """The autograd graph below some roots.

    Args:
        roots: Nodes to start from, ``loss.grad_fn``.

    Attributes:
        nodes: The nodes, every one after the nodes that made its inputs.
        structure: What it has in common with other graphs.
    """

    __slots__ = ("nodes", "structure")

    def __init__(self, roots: Iterable[Any]) -> None:
        roots = list(roots)
        if len(roots) == 1:
            with _lock:
                latest = list(islice(reversed(_cache.values()), _MAX_TRIED))
            for structure in latest:
                nodes = _same_again(roots[0], structure)
                if nodes is not None:
                    self.nodes, self.structure = nodes, structure
                    return
        self.nodes, self.structure = _walk(roots)


def _same_again(root: Any, structure: Structure) -> list[Any] | None:
    """Return the nodes below a root if they have a known structure: quicker than `_walk`."""
    kinds, sources = structure.kinds, structure.sources
    if not kinds:
        return None
    nodes: list[Any] = [None] * len(kinds)
    nodes[-1] = root
    for number in range(len(kinds) - 1, -1, -1):
        node = nodes[number]
        if type(node) is not kinds[number] and _kind(node) != kinds[number]:
            return None
        taken, edges = sources[number], node.next_functions
        if len(taken) != len(edges):
            return None
        for edge, (source, output) in zip(taken, edges):  # noqa: B905 (checked, and quicker)
            if edge is None:
                if source is not None:
                    return None
                continue
            known = nodes[edge[0]]
            if known is None:
                nodes[edge[0]] = source
            elif known is not source:
                return None
            if edge[1] != output:
                return None
    if len(set(nodes)) < len(nodes):
        return None
    for number, expected in structure.details.items():
        if detail(type(nodes[number]).__name__, nodes[number]) != expected:
            return None
    return nodes


def _walk(roots: list[Any]) -> tuple[list[Any], Structure]:
    """Number the nodes in post-order, depth first; until its inputs are done a node has −1."""
    number: dict[Any, int] = {}
    nodes: list[Any] = []
    sources: list[Sources] = []
    stack = list(roots)
    while stack:
        node = stack[-1]
        known = number.get(node)
        if known is None:
            number[node] = -1
            stack.extend(s for s, _ in node.next_functions if s is not None and s not in number)
            continue
        stack.pop()
        if known == -1:
            number[node] = len(nodes)
            nodes.append(node)
            sources.append(
                tuple(
                    None if s is None else (number[s], output) for s, output in node.next_functions
                )
            )
    structure = _structure(nodes, tuple(sources), tuple(number[root] for root in roots))
    if structure.order is not None:
        nodes = [nodes[old] for old in structure.order]
    return nodes, structure


def _structure(nodes: list[Any], sources: tuple[Sources, ...], roots: tuple[int, ...]) -> Structure:
    """Return the structure of nodes in the order of a walk."""
    names = [type(node).__name__ for node in nodes]
    details = {
        number: detail(name, nodes[number])
        for number, name in enumerate(names)
        if name in DETAILED
        and is_detailed(name, (names[s[0]] for s in sources[number] if s is not None))
    }
    kinds = tuple(_kind(node) for node in nodes)
    key = kinds, sources, tuple(details.items()), roots
    with _lock:
        structure = _cache.pop(key, None)
        if structure is None:
            structure = _ordered(Structure(kinds, sources, details, roots))
            if len(_cache) >= _MAX_CACHED:
                del _cache[next(iter(_cache))]
        _cache[key] = structure
    return structure


def _ordered(walked: Structure) -> Structure:
    """Return a structure with its nodes in their final order, and its leaves."""
    order = order_of(walked)
    kinds, sources, details, roots = walked.kinds, walked.sources, walked.details, walked.roots
    if order is not None:
        number = {old: new for new, old in enumerate(order)}
        kinds = tuple(kinds[old] for old in order)
        sources = tuple(
            tuple(None if s is None else (number[s[0]], s[1]) for s in sources[old])
            for old in order
        )
        details = {number[old]: value for old, value in details.items()}
        roots = tuple(number[root] for root in roots)
    leaves = tuple(number for number, kind in enumerate(kinds) if kind is LEAF)
    return Structure(kinds, sources, details, roots, leaves, order)


def _kind(node: Any) -> Any:
    kind = type(node)
    return node.name() if kind.__name__ == _SHARED_BY_KINDS else kind


def node_of(root: Tensor | GradientEdge) -> Any | None:
    """Return the node that made a root, None for a constant."""
    if isinstance(root, GradientEdge):
        return root.node
    if root.grad_fn is None and root.requires_grad:
        return get_gradient_edge(root).node
    return root.grad_fn
