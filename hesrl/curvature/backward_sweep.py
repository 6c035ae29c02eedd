"""The curvature sweep: it rides along the gradient's backward pass.

For a tensor ``v`` of the graph let ``g(v) = ∂L/∂v`` and ``h(v) ≈ diag ∂²L/∂v²`` (Elsayed et al.,
ICML 2024, arXiv 2406.03276). For an operation ``y = f(x)``

    h(x)_j = Σ_k (∂y_k/∂x_j)² h(y)_k + Σ_k g(y)_k ∂²y_k/∂x_j²

The nodes whose rule needs ``g(y)`` have a hook that gets it from the native pass just before the
node runs, when its saved tensors are still there and all consumers of ``y`` have been visited. The
others are visited as soon as their ``h(y)`` is complete. So the gradient stays native, activations
are freed as early as without curvature, and ``h(L) = 0`` is the seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import checkpoint

from hesrl.curvature.coefficients import add, adjoint, carried, dense, times
from hesrl.curvature.diamonds.crossing import Products
from hesrl.curvature.diamonds.moves import slope_of
from hesrl.curvature.graph import Graph
from hesrl.curvature.plan import Plan
from hesrl.curvature.propagation import Grads, Propagation
from hesrl.curvature.rule_registry import Coefficient, Local, Pointwise
from hesrl.curvature.structure import Edge

_ReadGroup = getattr(checkpoint, "GraphExecGroup", nullcontext)
"""Entered where rules read saved tensors: a checkpoint hands each of them out once per group.

