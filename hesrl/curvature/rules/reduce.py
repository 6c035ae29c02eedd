"""Reductions over dimensions: sum, mean, and the largest or smallest entry."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hesrl.curvature.registry import register_adjoint, register_rule

register_adjoint(
    "SumBackward0",
    "SumBackward1",
    # The entry that is largest or smallest along a dimension, by its index.
    "MaxBackward0",
    "MinBackward0",
)


@register_rule("MeanBackward0", linear=True)
def mean(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``y = (1/N) Σ_n x_n``: ``h(x) = h(y)/N²``; the gradient's own map divides by N once."""
    return node(hess_out) / node._saved_self_sym_numel


@register_rule("MeanBackward1", linear=True)
def mean_over_dimensions(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """The same for a mean over some dimensions; N is the number of entries in each mean."""
    return node(hess_out) * (hess_out.numel() / node._saved_self_sym_numel)
