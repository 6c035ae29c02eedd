"""Matrix products: ``z = a W + b`` in the forms that autograd records them.

Bilinear in its two factors, so no second derivative with respect to either one:

    h(a) = h(z) (W∘W)ᵀ,    h(W) = (a∘a)ᵀ h(z),    h(b) = Σ_n h(z)_n

Exact if the Hessian at ``z`` is diagonal. Index legend: ``n`` rows (batch), ``i`` in, ``o`` out.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from hesrl.curvature.rule_registry import (
    Local,
    Partials,
    Pointwise,
    register_pointwise,
    register_rule,
)
from hesrl.curvature.rules.arithmetic import multiply

Hessians: TypeAlias = "tuple[Tensor | None, ...]"


def _product(
    node: Any,
    first: int,
    a: Tensor | None,
    w: Tensor | None,
    hess_out: Tensor,
) -> tuple[Tensor | None, Tensor | None]:
    """Return ``h`` of both factors of ``z = a w`` (matrices, or stacks of them).

    Args:
        node: The node of the product.
        first: Position of ``a`` among its inputs; ``w`` comes next.
        a: Left factor (…, n, i), or None if it was not saved.
        w: Right factor (…, i, o), or None if it was not saved.
        hess_out: (…, n, o).
    """
    hess_a = hess_w = None
    (to_a, _), (to_w, _) = node.next_functions[first : first + 2]
    if to_a is not None and w is not None:
        hess_a = hess_out @ (w * w).mT
    if to_w is not None and a is not None:
        hess_w = (a * a).mT @ hess_out
    return hess_a, hess_w


def _apart(node: Any, hess_out: Tensor) -> tuple[Tensor | None, Tensor]:
    """Return ``h`` of ``b`` and of the product in ``z = β b + α a w``: ``β² Σ h`` and ``α² h``.

    The sum is over the rows, or whatever else ``b`` broadcasts along.
    """
    beta, alpha = node._saved_beta, node._saved_alpha
    source, output = node.next_functions[0]
    hess_b = None
    if source is not None:
        shape = tuple(source._input_metadata[output].shape)
        is_bias = len(shape) == 1 == hess_out.dim() - 1 and shape[0] == hess_out.shape[1]
        hess_b = hess_out.sum(0) if is_bias else hess_out.sum_to_size(shape)
        hess_b = hess_b if beta == 1 else hess_b * beta**2
    return hess_b, hess_out if alpha == 1 else hess_out * alpha**2


@register_rule("AddmmBackward0", linear=True, layer=True)
def addmm(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """``z = β b + α a w``, a linear layer on a matrix."""
    hess_b, hess_out = _apart(node, hess_out)
    return hess_b, *_product(node, 1, node._saved_mat1, node._saved_mat2, hess_out)


@register_rule("AddbmmBackward0", "BaddbmmBackward0", linear=True, layer=True)
def addbmm(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """The same for stacks of matrices, whose products are added up or not."""
    hess_b, hess_out = _apart(node, hess_out)
    return hess_b, *_product(node, 1, node._saved_batch1, node._saved_batch2, hess_out)


@register_rule("MmBackward0", "BmmBackward0", linear=True, layer=True)
def matmul(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """``z = a w`` for two matrices, or for two stacks of matrices."""
    return _product(node, 0, node._saved_self, node._saved_mat2, hess_out)


def _linear_layer(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """``z = β b + α a Wᵀ`` at the product: ``h(W) = h(z)ᵀ (a∘a)``, without the transposition."""
    hess_b, hess_out = _apart(node, hess_out)
    return hess_b, *_by_weight(node, 1, node._saved_mat1, node._saved_mat2, hess_out)


def _linear_layer_without_bias(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """``z = a Wᵀ``, likewise."""
    return _by_weight(node, 0, node._saved_self, node._saved_mat2, hess_out)


def _by_weight(
    node: Any, first: int, a: Tensor | None, w: Tensor | None, hess_out: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """`_product`, but with the curvature of ``W = wᵀ`` (o, i), not of ``w``."""
    (to_a, _), (to_w, _) = node.next_functions[first : first + 2]
    return (
        F.linear(hess_out, w * w) if to_a is not None and w is not None else None,
        hess_out.t() @ (a * a) if to_w is not None and a is not None else None,
    )


LINEAR_LAYERS = {
    "AddmmBackward0": Local(_linear_layer, linear=True, layer=True),
    "MmBackward0": Local(_linear_layer_without_bias, linear=True, layer=True),
}
"""The rule of a product with a transposed matrix, by the node of the product."""


OUTER_PRODUCT = Pointwise(multiply, curved=((0, 1),), layer=True)
"""The rule of ``z_no = Σ_i a_ni w_io`` by einsum where i has size one: a layer, and elementwise.

