"""Entries of one tensor written to, or added at, places in another; out of place or in place.

What is written has coefficients 0 and 1, and so has what remains: ``h = Jᵀ h(y)`` for both, the
gradient's own map. All are exact.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hesrl.curvature.rule_registry import register_adjoint, register_rule

register_adjoint(
    "AsStridedScatterBackward0",
    "DiagonalScatterBackward0",
    "FillBackward3",
    "IndexCopyBackward0",
    "IndexFillBackward0",
    "IndexFillBackward1",
    "IndexPutBackward0",
    "MaskedScatterBackward0",
    "PutBackward0",
    "ScatterAddBackward0",
    "ScatterBackward0",
    "ScatterBackward1",
    "SelectScatterBackward0",
    "SliceScatterBackward0",
    "torch::autograd::CopyBackwards",
    # In place on a view, where `hesrl.curvature.rules.in_place` finds no other coefficients.
    "torch::autograd::CopySlices",
)


@register_rule("IndexAddBackward0", linear=True)
def index_add(
    node: Any, grad_out: Tensor | None, hess_out: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """``y = a`` with ``α b`` added at some indices: the gradient's own map has α, ``h`` has α²."""
    hess_a, hess_b = node(hess_out)
    return hess_a, None if hess_b is None else node._saved_alpha * hess_b
