"""Cholesky factors, and what is solved and inverted with them.

Index legend: ``i, j`` the entry of the matrix, ``k, l, m`` rows and columns of the factor, ``b``
columns of a right-hand side.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import register_rule


@register_rule("LinalgCholeskyExBackward0")
def cholesky(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``A = L Lᵀ``, or ``Uᵀ U`` with ``U = Lᵀ``."""
    return _of_factor(node._saved_L, node._saved_upper, grad_out, hess_out)


@register_rule("CholeskyBackward0")
def cholesky_by_its_old_name(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """The same by the deprecated ``torch.cholesky``."""
    return _of_factor(node._saved_result, node._saved_upper, grad_out, hess_out)


def _of_factor(factor: Tensor, upper: bool, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """Return ``h(A)`` for the factor of ``½ (A + Aᵀ)``, as autograd differentiates it.

    With ``R = L⁻¹`` and ``Φ``, which takes the lower triangle with half of the diagonal, a step S
    of the symmetric matrix moves the factor by

        dL = L F,    F = Φ(R S Rᵀ),    d²L = −2 L Φ(F Fᵀ)

    For ``S = ½ (e_i e_jᵀ + e_j e_iᵀ)`` and w = 1, ½ or 0 below, on and above the diagonal

        F_ml = ½ w_ml (R_mi R_lj + R_mj R_li),    dL_kl = ½ (T_lki R_lj + T_lkj R_li)

    where ``T_lki = Σ_m L_km w_ml R_mi``. Exact if the Hessian at the factor is diagonal. It takes
    n⁴ operations and the memory of n³ numbers for a matrix of n rows.
    """
    if upper:
        factor, grad_out, hess_out = factor.mT, grad_out.mT, hess_out.mT
    n = factor.shape[-1]
    identity = torch.eye(n, dtype=factor.dtype, device=factor.device)
    r = torch.linalg.solve_triangular(factor, identity, upper=False)
    w = torch.ones_like(identity).tril() - 0.5 * identity
    half = w * (factor.mT @ grad_out)
    below = w.mT[:, :, None] * r[..., None, :, :]
    moved = factor[..., None, :, :] @ below
    return _over_entries(r, moved, hess_out.mT[..., None] * moved) - _over_entries(
        r, below, (half + half.mT)[..., None, :, :] @ below
    )


def _over_entries(r: Tensor, t: Tensor, weighted: Tensor) -> Tensor:
    """Return ``¼ Σ_lk (R_lj t_lki + R_li t_lkj) (R_lj wt_lki + R_li wt_lkj)`` for all i and j.

    Args:
        r: R (…, l, i).
        t: t (…, l, k, i).
        weighted: wt, of the same shape: a symmetric matrix over k, for each l, times t.
    """
    square = (t * weighted).sum(-2).mT @ r.square()
    cross = (r[..., None, :] * t).flatten(-3, -2).mT @ (r[..., None, :] * weighted).flatten(-3, -2)
    return 0.25 * (square + square.mT) + 0.5 * cross


@register_rule("CholeskySolveBackward0")
def cholesky_solve(
    node: Any, grad_out: Tensor, hess_out: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """``(L Lᵀ) X = B``: ``h(B) = (M∘M)ᵀ h`` with ``M = (L Lᵀ)⁻¹``."""
    to_b, to_l = (source is not None for source, _ in node.next_functions)
    factor, x, upper = node._saved_input2, node._saved_result, node._saved_upper
    m = torch.cholesky_inverse(factor, upper=upper)
    return (
        m.square() @ hess_out if to_b else None,
        _of_solution(factor, upper, m, x, grad_out, hess_out) if to_l else None,
    )


@register_rule("CholeskyInverseBackward0")
def cholesky_inverse(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``X = (L Lᵀ)⁻¹``, the solution for ``B = I``."""
    m = node._saved_result
    return _of_solution(node._saved_self, node._saved_upper, m, m, grad_out, hess_out)


def _of_solution(
    factor: Tensor, upper: bool, m: Tensor, x: Tensor, grad_out: Tensor, hess_out: Tensor
) -> Tensor:
    """Return ``h(L)`` for ``X = M B``, ``M = (L Lᵀ)⁻¹``.

    With ``Q = M L``, ``P = Lᵀ X``, ``G = M g`` and ``C = Lᵀ G``

        ∂X_kb/∂L_ij = −(M_ki P_jb + Q_kj X_ib)
        Σ_kb g_kb ∂²X_kb/∂L_ij² = 2 M_ii Σ_b C_jb P_jb + 2 Q_ij Σ_b (X_ib C_jb + G_ib P_jb)

    Every entry of L counts, as in autograd's gradient. Exact if the Hessian at X is diagonal; n² b
    numbers are kept, and n³ b operations made, for n rows and b columns.
    """
    factor = factor.triu().mT if upper else factor.tril()
    q, p, g = m @ factor, factor.mT @ x, m @ grad_out
    c = factor.mT @ g
    squares = m.square() @ hess_out @ p.square().mT + (x.square() @ hess_out.mT @ q.square())
    left = (m[..., None, :, :] * x.mT[..., :, None, :]).flatten(-3, -2)
    right = (hess_out.mT[..., None] * q[..., None, :, :] * p.mT[..., :, None, :]).flatten(-3, -2)
    diagonal = m.diagonal(dim1=-2, dim2=-1)[..., None] * (c * p).sum(-1)[..., None, :]
    hess = squares + 2 * (left.mT @ right + diagonal + q * (x @ c.mT + g @ p.mT))
    return hess.mT if upper else hess