Each factor lacks a dimension of the other. Where one has them all (``a_ni w_nio``, a weight for
every sample) the graph is the same as for an elementwise product, ``a_ni w_i``, which is no layer.
"""


@register_rule("MvBackward0", linear=True, layer=True)
def matrix_vector(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """``z = a w`` for a matrix (n, i) and a vector (i)."""
    return _matrix_vector(node, 0, node._saved_self, hess_out)


@register_rule("AddmvBackward0", linear=True, layer=True)
def addmv(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """``z = β b + α a w`` for a matrix (n, i) and a vector (i)."""
    hess_b, hess_out = _apart(node, hess_out)
    return hess_b, *_matrix_vector(node, 1, node._saved_mat, hess_out)


def _matrix_vector(node: Any, first: int, a: Tensor | None, hess_out: Tensor) -> Hessians:
    """`_product` with a vector, as a matrix of one column."""
    w = _column(node._saved_vec, 1)
    hess_a, hess_w = _product(node, first, a, w, hess_out.unsqueeze(1))
    return hess_a, hess_w.squeeze(1) if hess_w is not None else None


def _column(vector: Tensor | None, dim: int) -> Tensor | None:
    """Return a vector as a matrix with size 1 along a dimension, None if it was not saved."""
    return vector.unsqueeze(dim) if vector is not None else None


@register_rule("AddrBackward0", linear=True, layer=True)
def addr(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """``z = β b + α a wᵀ`` for two vectors (n) and (o)."""
    hess_b, hess_out = _apart(node, hess_out)
    a, w = _column(node._saved_vec1, 1), _column(node._saved_vec2, 0)
    hess_a, hess_w = _product(node, 1, a, w, hess_out)
    return (
        hess_b,
        hess_a.squeeze(1) if hess_a is not None else None,
        hess_w.squeeze(0) if hess_w is not None else None,
    )


@register_pointwise("DotBackward0", curved=((0, 1),), reduces=True, layer=True)
def dot(node: Any) -> Partials:
    """``z = Σ_i a_i w_i`` for two vectors: a layer, and the sum of an elementwise product."""
    return _dot(node._saved_self, node._saved_tensor)


@register_pointwise("VdotBackward0", curved=((0, 1),), reduces=True, layer=True)
def vdot(node: Any) -> Partials:
    """The same, under the name that it has for complex vectors."""
    return _dot(node._saved_self, node._saved_other)


def _dot(a: Tensor | None, w: Tensor | None) -> Partials:
    return (w, a), () if a is None or w is None else ((0, 1, torch.ones_like(a)),)


@register_rule("TrilinearBackward0", linear=True, layer=True)
def trilinear(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """``z_no = Σ_ij a_ni w_oij c_nj``, a bilinear layer, and whatever has three such factors.

    h(a)_ni = Σ_o (Σ_j w_oij c_nj)² h_no,    h(w)_oij = Σ_n a_ni² c_nj² h_no,    c as a

    Of n, o, i and j the node lists those that each factor lacks, and those that are summed over.
    """
    factors = node._saved_i1, node._saved_i2, node._saved_i3
    every = range(hess_out.dim() + len(node._saved_sumdim))
    lacking = node._saved_expand1, node._saved_expand2, node._saved_expand3, node._saved_sumdim
    *dims, dims_out = ([d for d in every if d not in without] for without in lacking)
    hess_in: list[Tensor | None] = []
    for k, (source, _) in enumerate(node.next_functions):
        if source is None:
            hess_in.append(None)
            continue
        i, j = (n for n in range(3) if n != k)
        of_slope = [
            d for d in every if d in {*dims[i], *dims[j]} and (d in dims[k] or d in dims_out)
        ]
        slope = torch.einsum(factors[i], dims[i], factors[j], dims[j], of_slope)
        hess_in.append(torch.einsum(slope.square(), of_slope, hess_out, dims_out, dims[k]))
    return tuple(hess_in)
