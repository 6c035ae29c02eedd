"""The curvature sweep: it rides along the gradient's backward pass.

For a tensor ``v`` of the graph let ``g(v) = ∂L/∂v`` and ``h(v) ≈ diag ∂²L/∂v²`` (Elsayed et al.,
ICML 2024, arXiv 2406.03276). For an operation ``y = f(x)``

    h(x)_j = Σ_k (∂y_k/∂x_j)² h(y)_k + Σ_k g(y)_k ∂²y_k/∂x_j²

A hook on each node gets ``g(y)`` from the native pass just before the node runs, when the saved
tensors are still there and all consumers of ``y`` have been visited, and hands ``h(x)`` on. So
the gradient stays native, activations are freed as early as without curvature, and ``h(L) = 0``
is the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import checkpoint

from hesrl.curvature.graph import Edge, Graph, Region
from hesrl.curvature.registry import Adjoint, Coefficient, Local, Pointwise

_Apart = getattr(checkpoint, "GraphExecGroup", nullcontext)
"""Entered where a rule reads saved tensors: a checkpoint hands each of them out once per group.

So it recomputes them for the rules apart from the native pass. A PyTorch without groups raises
its own CheckpointError.
"""


class Sweep:
    """One pass of curvature from the roots of a graph to its wanted leaves.

    Use it as a context manager around the native backward pass, then call `curvatures`.

    Args:
        graph: The graph of the roots.
        create_graph: The native pass will record itself; the sweep is left out of that record.
    """

    def __init__(self, graph: Graph, *, create_graph: bool = False) -> None:
        self._graph = graph
        self._create_graph = create_graph
        self._hess: dict[Edge, Tensor] = {}
        self._grad_excess: dict[Edge, Tensor] = {}
        self._handles: list[Any] = []
        self._apart = _Apart()

    def __enter__(self) -> Sweep:
        """Hook every node that the curvature passes through."""
        visits: dict[type, Callable[..., None]] = {
            Pointwise: self._visit_pointwise,
            Local: self._visit_local,
            Adjoint: self._visit_adjoint,
        }
        graph, handles = self._graph, self._handles
        for node in graph.order:
            region = graph.region_of.get(node)
            rule = graph.rules[node]
            if region is not None:
                assert isinstance(rule, Pointwise)
                hook = partial(self._visit_region_member, node, rule, region)
            else:
                hook = partial(visits[type(rule)], node, rule)
            if self._create_graph:
                hook = torch.no_grad()(hook)
            handles.append(node.register_prehook(hook))
        return self

    def __exit__(self, *exception: object) -> None:
        """Remove the hooks, which would otherwise keep the graph alive in a cycle."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def curvatures(self) -> list[tuple[Tensor, Tensor]]:
        """Return each wanted leaf with its ``h``, of the leaf's shape and dtype.

        A leaf that the roots depend on linearly has zeros.
        """
        result = []
        with torch.no_grad():
            for edge, leaf in self._graph.leaves:
                hess = self._take(edge)
                result.append((leaf, torch.zeros_like(leaf) if hess is None else hess))
        return result

    def _take(self, edge: Edge) -> Tensor | None:
        """Return the complete curvature of a tensor, None for zero."""
        hess = self._hess.pop(edge, None)
        regions = self._graph.entered_by.get(edge)
        if regions is not None:
            for region in regions:
                part = _through_region(region, edge)
                if part is not None:
                    hess = _add(hess, part)
        return hess

    def _note_excess(self, node: Any, rule: Pointwise, slope: Any, grad: Tensor) -> None:
        if rule.gradient_excess is not None:
            edge = node.next_functions[0]
            excess = rule.gradient_excess(node, slope, grad)
            self._grad_excess[edge] = _add(self._grad_excess.get(edge), excess)

    def _grad(self, node: Any, grads: tuple[Tensor | None, ...]) -> Tensor | None:
        """Return the gradient at a node's only output, as the rules of its consumers define it."""
        grad = grads[0]
        if self._grad_excess:
            excess = self._grad_excess.pop((node, 0), None)
            if excess is not None:
                return excess if grad is None else grad + excess
        return grad

    def _visit_adjoint(self, node: Any, rule: Adjoint, grads: tuple[Tensor | None, ...]) -> None:
        """``h(x) = Jᵀ h(y)``, by calling the gradient's own map."""
        hess_out = [self._take((node, output)) for output in range(len(grads))]
        if any(hess is not None for hess in hess_out):
            with self._apart:
                hess_in = _adjoint(node, hess_out)
            self._spread(node, hess_in)

    def _visit_local(self, node: Any, rule: Local, grads: tuple[Tensor | None, ...]) -> None:
        if len(grads) == 1:
            hess = self._take((node, 0))
            grad = self._grad(node, grads)
            if hess is None:
                if rule.linear or grad is None:
                    return
                hess = torch.zeros_like(grad)
            elif grad is None:
                grad = torch.zeros_like(hess)
            with self._apart:
                hess_in = rule.curvature(node, grad, hess)
            self._spread(node, hess_in)
        else:
            hess_out = tuple(self._take((node, output)) for output in range(len(grads)))
            if not rule.linear or any(part is not None for part in hess_out):
                with self._apart:
                    hess_in = rule.curvature(node, grads, hess_out)
                self._spread(node, hess_in)

    def _visit_pointwise(
        self, node: Any, rule: Pointwise, grads: tuple[Tensor | None, ...]
    ) -> None:
        """``h(x_i) = f_i² h(y) + f_ii g(y)``, for a node that forms no region with others."""
        hess, grad = self._take((node, 0)), self._grad(node, grads)
        if hess is None and grad is None:
            return
        with self._apart:
            first, second = rule.partials(node)
        parts: list[Tensor | None] = [None] * len(first)
        if hess is not None:
            for i, f in enumerate(first):
                if f is not None:
                    parts[i] = _times(_square(f), hess)
        if grad is not None:
            self._note_excess(node, rule, first[0], grad)
            for i, j, f in second:
                if i == j:
                    parts[i] = _add(parts[i], _times(f, grad))
        self._spread(node, tuple(parts))

    def _visit_region_member(
        self, node: Any, rule: Pointwise, region: Region, grads: tuple[Tensor | None, ...]
    ) -> None:
        """Keep what `_through_region` needs; the node's saved tensors are gone by then."""
        hess, grad = self._take((node, 0)), self._grad(node, grads)
        if hess is not None:
            region.outside[node] = hess
        with self._apart:
            first, second = rule.partials(node)
        curved = []
        if grad is not None:
            self._note_excess(node, rule, first[0], grad)
            curved = [(i, j, _times(f if i == j else 2 * f, grad)) for i, j, f in second]
        region.partials[node] = node.next_functions, first, curved

    def _spread(self, node: Any, hess_in: Any) -> None:
        """Hand the curvature of a node's inputs on to the nodes that made them."""
        if not isinstance(hess_in, tuple):
            hess_in = (hess_in,)
        useful = self._graph.useful
        for edge, hess in zip(node.next_functions, hess_in, strict=True):
            if hess is not None and edge[0] in useful:
                self._hess[edge] = _add(self._hess.get(edge), _fit(hess, edge))


