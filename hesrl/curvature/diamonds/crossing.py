"""The way of one sweep through a diamond."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from hesrl.curvature.coefficients import add, dense, fit, plus, square, times
from hesrl.curvature.diamonds.diamond import Diamond, Step
from hesrl.curvature.diamonds.moves import slope_of, terms_shape
from hesrl.curvature.graph import Graph
from hesrl.curvature.rule_registry import Coefficient, Pointwise, Rule
from hesrl.curvature.structure import Edge

Slopes: TypeAlias = "tuple[Coefficient | None, ...]"
Products: TypeAlias = list[tuple[int, int, Tensor]]


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
            first, curved, hess = self._laid_out(step, *self._recorded(step))
            inner = {i: tangents[source] for i, source in step.inner if source in tangents}
            for i, j, q in curved:
                if i == j and i in inner:
                    parts.append(dense(times(square(inner[i]), q), q.dtype))
                elif i in inner and j in inner:
                    part = dense(times(inner[j], times(inner[i], q)), q.dtype)
                    parts.append(part + part)
            if step.has_tangent:
                dtype = self._graph.nodes[step.node]._input_metadata[0].dtype
                tangent = _tangent(first, inner, dtype)
                if tangent is not None:
                    tangent = self._over_copies(step.node, tangent, dtype)
                    tangents[step.node, 0] = tangent
                    if hess is not None:
                        parts.append(dense(times(square(tangent), hess), dtype))
        self._records.clear()
        of_entry, layout = self._graph.nodes[entry[0]], self._diamond.layout
        if layout is not None and parts:
            parts = [layout.total(parts, of_entry._input_metadata[entry[1]].shape)]
        return _sum(parts, of_entry, entry[1])

    def _recorded(self, step: Step) -> tuple[Slopes, Products, Tensor | None]:
        if not step.is_late:
            return self._records[step.node]
        rule, node = self._rules[step.node], self._graph.nodes[step.node]
        first = rule.partials(node)[0] if isinstance(rule, Pointwise) else (slope_of(node),)
        return first, [], None

    def _laid_out(
        self, step: Step, first: Slopes, curved: Products, hess: Tensor | None
    ) -> tuple[Slopes, Products, Tensor | None]:
        """Return the record of a node in the index space of the diamond, if it has one."""
        layout = self._diamond.layout
        if layout is None:
            return first, curved, hess
        terms = layout.terms[step.node]
        return (
            tuple(layout.lift(slope, terms) for slope in first),
            [(i, j, layout.lift(q, terms)) for i, j, q in curved],
            layout.lift(hess, layout.axes[step.node, 0]),
        )

    def _over_copies(self, node: int, tangent: Coefficient, dtype: torch.dtype) -> Coefficient:
        layout = self._diamond.layout
        if layout is None or not layout.copies.get(node):
            return tangent
        shape = terms_shape(self._graph.nodes[node])
        return layout.reduce_copies(node, dense(tangent, dtype), shape)


def _tangent(
    first: Slopes, inner: Mapping[int, Coefficient], dtype: torch.dtype
) -> Coefficient | None:
    """Return ``d = Σ_i f_i d_i``, None for zero."""
    total: Coefficient | None = None
    for i, d in inner.items():
        slope = first[i]
        if slope is not None:
            term: Coefficient = times(slope, d)
            total = term if total is None else plus(total, term, dtype)
    return total


def _sum(parts: list[Tensor], node: Any, output: int) -> Tensor | None:
    """Add up contributions to the curvature of a tensor, each broadcast in its own way."""
    total = None
    for part in parts:
        if total is not None and part.shape != total.shape:
            total, part = fit(total, node, output), fit(part, node, output)
        total = part if total is None else total + part
    return None if total is None else fit(total, node, output)
