"""Where curvature goes: what has arrived at each tensor of a graph, and who gets it next."""

from __future__ import annotations

from typing import Any, TypeAlias

from torch import Tensor

from hesrl.curvature.coefficients import carried, fit
from hesrl.curvature.diamonds.crossing import Crossing, Products, Slopes
from hesrl.curvature.graph import Graph
from hesrl.curvature.plan import Plan
from hesrl.curvature.rule_registry import Adjoint, Pointwise
from hesrl.curvature.structure import Edge

Grads: TypeAlias = tuple[Tensor | None, ...]


class Propagation:
    """Curvature on its way from the roots of a graph to the leaves; see `backward_sweep.py`.

    Args:
        graph: The graph of the roots.
        plan: What is to be done at its nodes.
    """

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self._nodes, self._sources = graph.nodes, plan.facts.sources
        self._plan = plan
        self._rules, self._targets = plan.rules, plan.targets
        self._pending = plan.pending.copy()
        self._ready: list[int] = []
        """The nodes whose curvature is complete and whose turn has come."""
        self._hess: dict[Edge, Tensor] = {}
        self._sums: set[Edge] = set()
        """The tensors whose curvature so far is a sum that nothing else holds."""
        self._crossings = {d.entry: Crossing(d, graph, plan.rules) for d in plan.diamonds}
        self._late: dict[int, tuple[Grads, Any]] = {}
        """What the rule of a node has read before the node's curvature was complete."""

    def _pop_curvature(self, node: int) -> tuple[Tensor | None, ...]:
        """Return the complete curvature of a node's outputs, None for zero."""
        outputs = len(self._nodes[node]._input_metadata)
        if outputs == 1:
            return (self._hess.pop((node, 0), None),)
        return tuple(self._hess.pop((node, output), None) for output in range(outputs))

    def _pass_on(self, node: int, hess_in: Any) -> None:
        """Hand the curvature of a node's inputs on to the nodes that made them."""
        is_tensor = isinstance(hess_in, Tensor)
        for target in self._targets[node]:
            hess = hess_in if is_tensor or hess_in is None else hess_in[target.position]
            if hess is not None:
                if target.fit is not None:
                    hess = fit(hess, self._nodes[target.fit[0]], target.fit[1])
                for passed, position in target.chain:
                    hess = self._pass_through(passed, position, hess)
                for diamond in target.outside_of:
                    self._crossings[diamond.entry].add_from_outside(target.edge[0], hess)
            if target.is_total:
                self._deliver(target.edge, hess)

    def _pass_through(self, node: int, position: int, hess: Tensor) -> Tensor:
        """Return what a node with constant coefficients makes of the curvature of its output."""
        rule = self._rules[node]
        if isinstance(rule, Adjoint):
            if rule.apply is not None:
                return rule.apply(hess)
            hess_in = self._nodes[node](hess)
            passed: Tensor = hess_in[position] if isinstance(hess_in, tuple) else hess_in
            return passed
        assert isinstance(rule, Pointwise)
        slope = rule.partials(self._nodes[node])[0][position]
        assert slope is not None
        hess = carried(slope, hess)
        source, output = self._nodes[node].next_functions[position]
        return fit(hess, source, output) if len(self._sources[node]) > 1 else hess

    def _deliver(self, edge: Edge, hess: Tensor | None) -> None:
        """Add one contribution to the curvature of a tensor; after the last its node is ready."""
        if hess is not None:
            before = self._hess.get(edge)
            if before is None:
                self._hess[edge] = hess
            elif edge in self._sums and before.shape == hess.shape and before.dtype == hess.dtype:
                before += hess
            else:
                self._hess[edge] = before + hess
                self._sums.add(edge)
        node = edge[0]
        self._pending[node] -= 1
        if self._pending[node] == 0 and (self._plan.is_eager[node] or node in self._late):
            self._ready.append(node)

    def _record(self, node: int, first: Slopes, curved: Products, hess: Tensor | None) -> None:
        """Note what the diamonds through a node need; after the last node, they are complete."""
        for diamond in self._plan.diamonds_of[node]:
            crossing = self._crossings[diamond.entry]
            if crossing.record(node, first, curved, hess):
                self._deliver(diamond.entry, crossing.curvature())
