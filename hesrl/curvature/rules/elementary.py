"""Elementary functions of one tensor: powers, exponentials, logarithms, circle and hyperbola.

    h(x) = f'(x)² h(y) + f''(x) g(y)

Each is written in what its node saved, ``x`` or ``y = f(x)``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import Partials, register_pointwise
from hesrl.curvature.rules.partials import curved, straight


def _exp_alone(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``h(x) = y (y h(y) + g(y))``."""
    y = node._saved_result
    return y * torch.addcmul(grad_out, y, hess_out)


@register_pointwise("ExpBackward0", alone=_exp_alone)
def exp(node: Any) -> Partials:
    """``f' = f'' = y``."""
    y = node._saved_result
    return curved(y, y)


@register_pointwise("Exp2Backward0")
def exp2(node: Any) -> Partials:
    """``f' = y log 2``, ``f'' = y log² 2``."""
    df = node._saved_result * math.log(2)
    return curved(df, df * math.log(2))


@register_pointwise("Expm1Backward0")
def expm1(node: Any) -> Partials:
    """``f' = f'' = y + 1``."""
    df = node._saved_result + 1
    return curved(df, df)


def _logarithm(x: Tensor, base: float) -> Partials:
    """``f' = 1/(x log b)``, ``f'' = −1/(x² log b)``."""
    inverse = x.reciprocal()
    df = inverse / math.log(base)
    return curved(df, -(inverse * df))


@register_pointwise("LogBackward0")
def log(node: Any) -> Partials:
    """``f' = 1/x``, ``f'' = −1/x²``."""
    df = node._saved_self.reciprocal()
    return curved(df, -(df * df))


@register_pointwise("Log2Backward0")
def log2(node: Any) -> Partials:
    """The logarithm to base 2."""
    return _logarithm(node._saved_self, 2)


@register_pointwise("Log10Backward0")
def log10(node: Any) -> Partials:
    """The logarithm to base 10."""
    return _logarithm(node._saved_self, 10)


@register_pointwise("Log1PBackward0")
def log1p(node: Any) -> Partials:
    """``f' = 1/(1+x)``, ``f'' = −1/(1+x)²``."""
    df = (1 + node._saved_self).reciprocal()
    return curved(df, -(df * df))


@register_pointwise("SqrtBackward0")
def sqrt(node: Any) -> Partials:
    """``f' = 1/(2y)``, ``f'' = −1/(4y³)``."""
    inverse = node._saved_result.reciprocal()
    return curved(0.5 * inverse, -0.25 * inverse**3)


@register_pointwise("RsqrtBackward0")
def rsqrt(node: Any) -> Partials:
    """``f' = −y³/2``, ``f'' = 3y⁵/4``."""
    y = node._saved_result
    return curved(-0.5 * y**3, 0.75 * y**5)


@register_pointwise("ReciprocalBackward0")
def reciprocal(node: Any) -> Partials:
    """``f' = −y²``, ``f'' = 2y³``."""
    y = node._saved_result
    square = y * y
    return curved(-square, 2 * square * y)


@register_pointwise("PowBackward0")
def power(node: Any) -> Partials:
    """``y = x^n`` for a number n: ``f' = n x^{n−1}``, ``f'' = n (n−1) x^{n−2}``."""
    x, n = node._saved_self, node._saved_exponent
    if n == 2:
        return curved(x + x, 2.0)
    if n in (0, 1):
        return straight(float(n))
    return curved(n * x ** (n - 1), n * (n - 1) * x ** (n - 2))


@register_pointwise("SinBackward0")
def sin(node: Any) -> Partials:
    """``f' = cos x``, ``f'' = −sin x``."""
    x = node._saved_self
    return curved(torch.cos(x), -torch.sin(x))


@register_pointwise("CosBackward0")
def cos(node: Any) -> Partials:
    """``f' = −sin x``, ``f'' = −cos x``."""
    x = node._saved_self
    return curved(-torch.sin(x), -torch.cos(x))


@register_pointwise("TanBackward0")
def tan(node: Any) -> Partials:
    """``f' = 1 + y²``, ``f'' = 2 y f'``."""
    y = node._saved_result
    df = 1 + y * y
    return curved(df, 2 * (y * df))


def _arcsine(x: Tensor) -> tuple[Tensor, Tensor]:
    """``f' = 1/√(1 − x²)``, ``f'' = x f'³``."""
    df = (1 - x * x).rsqrt()
    return df, x * df**3


@register_pointwise("AsinBackward0")
def asin(node: Any) -> Partials:
    """``f' = 1/√(1 − x²)``, ``f'' = x f'³``."""
    return curved(*_arcsine(node._saved_self))


@register_pointwise("AcosBackward0")
def acos(node: Any) -> Partials:
    """``π/2 − asin x``."""
    df, d2f = _arcsine(node._saved_self)
    return curved(-df, -d2f)


@register_pointwise("AtanBackward0")
def atan(node: Any) -> Partials:
    """``f' = 1/(1 + x²)``, ``f'' = −2 x f'²``."""
    x = node._saved_self
    df = (1 + x * x).reciprocal()
    return curved(df, -2 * (x * df * df))


@register_pointwise("SinhBackward0")
def sinh(node: Any) -> Partials:
    """``f' = cosh x``, ``f'' = sinh x``."""
    x = node._saved_self
    return curved(torch.cosh(x), torch.sinh(x))


@register_pointwise("CoshBackward0")
def cosh(node: Any) -> Partials:
    """``f' = sinh x``, ``f'' = cosh x``."""
    x = node._saved_self
    return curved(torch.sinh(x), torch.cosh(x))


@register_pointwise("AsinhBackward0")
def asinh(node: Any) -> Partials:
    """``f' = 1/√(x² + 1)``, ``f'' = −x f'³``."""
    x = node._saved_self
    df = (x * x + 1).rsqrt()
    return curved(df, -x * df**3)


@register_pointwise("AcoshBackward0")
def acosh(node: Any) -> Partials:
    """``f' = 1/√(x² − 1)``, ``f'' = −x f'³``."""
    x = node._saved_self
    df = (x * x - 1).rsqrt()
    return curved(df, -x * df**3)


@register_pointwise("AtanhBackward0")
def atanh(node: Any) -> Partials:
    """``f' = 1/(1 − x²)``, ``f'' = 2 x f'²``."""
    x = node._saved_self
    df = (1 - x * x).reciprocal()
    return curved(df, 2 * (x * df * df))


@register_pointwise("SincBackward0")
def sinc(node: Any) -> Partials:
    """``y = sin u / u``, u = πx: ``x f' = cos u − y``, ``x f'' = −π sin u − 2f'``; a series near 0.

    y = Σ_k (−1)^k u^{2k} / (2k+1)!
    """
    x = node._saved_self
    u = math.pi * x
    near = u.abs() < 0.5
    away = torch.where(near, 1.0, x)
    df = (torch.cos(u) - torch.sinc(x)) / away
    d2f = (-math.pi * torch.sin(u) - 2 * df) / away
    square = u * u
    slope, bend = torch.zeros_like(u), torch.zeros_like(u)
    for k in range(7, 0, -1):
        c = (-1) ** k / math.factorial(2 * k + 1)
        slope = slope * square + 2 * k * c
        bend = bend * square + 2 * k * (2 * k - 1) * c
    return curved(
        torch.where(near, math.pi * u * slope, df), torch.where(near, math.pi**2 * bend, d2f)
    )
