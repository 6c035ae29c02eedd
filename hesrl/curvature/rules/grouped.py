"""Grouped matrix products, one for each expert of a mixture: ``Z_e = A_e W_e``.

Each is bilinear in its two factors, as in `hesrl.curvature.rules.linear`:

    h(A_e) = h(Z_e) (W_e∘W_e)ᵀ,    h(W_e) = (A_e∘A_e)ᵀ h(Z_e)

Exact if the Hessian at the output is diagonal. A factor with a dimension for the groups is a stack;
of a matrix, the groups are consecutive rows or columns that end at the offsets. What comes after
the last offset takes part in nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import register_rule


@register_rule("GroupedMmBackward0", linear=True, layer=True)
def grouped_matmul(
    node: Any, grad_out: Tensor, hess_out: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Both factors are matrices or stacks of them, by the kernel of the operation itself."""
    a, w, offsets = node._saved_self, node._saved_mat2, node._saved_offs
    to_a, to_w = (source is not None for source, _ in node.next_functions)
    hess_out = hess_out.contiguous()
    hess_a = hess_w = None
    if to_a:
        hess_a = torch._grouped_mm(hess_out, w.square().mT, offs=offsets)
        if hess_a.dim() == 2:
            hess_a = _until_last(hess_a, offsets, 0 if w.dim() == 3 else 1)
    if to_w:
        hess_w = torch._grouped_mm(a.square().mT, hess_out, offs=offsets)
        if hess_w.dim() == 2:
            hess_w = _until_last(hess_w, offsets, 1 if a.dim() == 3 else 0)
    return hess_a, hess_w


def _until_last(hess: Tensor, offsets: Tensor, dim: int) -> Tensor:
    """Set what comes after the last offset along a dimension, which no kernel writes, to zero."""
    place = torch.arange(hess.shape[dim], device=hess.device)
    return hess.masked_fill_((place if dim else place.unsqueeze(1)) >= offsets[-1], 0.0)
