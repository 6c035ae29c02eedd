"""Arithmetic of several tensors; the inputs of an operation broadcast against each other.

    h(x_i) = f_i² h(y) + f_ii g(y),   with f_i = ∂f/∂x_i;  f_ij counts where paths meet again.

Autograd saves an operand only where the gradient of another one needs it: a partial derivative
that is None belongs to an input that takes no gradient.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.coefficients import is_mask
from hesrl.curvature.rule_registry import Coefficient, Partials, register_pointwise
from hesrl.curvature.rules.partials import operand


@register_pointwise("AddBackward0", constant=True)
def add(node: Any) -> Partials:
    """``y = a + α b``."""
    return (1.0, node._saved_alpha), ()


@register_pointwise("SubBackward0", constant=True)
def subtract(node: Any) -> Partials:
    """``y = a − α b``."""
    return (1.0, -node._saved_alpha), ()


@register_pointwise("RsubBackward0", constant=True)
def subtract_from(node: Any) -> Partials:
    """``y = b − α a``."""
    return (-node._saved_alpha, 1.0), ()


@register_pointwise("RsubBackward1", constant=True)
def subtract_from_number(node: Any) -> Partials:
    """``y = c − α a``."""
    return (-node._saved_alpha,), ()


@register_pointwise("MulBackward0", curved=((0, 1),))
def multiply(node: Any) -> Partials:
    """``y = a b``: ``f_a = b``, ``f_b = a``, ``f_ab = 1``."""
    return (_factor(node, node._saved_other), _factor(node, node._saved_self)), ((0, 1, 1.0),)


def _factor(node: Any, saved: Tensor | None) -> Any:
    """Return a saved factor; as a number if it is one, whose square would be in float32."""
    if saved is not None and saved.dim() == 0 and saved.device.type == "cpu":
        return saved.item()
    return saved if is_mask(saved) else operand(node, saved)


def _inverse(divisor: Any) -> Tensor | float:
    """Return 1/divisor; Python has none for the number zero, where tensors have infinity."""
    if isinstance(divisor, Tensor):
        return divisor.reciprocal()
    return 1 / divisor if divisor != 0 else math.inf


@register_pointwise("DivBackward0", curved=((0, 1), (1, 1)))
def divide(node: Any) -> Partials:
    """``y = a / b``: ``f_a = 1/b``, ``f_b = −a/b²``, ``f_ab = −1/b²``, ``f_bb = 2a/b³``."""
    a = operand(node, node._saved_self)
    inverse = _inverse(_factor(node, node._saved_other))
    if a is None:
        return (inverse, None), ()
    negative = -inverse
    f_ab = negative * inverse
    f_b = a * f_ab
    return (inverse, f_b), ((0, 1, f_ab), (1, 1, (f_b + f_b) * negative))


@register_pointwise("DivBackward2", curved=((0, 1), (1, 1)))
def divide_and_round(node: Any) -> Partials:
    """``a / b``, or if it is rounded, a step function of slope 0."""
    if node._saved_rounding_mode is None:
        return divide(node)
    return (0.0, 0.0), ()


@register_pointwise("AddBackward1", "SubBackward1", constant=True)
def shift(node: Any) -> Partials:
    """``y = a ± c`` for a number c, as PyTorch's own composite functions write it."""
    return (1.0,), ()


@register_pointwise("MulBackward1", constant=True)
def scale(node: Any) -> Partials:
    """``y = c a`` for a number c."""
    return (node._saved_other,), ()


@register_pointwise("DivBackward1", constant=True)
def scale_down(node: Any) -> Partials:
    """``y = a / c`` for a number c."""
    return (_inverse(node._saved_other),), ()


@register_pointwise("DivBackward3", constant=True)
def scale_down_and_round(node: Any) -> Partials:
    """The same, or if it is rounded, a step function of slope 0."""
    return scale_down(node) if node._saved_rounding_mode is None else ((0.0,), ())


@register_pointwise("FmodBackward1", "RemainderBackward1", curved=())
def remainder(node: Any) -> Partials:
    """``y = a − n b``, where n is ``a/b`` rounded: to zero for fmod, down for the remainder."""
    a, b = operand(node, node._saved_self), operand(node, node._saved_other)
    if node.next_functions[1][0] is None:
        return (1.0, None), ()
    mode = "trunc" if node.name().startswith("Fmod") else "floor"
    return (1.0, -torch.div(a, b, rounding_mode=mode)), ()


@register_pointwise("PowBackward1")
def power(node: Any) -> Partials:
    """``y = a^b`` for tensors; nothing depends on b where ``a = 0``, as in the gradient."""
    a, b = operand(node, node._saved_self), operand(node, node._saved_exponent)
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


@register_pointwise("LdexpBackward0", curved=((0, 1), (1, 1)))
def scale_by_power_of_two(node: Any) -> Partials:
    """``y = a 2^b``: ``f_a = 2^b``, ``f_b = y log 2``; another derivative by b, another log 2."""
    to_a, to_b = (source is not None for source, _ in node.next_functions)
    log = math.log(2)
    f_a = torch.exp2(operand(node, node._saved_other)) if to_a else None
    f_b = node._saved_result * log if to_b else None
    second: list[tuple[int, int, Coefficient]] = []
    if f_b is not None:
        second.append((1, 1, f_b * log))
        if f_a is not None:
            second.append((0, 1, f_a * log))
    return (f_a, f_b), tuple(second)


@register_pointwise("AddcmulBackward0", curved=((1, 2),))
def add_product(node: Any) -> Partials:
    """``y = a + c b_1 b_2`` for a number c."""
    b_1, b_2 = operand(node, node._saved_tensor1), operand(node, node._saved_tensor2)
    c = node._saved_value
    f_1 = None if b_2 is None else c * b_2
    f_2 = None if b_1 is None else c * b_1
    return (1.0, f_1, f_2), ((1, 2, float(c)),)


@register_pointwise("AddcdivBackward0", curved=((1, 2), (2, 2)))
def add_quotient(node: Any) -> Partials:
    """``y = a + c b_1 / b_2`` for a number c."""
    b_1, b_2 = operand(node, node._saved_tensor1), operand(node, node._saved_tensor2)
    c = node._saved_value
    if b_2 is None:
        return (1.0, None, None), ()
    inverse = b_2.reciprocal()
    f_1 = c * inverse
    if b_1 is None:
        return (1.0, f_1, None), ()
    f_2 = -b_1 * f_1 * inverse
    return (1.0, f_1, f_2), ((1, 2, -f_1 * inverse), (2, 2, -2 * f_2 * inverse))


@register_pointwise("LerpBackward0", constant=True)
def lerp(node: Any) -> Partials:
    """``y = a + w (b − a)`` for a number w."""
    w = node._saved_weight
    return (1 - w, w), ()


@register_pointwise("LerpBackward1", curved=((0, 2), (1, 2)))
def lerp_by_tensor(node: Any) -> Partials:
    """``y = a + w (b − a)``: ``f_w = b − a``, ``f_aw = −1``, ``f_bw = 1``."""
    a, b, w = node._saved_self, node._saved_end, node._saved_weight
    f_a, f_b = (None, None) if w is None else (1 - w, w)
    f_w = None if a is None or b is None else b - a
    return (f_a, f_b, f_w), ((0, 2, -1.0), (1, 2, 1.0))