So it recomputes them for the rules apart from the native pass. A PyTorch without groups raises
its own CheckpointError.
"""

_NO_SEEDS: Mapping[Edge, Tensor] = {}


class Sweep(Propagation):
    """One pass of curvature from the roots of a graph to its wanted leaves.

    Use it as a context manager around the native backward pass, then call `curvature`.

    Args:
        graph: The graph of the roots.
        plan: What is to be done at its nodes.
        seeds: The curvature of the roots where it is not zero; the plan is made for them.
    """

    def __init__(self, graph: Graph, plan: Plan, seeds: Mapping[Edge, Tensor] = _NO_SEEDS) -> None:
        super().__init__(graph, plan)
        self._grad_excess: dict[Edge, Tensor] = {}
        self._handles: list[Any] = []
        self._slopes: dict[int, Coefficient] = {}
        self._read_group, self._slope_group = _ReadGroup(), _ReadGroup()
        self._seeds = seeds

    def __enter__(self) -> Sweep:
        """Hook the nodes that wait for their gradient, and visit those that wait for nothing."""
        if self._seeds:
            with torch.no_grad(), self._read_group:
                for edge, hess in self._seeds.items():
                    self._deliver(edge, hess)
                while self._ready:
                    self._visit(self._ready.pop(), None)
        nodes, visit = self._nodes, self._visit_with_gradient
        self._handles = [
            nodes[node].register_prehook(partial(visit, node)) for node in self._plan.hooked
        ]
        return self

    def __exit__(self, *exception: object) -> None:
        """Remove the hooks, which would otherwise keep the graph alive in a cycle."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def curvature(self, leaf: int) -> Tensor | None:
        """Return ``h`` of a wanted leaf, of its shape and dtype; None for zero.

        Raises:
            RuntimeError: A rule gave it another shape.
        """
        hess = self._hess.pop((leaf, 0), None)
        if hess is not None and hess.shape != self._nodes[leaf].variable.shape:
            raise RuntimeError(
                f"the parameter of shape {tuple(self._nodes[leaf].variable.shape)} got a curvature "
                f"of shape {tuple(hess.shape)}: a rule on the way returns a wrong shape"
            )
        return hess

    def _visit_with_gradient(self, node: int, grads: Grads) -> None:
        """Visit a node, and then those whose curvature is complete by that."""
        if torch.is_grad_enabled():  # with create_graph=True, which the sweep is left out of
            with torch.no_grad():
                self._visit_with_gradient(node, grads)
            return
        if node in self._plan.moves:
            # Apart from the rule, which reads the same saved tensors.
            with self._slope_group:
                self._slopes[node] = slope_of(self._nodes[node])
        with self._read_group:
            if self._pending[node]:
                self._postpone(node, grads)
                return
            self._visit(node, grads)
            while self._ready:
                self._visit(self._ready.pop(), None)

    def _postpone(self, node: int, grads: Grads) -> None:
        """Keep what the rule of a node needs until its curvature is complete."""
        rule = self._rules[node]
        assert isinstance(rule, Local) and rule.read is not None
        self._late[node] = grads, rule.read(self._nodes[node])

    def _visit(self, node: int, grads: Grads | None) -> None:
        rule = self._rules[node]
        if isinstance(rule, Pointwise):
            self._visit_pointwise(node, rule, grads)
        elif isinstance(rule, Local):
            self._visit_local(node, rule, grads)
        else:
            self._visit_adjoint(node)

    def _visit_adjoint(self, node: int) -> None:
        """``h(x) = Jᵀ h(y)``, by calling the gradient's own map."""
        hess_out = self._pop_curvature(node)
        if self._targets[node]:
            is_zero = all(hess is None for hess in hess_out)
            self._pass_on(node, None if is_zero else adjoint(self._nodes[node], hess_out))
        if node in self._plan.diamonds_of:
            self._record(node, (self._slope(node),), [], hess_out[0])

    def _visit_local(self, node: int, rule: Local, grads: Grads | None) -> None:
        hess_out = self._pop_curvature(node)
        if len(hess_out) > 1:
            if grads is None and all(hess is None for hess in hess_out):
                self._pass_on(node, None)
                return
            grads_out: Any = grads or (None,) * len(hess_out)
            self._pass_on(node, rule.curvature(self._nodes[node], grads_out, hess_out))
            return
        (hess,) = hess_out
        source = self._nodes[node]
        if node in self._late:
            grads, source = self._late.pop(node)
        elif rule.read is not None:
            source = rule.read(source)
        if rule.read is not None and not self._plan.facts.needs_gradient(node):
            grads = None
        grad = self._grad(node, grads) if grads is not None else None
        if node in self._plan.diamonds_of:
            curved: Products = []
            if grad is not None and self._plan.used_pairs[node]:
                zero = torch.zeros_like(grad)
                curved = [(0, 0, cast(Tensor, rule.curvature(source, grad, zero)))]
            self._record(node, (self._slope(node),), curved, hess)
            if not self._targets[node]:
                return
        if hess is None:
            if grad is None:
                self._pass_on(node, None)
                return
            hess = torch.zeros_like(grad)
        elif grad is None and not rule.linear:
            grad = torch.zeros_like(hess)
        self._pass_on(node, rule.curvature(source, grad, hess))

    def _visit_pointwise(self, node: int, rule: Pointwise, grads: Grads | None) -> None:
        """``h(x_i) = f_i² h(y) + f_ii g(y)``, and what the diamonds through the node need."""
        plan = self._plan
        hess = self._hess.pop((node, 0), None)
        excess = self._grad_excess.get((node, 0)) if self._grad_excess else None
        grad = self._grad(node, grads) if grads is not None else None
        diamonds = plan.diamonds_of.get(node)
        if hess is None and grad is None and not diamonds:
            if rule.gradient_excess is not None:
                self._note_excess(node, rule, None, None, None)
            self._pass_on(node, None)
            return
        knows_all = hess is not None and (grad is not None or rule.curved == ())
        if rule.alone is not None and knows_all and not diamonds:
            self._pass_on(node, rule.alone(self._nodes[node], grad, hess))
            return
        first, second = rule.partials(self._nodes[node])
        if rule.gradient_excess is not None:
            native = grads[0] if grads is not None else None
            self._note_excess(node, rule, first[0], native, excess)
        curved = []
        if grad is not None:
            pairs = plan.used_pairs[node]
            curved = [
                (i, j, dense(times(f, grad), grad.dtype)) for i, j, f in second if (i, j) in pairs
            ]
        targets = self._targets[node]
        if targets:
            parts: list[Tensor | None] = [None] * len(first)
            for target in targets:
                i = target.position
                slope = first[i]
                if hess is not None and slope is not None:
                    parts[i] = carried(slope, hess)
            for i, j, q in curved:
                if i == j:
                    parts[i] = add(parts[i], q)
            self._pass_on(node, parts)
        if diamonds:
            self._record(node, first, curved, hess)

    def _slope(self, node: int) -> Coefficient:
        """Return the slope of a node that moves entries."""
        slope = self._slopes.pop(node, None)
        return slope_of(self._nodes[node]) if slope is None else slope

    def _grad(self, node: int, grads: Grads) -> Tensor | None:
        """Return the gradient at a node's first output, as the rules of its consumers define it."""
        grad = grads[0]
        if self._grad_excess:
            excess = self._grad_excess.pop((node, 0), None)
            if excess is not None:
                return excess if grad is None else grad + excess
        return grad

    def _note_excess(
        self, node: int, rule: Pointwise, slope: Any, grad: Tensor | None, excess: Tensor | None
    ) -> None:
        """Note what a node's source lacks of its gradient, by the node and by what it lacks itself.

        Args:
            node: Its number.
            rule: Its rule.
            slope: Its slope.
            grad: The native gradient at its output.
            excess: What that lacks.
        """
        edge = self._sources[node][0]
        assert edge is not None and rule.gradient_excess is not None
        parts = [times(slope, excess)] if excess is not None else []
        if grad is not None:
            parts.append(rule.gradient_excess(self._nodes[node], slope, grad))
        for part in parts:
            if part is not None:
                self._grad_excess[edge] = add(self._grad_excess.get(edge), part)
        self._deliver(edge, None)
