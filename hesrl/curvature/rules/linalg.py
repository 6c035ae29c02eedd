"""Linear systems, inverses, determinants and cross products.

With ``M = A⁻¹``, a step ``dA`` of the matrix in ``A X = B`` moves the solution by ``−M dA X``, so
that for one entry of A

    ∂X_kb/∂A_ij = −M_ki X_jb,    ∂²X_kb/∂A_ij² = 2 M_ki M_ji X_jb

and the definition is a product of matrices:

    h(B) = (M∘M)ᵀ h(X),    h(A) = (M∘M)ᵀ h(X) (X∘X)ᵀ + 2 Mᵀ ∘ (Mᵀ g(X) Xᵀ)

Exact if the Hessian at the output is diagonal. Beside the products it costs an inverse,
n³ a matrix. Index legend: ``i, j, k`` rows and columns of A, ``b`` columns of B.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import register_rule
from hesrl.curvature.rules.softmax import saved_dim

Hessians: TypeAlias = "tuple[Tensor | None, ...]"


def _of_matrix(m: Tensor, x: Tensor, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """Return ``h(A) = (M∘M)ᵀ h (X∘X)ᵀ + 2 Mᵀ ∘ (Mᵀ g Xᵀ)`` for ``X = M B``.

    Args:
        m: M = A⁻¹ (…, n, n).
        x: X (…, n, b).
        grad_out: g(X), of the same shape.
        hess_out: h(X), likewise.
    """
    square = m.square().mT @ hess_out @ x.square().mT
    return square + 2 * m.mT * (m.mT @ grad_out @ x.mT)


def _of_system(
    node: Any, m: Tensor, x: Tensor, left: bool, grad_out: Tensor, hess_out: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Return ``h`` of A and of B, the inputs of a node, for ``A X = B`` or ``X A = B``.

    The second is the first for the transposed matrices.
    """
    to_a, to_b = (source is not None for source, _ in node.next_functions)
    if not left:
        m, x, grad_out, hess_out = m.mT, x.mT, grad_out.mT, hess_out.mT
    hess_a = _of_matrix(m, x, grad_out, hess_out) if to_a else None
    hess_b = m.square().mT @ hess_out if to_b else None
    if not left:
        hess_a = hess_a.mT if hess_a is not None else None
        hess_b = hess_b.mT if hess_b is not None else None
    return hess_a, hess_b


def _identity_like(a: Tensor) -> Tensor:
    return torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)


def _triangle(a: Tensor, upper: bool, unitriangular: bool) -> Tensor:
    """Return the entries that a triangular solver reads of a matrix; it takes the rest for 0."""
    return a.triu(int(unitriangular)) if upper else a.tril(-int(unitriangular))


@register_rule("LinalgSolveExBackward0")
def solve(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """``A X = B`` or ``X A = B``, where X may be one vector a matrix."""
    a, x, left = node._saved_A, node._saved_result, node._saved_left
    m = torch.linalg.inv(a)
    if x.dim() >= a.dim():
        return _of_system(node, m, x, left, grad_out, hess_out)
    columns = (t.unsqueeze(-1) for t in (x, grad_out, hess_out))
    x, grad_out, hess_out = columns
    hess_a, hess_b = _of_system(node, m, x, left, grad_out, hess_out)
    return hess_a, hess_b.squeeze(-1) if hess_b is not None else None


@register_rule("LinalgSolveTriangularBackward0")
def solve_triangular(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """The same for a triangular A, whose other entries take part in nothing."""
    a, x, left = node._saved_self, node._saved_result, node._saved_left
    upper, unitriangular = node._saved_upper, node._saved_unitriangular
    m = torch.linalg.solve_triangular(
        a, _identity_like(a), upper=upper, unitriangular=unitriangular
    )
    hess_a, hess_b = _of_system(node, m, x, left, grad_out, hess_out)
    return _triangle(hess_a, upper, unitriangular) if hess_a is not None else None, hess_b


@register_rule("TriangularSolveBackward0")
def triangular_solve(node: Any, grads: Any, hessians: Any) -> Hessians:
    """The deprecated ``torch.triangular_solve``, of B and A, which also returns a copy of A."""
    a, x, transpose = node._saved_A, node._saved_solution, node._saved_transpose
    upper, unitriangular = node._saved_upper, node._saved_unitriangular
    grad_out, hess_out = (torch.zeros_like(x) if t[0] is None else t[0] for t in (grads, hessians))
    to_b, to_a = (source is not None for source, _ in node.next_functions)
    m = torch.linalg.solve_triangular(
        a, _identity_like(a), upper=upper, unitriangular=unitriangular
    )
    m = m.mT if transpose else m
    hess_a = hessians[1]
    if to_a:
        hess = _of_matrix(m, x, grad_out, hess_out)
        hess = _triangle(hess.mT if transpose else hess, upper, unitriangular)
        hess_a = hess if hess_a is None else hess + hess_a
    return m.square().mT @ hess_out if to_b else None, hess_a


@register_rule("LinalgInvExBackward0")
def inverse(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``X = A⁻¹``, the solution for ``B = I``."""
    m = node._saved_inverse
    return _of_matrix(m, m, grad_out, hess_out)


@register_rule("LinalgDetBackward0", linear=True)
def determinant(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``y = det A`` is linear in each entry, with its cofactor C as the slope: ``h(A) = C² h``."""
    cofactors: Tensor = node(torch.ones_like(hess_out))
    return cofactors.square() * hess_out[..., None, None]


@register_rule("LinalgSlogdetBackward0")
def log_determinant(node: Any, grads: Any, hessians: Any) -> Tensor | None:
    """``y = log |det A|``: ``∂y/∂A_ij = M_ji``, ``∂²y/∂A_ij² = −M_ji²``; the sign is constant."""
    (_, grad_out), (_, hess_out) = grads, hessians
    if grad_out is None and hess_out is None:
        return None
    hess_out = 0 if hess_out is None else hess_out[..., None, None]
    grad_out = 0 if grad_out is None else grad_out[..., None, None]
    return torch.linalg.inv(node._saved_A).mT.square() * (hess_out - grad_out)


@register_rule("LinalgCrossBackward0", linear=True)
def cross_product(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """``y = a × b``: ``h(a)_j = b_{j+1}² h_{j−1} + b_{j−1}² h_{j+1}`` modulo 3, and so for b."""
    dim = saved_dim(node._saved_dim, hess_out.dim())
    before, after = hess_out.roll(1, dim), hess_out.roll(-1, dim)

    def of_factor(other: Tensor) -> Tensor:
        square = other.square()
        return square.roll(-1, dim) * before + square.roll(1, dim) * after

    to_a, to_b = (source is not None for source, _ in node.next_functions)
    return (
        of_factor(node._saved_other) if to_a else None,
        of_factor(node._saved_self) if to_b else None,
    )