def _through_region(region: Region, edge: Edge) -> Tensor | None:
    """Return what one region gives to the curvature of one of its inputs.

    h(x) = Σ_nodes [ d² h_outside + Σ_ij g f_ij d_i d_j ],   d = ∂node/∂x, d(x) = 1
    """
    tangents: dict[Edge, Coefficient] = {edge: 1.0}
    total: Tensor | None = None
    for node in reversed(region.nodes):
        if node not in region.partials:
            continue
        sources, first, curved = region.partials[node]
        inner = [tangents.get(source) for source in sources]
        tangent: Coefficient | None = None
        for f, d in zip(first, inner, strict=True):
            if d is not None:
                step = _times(f, d)
                tangent = step if tangent is None else tangent + step
        if tangent is None:
            continue
        tangents[node, 0] = tangent
        for i, j, q in curved:
            d_i, d_j = inner[i], inner[j]
            if d_i is not None and d_j is not None:
                total = _add(total, _fit(_times(d_j, _times(d_i, q)), edge))
        outside = region.outside.get(node)
        if outside is not None:
            total = _add(total, _fit(_times(_square(tangent), outside), edge))
    region.pending -= 1
    if region.pending == 0:
        region.partials.clear()
        region.outside.clear()
    return total


def _adjoint(node: Any, values: list[Tensor | None]) -> Any:
    """Call a node's own map from the gradients of its outputs to those of its inputs."""
    metadata = node._input_metadata
    if not isinstance(node, torch.autograd.function.BackwardCFunction):
        return node(*values)
    # A Python function gets zeros where the engine has no gradient.
    known = next(value for value in values if value is not None)
    outputs = [
        known.new_zeros(tuple(output.shape)) if value is None else value
        for value, output in zip(values, metadata, strict=True)
    ]
    return node.apply(*outputs)


def _add(a: Tensor | None, b: Tensor) -> Tensor:
    return b if a is None else a + b


def _times(a: Any, b: Any) -> Any:
    """Return ``a b`` without an operation where a factor is the number 1 or −1."""
    for number, other in ((a, b), (b, a)):
        if not isinstance(number, Tensor):
            if number == 1:
                return other
            if number == -1:
                return -other
    return a * b


def _square(f: Coefficient) -> Coefficient:
    return f * f


def _fit(hess: Tensor, edge: Edge) -> Tensor:
    """Give a curvature the shape and dtype of its tensor, which an operation may have promoted.

    It is summed over the dimensions along which the tensor was broadcast.
    """
    node, output = edge
    of_tensor = node._input_metadata[output]
    shape = tuple(of_tensor.shape)
    if hess.shape != shape:
        hess = hess.sum_to_size(shape)
    return hess if hess.dtype == of_tensor.dtype else hess.to(of_tensor.dtype)
