"""Elementwise choices between several tensors: the larger, the smaller, by a condition, bounds.

    h(x_i) = f_i² h(y),   f_i = 1 where y is x_i and 0 elsewhere

A tie counts as PyTorch's own gradient counts it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.registry import Masked, Partials, register_pointwise


def _larger(a: Tensor, b: Tensor, dtype: torch.dtype) -> tuple[Masked, Masked]:
    """Return the slopes of max(a, b); a tie counts half for either."""
    value = 1 - 0.5 * (a == b).to(dtype)
    return Masked(a >= b, value), Masked(b >= a, value)


@register_pointwise("MaximumBackward0", curved=())
def maximum(node: Any) -> Partials:
    """``y = max(a, b)``: the larger one's slope is 1."""
    return _larger(node._saved_self, node._saved_other, node._input_metadata[0].dtype), ()


@register_pointwise("MinimumBackward0", curved=())
def minimum(node: Any) -> Partials:
    """``y = min(a, b)``: the smaller one's slope is 1."""
    slope_b, slope_a = _larger(node._saved_self, node._saved_other, node._input_metadata[0].dtype)
    return (slope_a, slope_b), ()


def _either(first: Tensor) -> Partials:
    return (first, ~first), ()


@register_pointwise("FmaxBackward0", curved=())
def fmax(node: Any) -> Partials:
    """The larger one, or the one that is a number; ``a`` in a tie."""
    a, b = node._saved_self, node._saved_other
    return _either((a >= b) | b.isnan())


@register_pointwise("FminBackward0", curved=())
def fmin(node: Any) -> Partials:
    """The smaller one, or the one that is a number; ``a`` in a tie."""
    a, b = node._saved_self, node._saved_other
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
    """``y = x`` from a bound upwards, the bound included."""
    return _either(node._saved_self >= node._saved_min)


@register_pointwise("ClampMaxBackward1", curved=())
def clamp_max(node: Any) -> Partials:
    """``y = x`` up to a bound, the bound included."""
    return _either(node._saved_self <= node._saved_max)


@register_pointwise("ClampBackward0", curved=())
def clamp(node: Any) -> Partials:
    """``y = min(max(x, low), high)``; the bounds included, and ``high`` where they are crossed."""
    x, low, high = node._saved_self, node._saved_min, node._saved_max
    inside = torch.ones_like(x, dtype=torch.bool)
    f_low = f_high = None
    if low is not None:
        inside = inside & (x >= low)
        f_low = x < low if high is None else (x < low) & (low < high)
    if high is not None:
        inside = inside & (x <= high)
        f_high = x > high if low is None else (x > high) | (high < low)
    return (inside, f_low, f_high), ()


@register_pointwise("CopysignBackward0", curved=())
def copysign(node: Any) -> Partials:
    """``y = ±|a|`` with the sign of b, a jump of slope 0: ``f_a = sign a sign y``."""
    a = node._saved_self
    return (None if a is None else torch.sgn(a) * torch.sgn(node._saved_result), 0.0), ()
