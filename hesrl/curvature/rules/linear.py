"""Matrix products: ``z = a W + b`` in the forms that autograd records them.

Bilinear in its two factors, so no second derivative with respect to either one:

    h(a) = h(z) (W∘W)ᵀ,    h(W) = (a∘a)ᵀ h(z),    h(b) = Σ_n h(z)_n

Exact if the Hessian at ``z`` is diagonal. Index legend: ``n`` rows (batch), ``i`` in, ``o`` out.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hesrl.curvature.registry import register_rule


def _product(
    node: Any, first: int, a: Tensor | None, w: Tensor | None, hess_out: Tensor
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
    sources = node.next_functions
    if sources[first][0] is not None and w is not None:
        hess_a = hess_out @ w.square().mT
    if sources[first + 1][0] is not None and a is not None:
        hess_w = a.square().mT @ hess_out
    return hess_a, hess_w


@register_rule("AddmmBackward0", linear=True, layer=True)
def addmm(
    node: Any, grad_out: Tensor, hess_out: Tensor
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """``z = β b + α a w``, a linear layer on a matrix; ``b`` broadcasts over the rows."""
    hess_b = hess_out if node.next_functions[0][0] is not None else None
    if hess_b is not None and node._saved_beta != 1:
        hess_b = hess_b * node._saved_beta**2
    if node._saved_alpha != 1:
        hess_out = hess_out * node._saved_alpha**2
    return hess_b, *_product(node, 1, node._saved_mat1, node._saved_mat2, hess_out)


@register_rule("MmBackward0", "BmmBackward0", linear=True, layer=True)
def matmul(node: Any, grad_out: Tensor, hess_out: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """``z = a w`` for two matrices, or for two stacks of matrices."""
    return _product(node, 0, node._saved_self, node._saved_mat2, hess_out)


@register_rule("MvBackward0", linear=True, layer=True)
def matrix_vector(
    node: Any, grad_out: Tensor, hess_out: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """``z = a w`` for a matrix (n, i) and a vector (i)."""
    a, w = node._saved_self, node._saved_vec
    column = w.unsqueeze(1) if w is not None else None
    hess_a, hess_w = _product(node, 0, a, column, hess_out.unsqueeze(1))
    return hess_a, hess_w.squeeze(1) if hess_w is not None else None


@register_rule("DotBackward0", linear=True, layer=True)
def dot(node: Any, grad_out: Tensor, hess_out: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """``z = Σ_i a_i w_i`` for two vectors."""
    a, w = node._saved_self, node._saved_tensor
    sources = node.next_functions
    return (
        hess_out * w.square() if sources[0][0] is not None and w is not None else None,
        hess_out * a.square() if sources[1][0] is not None and a is not None else None,
    )
