"""Functions of two tensors that broadcast: angles, lengths, sums and products of logarithms.

h(x_i) = f_i² h(y) + f_ii g(y),   with f_i = ∂f/∂x_i;  f_ij counts where paths meet again.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import Coefficient, Partials, register_pointwise
from hesrl.curvature.rules.partials import curved, operand, straight


@register_pointwise("Atan2Backward0")
def atan2(node: Any) -> Partials:
    """The angle of (b, a), r² = a² + b²: ``f_a = b/r²``, ``f_b = −a/r²``.

    ``f_bb = 2ab/r⁴ = −f_aa``, ``f_ab = (a² − b²)/r⁴``; at the origin the slopes are 0.
    """
    a, b = operand(node, node._saved_self), operand(node, node._saved_other)
    square = a * a + b * b
    inverse = torch.where(square == 0, 0.0, square.reciprocal())
    f_a, f_b = b * inverse, -a * inverse
    f_aa = 2 * f_a * f_b
    return (f_a, f_b), ((0, 0, f_aa), (0, 1, f_b * f_b - f_a * f_a), (1, 1, -f_aa))


@register_pointwise("HypotBackward0")
def hypot(node: Any) -> Partials:
    """``y = √(a² + b²)``: ``f_a = a/y``, ``f_aa = (1 − f_a²)/y``, ``f_ab = −f_a f_b/y``."""
    a, b = operand(node, node._saved_self), operand(node, node._saved_other)
    inverse = node._saved_result.reciprocal()
    second: list[tuple[int, int, Coefficient]] = []
    f_a = f_b = None
    if a is not None:
        f_a = a * inverse
        second.append((0, 0, (1 - f_a * f_a) * inverse))
    if b is not None:
        f_b = b * inverse
        second.append((1, 1, (1 - f_b * f_b) * inverse))
    if f_a is not None and f_b is not None:
        second.append((0, 1, -f_a * f_b * inverse))
    return (f_a, f_b), tuple(second)


def _log_add(node: Any, base: float) -> Partials:
    """``y = log(c^a + c^b)`` to base c: ``f_a = p = σ((a−b) log c)``, ``f_aa = p(1−p) log c``."""
    log = math.log(base)
    a, b = operand(node, node._saved_self), operand(node, node._saved_other)
    p = torch.sigmoid((a - b) * log)
    q = 1 - p
    second = p * q * log
    return (p, q), ((0, 0, second), (0, 1, -second), (1, 1, second))


@register_pointwise("LogaddexpBackward0")
def logaddexp(node: Any) -> Partials:
    """``y = log(e^a + e^b)``."""
    return _log_add(node, math.e)


@register_pointwise("Logaddexp2Backward0")
def logaddexp2(node: Any) -> Partials:
    """``y = log₂(2^a + 2^b)``."""
    return _log_add(node, 2)


def _product_with_log(node: Any, a: Any, u: Any) -> Partials:
    """``y = a log u``: ``f_a = log u``, ``f_u = a/u``, ``f_au = 1/u``, ``f_uu = −a/u²``.

    Where ``a = 0`` and ``u ≤ 0``, the value is 0 and the slope ``f_a`` too.
    """
    to_a, to_u = (source is not None for source, _ in node.next_functions)
    f_a = f_u = None
    second: list[tuple[int, int, Coefficient]] = []
    if to_a:
        f_a = torch.where((a == 0) & (u <= 0), 0.0, u.log())
    if to_u:
        inverse = u.reciprocal()
        f_u = a * inverse
        second.append((1, 1, -f_u * inverse))
        if to_a:
            second.append((0, 1, inverse))
    return (f_a, f_u), tuple(second)


def _number_with_log(a: float, u: Tensor) -> Partials:
    """The same for a number a."""
    inverse = u.reciprocal()
    return curved(a * inverse, -a * inverse * inverse)


def _log_as_slope(a: Tensor, u: float) -> Partials:
    """The same for a number u."""
    if u <= 0:
        return straight(torch.where(a == 0, 0.0, -math.inf if u == 0 else math.nan))
    return straight(math.log(u))


@register_pointwise("XlogyBackward0", curved=((0, 1), (1, 1)))
def xlogy(node: Any) -> Partials:
    """``y = a log b``."""
    a, b = operand(node, node._saved_self), operand(node, node._saved_other)
    return _product_with_log(node, a, b)


@register_pointwise("XlogyBackward1")
def number_logy(node: Any) -> Partials:
    """``y = c log b`` for a number c."""
    return _number_with_log(node._saved_self, node._saved_other)


@register_pointwise("XlogyBackward2", curved=())
def xlog_number(node: Any) -> Partials:
    """``y = a log c`` for a number c."""
    return _log_as_slope(node._saved_self, node._saved_other)


@register_pointwise("SpecialXlog1PyBackward0", curved=((0, 1), (1, 1)))
def xlog1py(node: Any) -> Partials:
    """``y = a log(1 + b)``."""
    a, b = operand(node, node._saved_self), operand(node, node._saved_other)
    return _product_with_log(node, a, b + 1)


@register_pointwise("SpecialXlog1PyBackward1")
def number_log1py(node: Any) -> Partials:
    """``y = c log(1 + b)`` for a number c."""
    return _number_with_log(node._saved_self, node._saved_other + 1)


@register_pointwise("SpecialXlog1PyBackward2", curved=())
def xlog1p_number(node: Any) -> Partials:
    """``y = a log(1 + c)`` for a number c."""
    return _log_as_slope(node._saved_self, node._saved_other + 1)
