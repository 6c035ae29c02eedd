"""Embeddings: rows of a table picked by index, one by one or added up in bags.

A row that is picked m times gets ``h`` from each place: h(W)_r = Σ_{i: index_i = r} h(y)_i. In a
bag it is the slope that adds up, and then is squared:

    y_b = Σ_{i in b} s_i W_{index_i}:    h(W)_r = Σ_b (Σ_{i in b: index_i = r} s_i)² h(y)_b
                                         h(s)_i = Σ_d W_{index_i d}² h(y)_{b d}

Both are exact if the Hessian at the output is diagonal. The padding row gets nothing, as in the
gradient. ``scale_grad_by_freq`` divides the gradient by the number of picks, which makes it the
gradient of another function: ``h`` is the curvature of the embedding itself.

Index legend: ``i`` places, ``b`` bags, ``r`` rows of the table, ``d`` features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import register_rule

aten = torch.ops.aten
_SUM, _MEAN = 0, 1
"""Values of a bag's saved mode; the other is the maximum."""


@register_rule("EmbeddingBackward0", linear=True)
def embedding(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``y_i = W_{index_i}``; ``max_norm`` has changed W before and is no part of it."""
    rows, padding = node._saved_weight_sym_argsize_0, _padding(node)
    return aten.embedding_dense_backward(hess_out, node._saved_indices, rows, padding, False)


@register_rule("EmbeddingBagBackward0", linear=True)
def embedding_bag(
    node: Any, grad_out: Tensor, hess_out: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """The sum, weighted or not, the mean (``s_i`` = 1/size of the bag) or the maximum of a bag."""
    rows, mode = node._saved_weight_sym_argsize_0, node._saved_mode
    to_table, to_weights = (source is not None for source, _ in node.next_functions)
    if mode not in (_SUM, _MEAN):
        return _of_maximum(node, hess_out, rows), None
    index, offsets = node._saved_indices, node._saved_offsets
    place = torch.arange(index.numel(), device=index.device, dtype=offsets.dtype)
    bag = torch.searchsorted(offsets, place, right=True) - 1
    counts = index != _padding(node)
    hess_table = hess_weights = None
    if to_table:
        slope = node._saved_per_sample_weights
        slope = counts.to(hess_out.dtype) if slope is None else slope * counts
        if mode == _MEAN:
            slope = slope / node._saved_result2.clamp(min=1)[bag]
        pairs, pair = torch.unique(bag * rows + index, return_inverse=True)
        slope_of_pair = slope.new_zeros(pairs.shape).index_add_(0, pair, slope)
        hess_of_pair = slope_of_pair.square().unsqueeze(1) * hess_out[pairs // rows]
        hess_table = hess_out.new_zeros(rows, hess_out.shape[1])
        hess_table.index_add_(0, pairs % rows, hess_of_pair)
    if to_weights:
        hess_weights = (node._saved_weight[index].square() * hess_out[bag]).sum(1) * counts
    return hess_table, hess_weights


def _of_maximum(node: Any, hess_out: Tensor, rows: int) -> Tensor:
    """Give the curvature to the row that each feature was taken from, except for empty bags."""
    taken = hess_out * (node._saved_result2 > 0).unsqueeze(1)
    hess_table = hess_out.new_zeros(rows, hess_out.shape[1])
    return hess_table.scatter_add_(0, node._saved_result3, taken)


def _padding(node: Any) -> int:
    """Return the index of the padding row, negative if there is none."""
    padding: int = node._saved_padding_idx
    return padding - (1 << 64) if padding >= 1 << 63 else padding
