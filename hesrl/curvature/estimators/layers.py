"""The exact diagonal for a layer's parameters, from the Hessian at its output row by row.

Of ``z_n = W a_n + b`` with ``H(z_n) = diag h_n + Σ_v w_nv s_nv s_nvᵀ`` only the diagonal counts,
and with that the layer's own rule is exact:

    ∂²L/∂W_oi² = Σ_n H_noo a_ni²,     ∂²L/∂b_o² = Σ_n H_noo,     H_noo = h_no + Σ_v w_nv s_nvo²

A convolution's weight meets a patch ``a_np`` of the input at every position p, and what one vector
makes of it is added up over positions before it is squared:

    ∂²L/∂W_ci² = Σ_np h_ncp a_npi² + Σ_nv w_nv (Σ_p s_nvcp a_npi)²

In a transposed convolution s and a change places: the input meets patches of s.
Index legend: ``n`` rows, ``v`` vectors, ``o`` and ``i`` entries out and in, ``c`` channels,
``g`` groups of them, ``p`` positions.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import GradientEdge

from hesrl.curvature.coefficients import add
from hesrl.curvature.rule_registry import Local, find_rule
from hesrl.curvature.rules.linear import LINEAR_LAYERS

_MAX_ENTRIES = 1 << 22
"""How many products of single vectors and rows with a weight are held at once."""


class Layer:
    """A matrix product, and what it has in common with a convolution.

    Args:
        node: The node of the layer.
        params: Where its parameters stand among its inputs, and whether it transposes them.
        hess: h, of the shape of its output; None for zero.
    """

    def __init__(self, node: Any, params: dict[int, bool], hess: Tensor | None) -> None:
        self.node, self.params, self.hess = node, params, hess

    def add(self, vectors: Tensor, weights: Tensor) -> None:
        """Add ``Σ_v w_nv s_nv s_nvᵀ``, for s (V, N, …) and w (V, N)."""
        self.hess = add(self.hess, (vectors.square() * weights.unsqueeze(-1)).sum(0))

    def diagonals(self) -> dict[int, Tensor | None]:
        """Return the diagonal for each parameter, None for zero, by its place."""
        if self.hess is None:
            return dict.fromkeys(self.params)
        name = self.node.name()
        rule = LINEAR_LAYERS[name] if any(self.params.values()) else find_rule(name)
        assert isinstance(rule, Local)
        hess: Any = rule.curvature(self.node, None, self.hess)
        return {place: hess[place] for place in self.params}


class Convolution(Layer):
    """A convolution, or a transposed one, of any number of dimensions; see `Layer`."""

    def __init__(self, node: Any, params: dict[int, bool], hess: Tensor | None) -> None:
        super().__init__(node, params, hess)
        self._sums: dict[int, Tensor] = {}
        self._is_transposed = node._saved_transposed
        if 1 in params:
            x = node._saved_input
            self._shape = x.shape[2:]
            self._input = self._in_groups(x if self._is_transposed else self._patches(x))

    def add(self, vectors: Tensor, weights: Tensor) -> None:
        """Add ``Σ_v w_nv s_nv s_nvᵀ``, for s (V, N, C, …) and w (V, N)."""
        if 2 in self.params:
            squares = vectors.flatten(3).sum(-1).square()
            self._add(2, torch.einsum("vnc,vn->c", squares, weights))
        if 1 in self.params:
            entries = len(vectors) * self.node._saved_weight.numel()
            size = max(1, _MAX_ENTRIES // max(1, entries))
            parts = self._input.split(size), vectors.split(size, 1), weights.split(size, 1)
            for part in zip(*parts, strict=True):
                self._add(1, self._of_weight(*part))

    def _of_weight(self, inputs: Tensor, vectors: Tensor, weights: Tensor) -> Tensor:
        """Return ``Σ_nv w_nv (Σ_p s_nvcp a_npi)²``."""
        vectors, each = vectors.flatten(0, 1), vectors.shape[:2]
        if self._is_transposed:
            vectors = self._in_groups(self._patches(vectors)).unflatten(0, each)
            products = torch.einsum("ngcp,vngip->vngci", inputs, vectors)
        else:
            vectors = self._in_groups(vectors).unflatten(0, each)
            products = torch.einsum("vngcp,ngip->vngci", vectors, inputs)
        total = torch.einsum("vngci,vn->gci", products.square(), weights)
        return total.reshape(self.node._saved_weight.shape)

    def _patches(self, x: Tensor) -> Tensor:
        """Return what the kernel covers of x (N, C, …) at each position, as (N, C k, p)."""
        node, kernel = self.node, self.node._saved_weight.shape[2:]
        x = F.pad(x, [width for pad in reversed(node._saved_padding) for width in (pad, pad)])
        places = zip(kernel, node._saved_stride, node._saved_dilation, strict=True)
        for dim, (size, stride, dilation) in enumerate(places, 2):
            x = x.unfold(dim, dilation * (size - 1) + 1, stride)[..., ::dilation]
            if self._is_transposed:
                x = x.narrow(dim, 0, self._shape[dim - 2])
        ndim = len(kernel)
        x = x.movedim(tuple(range(2, 2 + ndim)), tuple(range(-ndim, 0)))
        return x.flatten(1, 1 + ndim).flatten(2)

    def _in_groups(self, x: Tensor) -> Tensor:
        """Return (N, C, …) as (N, g, c, p)."""
        return x.flatten(2).unflatten(1, (self.node._saved_groups, -1))

    def _add(self, place: int, part: Tensor) -> None:
        self._sums[place] = add(self._sums.get(place), part)

    def diagonals(self) -> dict[int, Tensor | None]:
        """Return the diagonal for each parameter, None for zero, by its place."""
        result = super().diagonals()
        for place, part in self._sums.items():
            result[place] = add(result[place], part)
        return result


class Other(Layer):
    """Any other operation that is linear in its parameters: scales, shifts, embeddings.

    It gives the products of single rows by vectors that are zero in all other rows.
    """

    def __init__(self, node: Any, params: dict[int, bool], hess: Tensor | None) -> None:
        super().__init__(node, params, hess)
        self._sums: dict[int, Tensor | None] = dict.fromkeys(params)

    def add(self, vectors: Tensor, weights: Tensor) -> None:
        """Add ``Σ_v w_nv s_nv s_nvᵀ``, for s (V, N, …) and w (V, N)."""
        edges = [GradientEdge(*self.node.next_functions[place]) for place in self.params]
        entries = vectors.numel() + len(vectors) * max(map(_size, edges))
        numbers = torch.arange(weights.shape[1], device=weights.device)
        for rows in numbers.split(max(1, _MAX_ENTRIES // max(1, entries))):
            alone = F.one_hot(rows, len(numbers)).to(vectors.dtype)
            alone = alone.view(*alone.shape, *[1] * (vectors.dim() - 2))
            products = torch.autograd.grad(
                [GradientEdge(self.node, 0)],
                edges,
                [(vectors.unsqueeze(1) * alone).flatten(0, 1)],
                retain_graph=True,
                is_grads_batched=True,
            )
            for place, product in zip(self.params, products, strict=True):
                square = product.square().flatten(1)
                part = weights[:, rows].reshape(1, -1) @ square
                self._sums[place] = add(self._sums[place], part.view(product.shape[1:]))

    def diagonals(self) -> dict[int, Tensor | None]:
        """Return the diagonal for each parameter, None for zero, by its place."""
        return self._sums


def _size(edge: GradientEdge) -> int:
    return prod(edge.node._input_metadata[edge.output_nr].shape)


_KINDS = {"AddmmBackward0": Layer, "MmBackward0": Layer, "ConvolutionBackward0": Convolution}


def layer_of(node: Any, params: dict[int, bool], hess: Tensor | None) -> Layer:
    """Return the layer of a node; see `Layer`."""
    return _KINDS.get(node.name(), Other)(node, params, hess)
