"""Elementwise choices between several tensors: the larger, the smaller, by a condition, bounds.

    h(x_i) = f_i² h(y),   f_i = 1 where y is x_i and 0 elsewhere

A tie counts as PyTorch's own gradient counts it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import Partials, register_pointwise
from hesrl.curvature.rules import ties


@register_pointwise("MaximumBackward0", curved=())
def maximum(node: Any) -> Partials:
    """``y = max(a, b)``: the larger one's slope is 1."""
    return ties.larger(node._saved_self, node._saved_other, node._input_metadata[0].dtype), ()


@register_pointwise("MinimumBackward0", curved=())
def minimum(node: Any) -> Partials:
    """``y = min(a, b)``: the smaller one's slope is 1."""
    slope_b, slope_a = ties.larger(
        node._saved_self, node._saved_other, node._input_metadata[0].dtype
    )
    return (slope_a, slope_b), ()


def _either(first: Tensor) -> Partials:
    return (first, ~first), ()


@register_pointwise("FmaxBackward0", curved=())
def fmax(node: Any) -> Partials:
    """The larger one, or the one that is a number."""
    a, b = node._saved_self, node._saved_other
    if ties.SHARED:
        return ties.larger_or_number(a, b, node._input_metadata[0].dtype), ()
    return _either((a >= b) | b.isnan())


@register_pointwise("FminBackward0", curved=())
def fmin(node: Any) -> Partials:
    """The smaller one, or the one that is a number."""
    a, b = node._saved_self, node._saved_other
    if ties.SHARED:
        slope_b, slope_a = ties.larger_or_number(a, b, node._input_metadata[0].dtype)
        return (slope_a, slope_b), ()
    return _either((a <= b) | b.isnan())


@register_pointwise("WhereBackward0", curved=())
def where(node: Any) -> Partials:
    """``y = a`` where the condition holds and ``b`` elsewhere."""
    return _either(node._saved_condition)


@register_pointwise("MaskedFillBackward1", curved=())
def masked_fill(node: Any) -> Partials:
    """``y = a`` outside the mask and the value, a tensor, within."""
    return _either(~node._saved_mask)


@register_pointwise("ClampMinBackward1", curved=())
def clamp_min(node: Any) -> Partials:
    """``y = max(x, low)``: x above a bound."""
    x, low = node._saved_self, node._saved_min
    if ties.SHARED:
        return ties.larger_or_number(x, low, node._input_metadata[0].dtype), ()
    return _either(x >= low)


@register_pointwise("ClampMaxBackward1", curved=())
def clamp_max(node: Any) -> Partials:
    """``y = min(x, high)``: x below a bound."""
    x, high = node._saved_self, node._saved_max
    if ties.SHARED:
        slope_high, slope_x = ties.larger_or_number(x, high, node._input_metadata[0].dtype)
        return (slope_x, slope_high), ()
    return _either(x <= high)


@register_pointwise("ClampBackward0", curved=())
def clamp(node: Any) -> Partials:
    """``y = min(max(x, low), high)``; ``high`` where the bounds are crossed."""
    x, low, high = node._saved_self, node._saved_min, node._saved_max
    dtype = node._input_metadata[0].dtype
    if low is not None and high is not None:
        if ties.SHARED:
            return ties.within(x, low, high, dtype), ()
        return ((x >= low) & (x <= high), (x < low) & (low < high), (x > high) | (high < low)), ()
    if high is None:
        of_x, of_low = ties.larger_or_number(x, low, dtype) if ties.SHARED else (x >= low, x < low)
        return (of_x, of_low, None), ()
    of_high, of_x = ties.larger_or_number(x, high, dtype) if ties.SHARED else (x > high, x <= high)
    return (of_x, None, of_high), ()


@register_pointwise("CopysignBackward0", curved=())
def copysign(node: Any) -> Partials:
    """``y = ±|a|`` with the sign of b, a jump of slope 0: ``f_a = sign a sign y``."""
    a = node._saved_self
    return (None if a is None else torch.sgn(a) * torch.sgn(node._saved_result), 0.0), ()
