"""Elementwise operations of several tensors; their inputs broadcast against each other.

    h(x_i) = f_i² h(y) + f_ii g(y),   with f_i = ∂f/∂x_i;  f_ij counts where paths meet again.

Autograd saves an operand only where the gradient of another one needs it: a partial derivative
that is None belongs to an input that takes no gradient.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.registry import Coefficient, Partials, register_pointwise


@register_pointwise("AddBackward0")
def add(node: Any) -> Partials:
    """``y = a + α b``."""
    return (1.0, node._saved_alpha), ()


@register_pointwise("SubBackward0")
def subtract(node: Any) -> Partials:
    """``y = a − α b``."""
    return (1.0, -node._saved_alpha), ()


@register_pointwise("RsubBackward1")
def subtract_from_number(node: Any) -> Partials:
    """``y = c − α a``."""
    return (-node._saved_alpha,), ()


@register_pointwise("MulBackward0")
def multiply(node: Any) -> Partials:
    """``y = a b``: ``f_a = b``, ``f_b = a``, ``f_ab = 1``."""
    return (_factor(node._saved_other), _factor(node._saved_self)), ((0, 1, 1.0),)


def _factor(saved: Tensor | None) -> Coefficient | None:
    """Return a saved factor; as a number if it is one, whose square would be in float32."""
    if saved is not None and saved.dim() == 0 and saved.device.type == "cpu":
        return saved.item()
    return saved


def _inverse(divisor: Any) -> Coefficient:
    """Return 1/divisor; Python has none for the number zero, where tensors have infinity."""
    if isinstance(divisor, Tensor):
        return divisor.reciprocal()
    return 1 / divisor if divisor != 0 else math.inf


@register_pointwise("DivBackward0")
def divide(node: Any) -> Partials:
    """``y = a / b``: ``f_a = 1/b``, ``f_b = −a/b²``, ``f_ab = −1/b²``, ``f_bb = 2a/b³``."""
    a, inverse = node._saved_self, _inverse(_factor(node._saved_other))
    if a is None:
        return (inverse, None), ()
    square = inverse * inverse
    f_b = -a * square
    return (inverse, f_b), ((0, 1, -square), (1, 1, -2 * f_b * inverse))


@register_pointwise("AddBackward1", "SubBackward1")
def shift(node: Any) -> Partials:
    """``y = a ± c`` for a number c, as PyTorch's own composite functions write it."""
    return (1.0,), ()


@register_pointwise("MulBackward1")
def scale(node: Any) -> Partials:
    """``y = c a`` for a number c."""
    return (node._saved_other,), ()


@register_pointwise("DivBackward1")
def scale_down(node: Any) -> Partials:
    """``y = a / c`` for a number c."""
    return (_inverse(node._saved_other),), ()


@register_pointwise("PowBackward1")
def power(node: Any) -> Partials:
    """``y = a^b`` for tensors; nothing depends on b where ``a = 0``, as in the gradient."""
    a, b = node._saved_self, node._saved_exponent
    to_a, to_b = (source is not None for source, _ in node.next_functions)
    f_a = f_b = None
    second = []
    if to_a:
        f_a = torch.where(b == 0, 0.0, b * a ** (b - 1))
        f_aa = torch.where((b == 0) | (b == 1), 0.0, b * (b - 1) * a ** (b - 2))
        second.append((0, 0, f_aa))
    if to_b:
        log = torch.where(a == 0, 0.0, a.log())
        f_b = node._saved_result * log
        second.append((1, 1, f_b * log))
        if to_a:
            second.append((0, 1, a ** (b - 1) * (1 + b * log)))
    return (f_a, f_b), tuple(second)


@register_pointwise("PowBackward2")
def power_of_number(node: Any) -> Partials:
    """``y = c^b`` for a number ``c ≥ 0``; nothing depends on b where ``c = 0``."""
    c = node._saved_self
    log = 0.0 if c == 0 else math.log(c) if c > 0 else math.nan
    f_b = node._saved_result * log
    return (f_b,), ((0, 0, f_b * log),)


def _larger(a: Tensor, b: Tensor, dtype: Any) -> tuple[Tensor, Tensor]:
    """Return the slopes of max(a, b); a tie counts half for either, as in the gradient."""
    tie = (a == b).to(dtype) / 2
    return (a > b).to(dtype) + tie, (b > a).to(dtype) + tie


@register_pointwise("MaximumBackward0")
def maximum(node: Any) -> Partials:
    """``y = max(a, b)``: the larger one's slope is 1."""
    return _larger(node._saved_self, node._saved_other, node._input_metadata[0].dtype), ()


@register_pointwise("MinimumBackward0")
def minimum(node: Any) -> Partials:
    """``y = min(a, b)``: the smaller one's slope is 1."""
    slope_b, slope_a = _larger(node._saved_self, node._saved_other, node._input_metadata[0].dtype)
    return (slope_a, slope_b), ()


@register_pointwise("WhereBackward0")
def where(node: Any) -> Partials:
    """``y = a`` where the condition holds and ``b`` elsewhere."""
    condition = node._saved_condition
    dtype = node._input_metadata[0].dtype
    return (condition.to(dtype), (~condition).to(dtype)), ()


@register_pointwise("AddcmulBackward0")
def addcmul(node: Any) -> Partials:
    """``y = a + c b_1 b_2`` for a number c."""
    b_1, b_2, c = node._saved_tensor1, node._saved_tensor2, node._saved_value
    f_1 = None if b_2 is None else c * b_2
    f_2 = None if b_1 is None else c * b_1
    return (1.0, f_1, f_2), ((1, 2, float(c)),)


@register_pointwise("LerpBackward0")
def lerp(node: Any) -> Partials:
    """``y = a + w (b − a)`` for a number w."""
    w = node._saved_weight
    return (1 - w, w), ()
