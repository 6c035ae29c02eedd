"""Reductions of groups of entries, which an index or the lengths of segments tell apart.

Each entry of an input reaches one entry of the output at most. The gradient's own map, applied to
ones, is therefore its slope, and nothing has a second derivative with respect to any one entry:

    h(x)_j = f_j² h(y)_{k(j)},   f_j = ∂y_{k(j)}/∂x_j

This holds for the sum, the mean, the product, the largest and the smallest entry of a group. Ties
share the slope as in the gradient. All are exact.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import register_rule
from hesrl.curvature.rules.softmax import saved_dim

Hessians: TypeAlias = "tuple[Tensor | None, Tensor | None]"


@register_rule("ScatterReduceBackward0", linear=True, separate=True)
def scatter_reduce(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """Entries reduced into the places of a tensor that an index of their shape tells."""
    dim = saved_dim(node._saved_dim, hess_out.dim())
    return _reduced(node, hess_out, hess_out.gather(dim, node._saved_index))


@register_rule("IndexReduceBackward0", linear=True, separate=True)
def index_reduce(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """Slices reduced into the slices of a tensor that an index tells."""
    dim = saved_dim(node._saved_dim, hess_out.dim())
    return _reduced(node, hess_out, hess_out.index_select(dim, node._saved_index))


def _reduced(node: Any, hess_out: Tensor, of_source: Tensor) -> Hessians:
    """Return ``h`` of the tensor and of what is reduced into it.

    Args:
        node: The node.
        hess_out: The curvature of the output, which has the tensor's shape.
        of_source: The curvature of the output at the places that the source's entries go to.
    """
    slope, slope_of_source = node(torch.ones_like(hess_out))
    return (
        None if slope is None else slope.square() * hess_out,
        None if slope_of_source is None else slope_of_source.square() * of_source,
    )


@register_rule("SegmentReduceBackward0", linear=True, separate=True)
def segment_reduce(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """Segments of consecutive entries along a dimension; the map of their sum spreads ``h``."""
    slope: Tensor = node(torch.ones_like(hess_out))
    spread: Tensor = torch.ops.aten._segment_reduce_backward(
        hess_out,
        node._saved_result,
        node._saved_data,
        "sum",
        lengths=node._saved_lengths,
        offsets=node._saved_offsets,
        axis=saved_dim(node._saved_axis, slope.dim()),
    )
    return slope.square() * spread
