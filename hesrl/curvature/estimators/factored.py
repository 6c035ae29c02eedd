"""Exact diagonals layer by layer, from a Hessian in factors that goes backward once.

With the Jacobian J of some tensor t and the parameters below it, the Hessian of the loss is a sum
over the operations that are curved, and so is the Gauss-Newton matrix over the outputs:

    ∂²L/∂θ² = Σ_t J_tᵀ B_t J_t,        B_t = Σ_v w_v s_v s_vᵀ

For an elementwise ``y = f(t)`` it is diagonal, ``B = diag(g f''(t))``, and for log-softmax
``B = c Σ_k p_k (p − e_k)(p − e_k)ᵀ``. Autograd gives the Jacobians and ``f''``: HesScale's
rules, which are measured here, take no part. Where no row meets another (`rowwise.py`), ``s_v``
goes backward for all rows at once, as a batch of vectors, and a layer ``z = W a + b`` makes of it
``∂²L/∂W_oi² = Σ_nv w_nv (s_nvo a_ni)²`` (`layers.py`).

A diagonal Hessian stays one below elementwise operations, so it is turned into vectors ``e_o``
only where a layer or a mean lies below. Index legend: ``n`` rows, ``v`` vectors, ``o`` and ``i``
entries of a row, ``k`` classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from hesrl.curvature.coefficients import add
from hesrl.curvature.estimators.layers import Layer, layer_of
from hesrl.curvature.estimators.likelihood import LIKELIHOODS, Categorical, Output
from hesrl.curvature.estimators.rowwise import COPIES, LAYERS, LOG_SOFTMAX, Rows
from hesrl.curvature.graph import Graph
from hesrl.curvature.rule_registry import Pointwise
from hesrl.curvature.structure import Edge

_CHUNK = 256
"""How many vectors go through the graph at once."""


@dataclass(frozen=True)
class _Factors:
    """A Hessian ``Σ_v w_nv s_nv s_nvᵀ`` of each row of a tensor."""

    edge: Edge
    weights: Tensor
    """w (V, N)."""
    vectors: Callable[[Tensor], Tensor]
    """From some of the numbers v to s (V, N, …), with N = 1 if all rows have the same."""
    of_layer: bool
    """It counts for the parameters of the layer that made the tensor, not only for those below."""


@torch.no_grad()
def by_factors(
    loss: Tensor, graph: Graph, leaves: Sequence[int], outputs: Sequence[Output] | None = None
) -> dict[int, Tensor]:
    """Return the exact diagonal for the parameters of layers whose rows stay apart.

    Args:
        loss: L, a scalar.
        graph: Its graph.
        leaves: The numbers of the leaf nodes whose curvature is wanted.
        outputs: The outputs of the network for the Gauss-Newton matrix; None for the Hessian.

    Returns:
        The diagonal by the number of the leaf. Leaves that take another way are left out: all of
        them if the Hessian takes more vectors than there are entries, or if the first dimension
        of an output has its classes and not its rows.
    """
    if any(isinstance(output, Categorical) and output.dim == 0 for output in outputs or ()):
        return {}
    return _Descent(loss, graph, leaves, outputs).diagonals()


class _Descent:
    """The Hessian on its way from the loss to the layers."""

    def __init__(
        self, loss: Tensor, graph: Graph, leaves: Sequence[int], outputs: Sequence[Output] | None
    ) -> None:
        self._nodes, self._is_hessian = graph.nodes, outputs is None
        self._diagonal: dict[Edge, Tensor] = {}
        """The part that is diagonal, at tensors whose node the walk has yet to reach."""
        self._of_layer: dict[int, Tensor] = {}
        """The same at the outputs of layers."""
        self._factors: list[_Factors] = []
        grads: dict[int, Tensor] = {}
        if outputs is None:
            self._rows = Rows(graph, leaves)
            grads = self._gradients(loss)
        else:
            numbers = {node: number for number, node in enumerate(graph.nodes)}
            edges = [(numbers[output.edge.node], output.edge.output_nr) for output in outputs]
            self._rows = Rows(graph, leaves, set(edges))
            for edge, output in zip(edges, outputs, strict=True):
                self._begin(edge, output)
        for node in range(len(graph.nodes) - 1, -1, -1):
            if node in grads or (node, 0) in self._diagonal:
                self._walk(node, grads.get(node))

    def _gradients(self, loss: Tensor) -> dict[int, Tensor]:
        """Return the gradient at the outputs of operations with a second derivative."""
        curved = [node for node in self._rows.curved if node not in self._rows.blocked]
        if not curved:
            return {}
        edges = [GradientEdge(self._nodes[node], 0) for node in curved]
        grads = torch.autograd.grad(loss, edges, retain_graph=True, allow_unused=True)
        return {n: grad for n, grad in zip(curved, grads, strict=True) if grad is not None}

    def _begin(self, edge: Edge, output: Output) -> None:
        """Put the Hessian of a likelihood to the output of a network."""
        if edge[0] in self._rows.blocked:
            return
        if isinstance(output, Categorical):
            self._factors.append(_Factors(edge, *output.row_factors(), of_layer=True))
        else:
            self._put(edge, 2 * output.weight)

    def _put(self, edge: Edge, hess: Tensor | None) -> None:
        if hess is not None and edge[0] not in self._rows.blocked:
            self._diagonal[edge] = add(self._diagonal.get(edge), hess)

    def _walk(self, node: int, grad: Tensor | None) -> None:
        """Take the diagonal part from the output of a node to its inputs, with its own added."""
        rows, hess = self._rows, self._diagonal.pop((node, 0), None)
        if hess is not None and node in rows.layers:
            if rows.names[node] in LAYERS:
                self._of_layer[node] = hess
            else:
                self._turn_into_vectors((node, 0), hess, of_layer=True)
                hess = None
        inputs = rows.inputs(node)
        if hess is not None and inputs:
            if self._stays_diagonal(node, inputs):
                self._put(inputs[0][1], self._passed(node, inputs[0][1], hess))
            else:
                self._turn_into_vectors((node, 0), hess)
        if grad is None:
            return
        ((_, source),) = inputs
        if rows.names[node] == LOG_SOFTMAX:
            edges = [GradientEdge(self._nodes[source[0]], source[1])]
            (output,) = LIKELIHOODS[LOG_SOFTMAX](self._nodes[node], edges, grad)
            self._begin(source, output)
        else:
            self._put(source, self._second_derivative(node, source, grad))

    def _stays_diagonal(self, node: int, inputs: Sequence[tuple[int, Edge]]) -> bool:
        """Whether a diagonal Hessian at the output of a node is diagonal at its only input."""
        rows = self._rows
        if rows.names[node] in COPIES:
            return True
        return (
            isinstance(rows.rules[node], Pointwise)
            and len(inputs) == 1
            and rows.shape(inputs[0][1]) == rows.shape((node, 0))
        )

    def _passed(self, node: int, source: Edge, hess: Tensor) -> Tensor | None:
        """Return ``f'² h`` by the gradient's own map, once if f' is 0 or 1; None for zero."""
        (once,) = self._products((node, 0), [source], hess)
        if once is None or self._rows.names[node] in COPIES:
            return once
        return self._products((node, 0), [source], once)[0]

    def _second_derivative(self, node: int, source: Edge, grad: Tensor) -> Tensor | None:
        """Return ``g f''`` of an elementwise operation, None for zero, as autograd has it."""
        edge = GradientEdge(self._nodes[source[0]], source[1])
        (slope,) = torch.autograd.grad(
            [GradientEdge(self._nodes[node], 0)], [edge], [grad], create_graph=True
        )
        if not slope.requires_grad:
            return None
        (hess,) = torch.autograd.grad(
            [slope], [edge], [torch.ones_like(slope)], retain_graph=True, allow_unused=True
        )
        return hess

    def _turn_into_vectors(self, edge: Edge, hess: Tensor, *, of_layer: bool = False) -> None:
        """Write a diagonal Hessian as ``Σ_o w_no e_o e_oᵀ``."""
        rest = hess.shape[1:]
        size = prod(rest)

        def vectors(v: Tensor) -> Tensor:
            units = hess.new_zeros(len(v), size).scatter_(1, v.unsqueeze(1), 1.0)
            return units.view(len(v), 1, *rest)

        weights = hess.reshape(len(hess), size).T
        self._factors.append(_Factors(edge, weights, vectors, of_layer))

    def _products(
        self, edge: Edge, to: Sequence[Edge], vectors: Tensor, *, batched: bool = False
    ) -> tuple[Tensor | None, ...]:
        """Return ``Jᵀ s`` at some tensors; None where there is none."""
        return torch.autograd.grad(
            [GradientEdge(self._nodes[edge[0]], edge[1])],
            [GradientEdge(self._nodes[node], output) for node, output in to],
            [vectors],
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=batched,
        )

    def diagonals(self) -> dict[int, Tensor]:
        """Take all vectors to the layers, and return what comes of them there."""
        found = self._rows.layers
        layers = {
            node: layer_of(
                self._nodes[node],
                {place: transposed for place, (_, transposed) in params.items()},
                self._of_layer.get(node),
            )
            for node, params in found.items()
        }
        wanted = {leaf for params in found.values() for leaf, _ in params.values()}
        entries = sum(self._nodes[leaf].variable.numel() for leaf in wanted)
        count = sum(len(factors.weights) for factors in self._factors)
        if self._is_hessian and count > entries:
            return {}
        for factors in self._factors:
            self._add(factors, layers)
        result = {}
        for node, layer in layers.items():
            for place, hess in layer.diagonals().items():
                leaf, _ = found[node][place]
                if hess is None:
                    hess = torch.zeros_like(self._nodes[leaf].variable)
                if hess.sum().isfinite():
                    result[leaf] = hess
        return result

    def _add(self, factors: _Factors, layers: dict[int, Layer]) -> None:
        """Take vectors from a tensor to all layers that it was made by."""
        node = factors.edge[0]
        below = [n for n in layers if n < node or (n == node and factors.of_layer)]
        numbers = torch.arange(len(factors.weights), device=factors.weights.device)
        edges = [(n, 0) for n in below]
        for v in numbers.split(_CHUNK) if below else ():
            vectors = factors.vectors(v).expand(len(v), *self._rows.shape(factors.edge))
            products = self._products(factors.edge, edges, vectors, batched=True)
            for n, product in zip(below, products, strict=True):
                if product is not None:
                    layers[n].add(product, factors.weights[v])
