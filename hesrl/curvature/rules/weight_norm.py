"""Weight normalisation, ``torch.nn.utils.parametrizations.weight_norm``: length and direction.

    w = g u,    u = v/‖v‖

with one length g and one norm ‖v‖ for each index of one dimension; a whole slice of the weight is
normalised together. From the definition in closed form, so exact if the Hessian at ``w`` is
diagonal. Index legend: ``j`` and ``k`` entries of one slice.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hesrl.curvature.rule_registry import register_rule
from hesrl.curvature.rules.softmax import saved_dim


@register_rule("WeightNormInterfaceBackward0")
def weight_norm(
    node: Any, grad_out: Tensor, hess_out: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """``w = g v/‖v‖``, with J_kj = (g/‖v‖) (δ_kj − u_k u_j).

    Σ_k J_kj² h_k = (g/‖v‖)² [ (1 − 2u_j²) h_j + u_j² Σ_k u_k² h_k ]
    Σ_k g(w)_k ∂²w_k/∂v_j² = (g/‖v‖²) [ (3u_j² − 1) Σ_k u_k g(w)_k − 2 u_j g(w)_j ]
    h(g) = Σ_k u_k² h_k
    """
    v, length, norm = node._saved_v, node._saved_g, node._saved_result1
    to_v, to_length = (source is not None for source, _ in node.next_functions)
    dim = saved_dim(node._saved_dim, v.dim())
    others = tuple(d for d in range(v.dim()) if d != dim)
    u = v / norm
    square = u * u
    hess_along = _sum(square * hess_out, others)
    if not to_v:
        return None, hess_along
    grad_along = _sum(u * grad_out, others)
    ratio = length / norm
    jacobian = (1 - 2 * square) * hess_out + square * hess_along
    second = (3 * square - 1) * grad_along - 2 * u * grad_out
    hess_v = ratio * (ratio * jacobian + second / norm)
    return hess_v, hess_along if to_length else None


def _sum(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    return x.sum(dims, keepdim=True) if dims else x
