"""Special functions: of the normal distribution, the gamma family, zeta, Bessel.

h(x) = f'(x)² h(y) + f''(x) g(y)
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import Partials, register_pointwise
from hesrl.curvature.rules.partials import curved, operand


def _error_function(x: Tensor, sign: int) -> Partials:
    """``f' = ±2/√π e^{−x²}``, ``f'' = −2 x f'``."""
    df = (sign * 2 / math.sqrt(math.pi)) * torch.exp(-x * x)
    return curved(df, -2 * (x * df))


@register_pointwise("ErfBackward0")
def erf(node: Any) -> Partials:
    """The error function."""
    return _error_function(node._saved_self, 1)


@register_pointwise("ErfcBackward0")
def erfc(node: Any) -> Partials:
    """``1 − erf x``."""
    return _error_function(node._saved_self, -1)


@register_pointwise("SpecialErfcxBackward0")
def erfcx(node: Any) -> Partials:
    """``y = e^{x²} erfc x``: ``f' = 2 x y − 2/√π``, ``f'' = 2 y + 2 x f'``."""
    x, y = node._saved_self, node._saved_result
    df = 2 * x * y - 2 / math.sqrt(math.pi)
    return curved(df, 2 * (y + x * df))


@register_pointwise("ErfinvBackward0")
def erfinv(node: Any) -> Partials:
    """``f' = √π/2 e^{y²}``, ``f'' = 2 y f'²``."""
    y = torch.erfinv(node._saved_self)
    df = (math.sqrt(math.pi) / 2) * torch.exp(y * y)
    return curved(df, 2 * (y * df * df))


@register_pointwise("SpecialNdtriBackward0")
def ndtri(node: Any) -> Partials:
    """The normal quantile: ``f' = √(2π) e^{y²/2}``, ``f'' = y f'²``."""
    y = node._saved_result
    df = math.sqrt(2 * math.pi) * torch.exp(0.5 * y * y)
    return curved(df, y * df * df)


@register_pointwise("SpecialLogNdtrBackward0")
def log_ndtr(node: Any) -> Partials:
    """``y = log Φ(x)``: ``f' = φ/Φ``, ``f'' = −f' (x + f')``."""
    x, y = node._saved_self, node._saved_result
    df = torch.exp(-0.5 * x * x - y) / math.sqrt(2 * math.pi)
    return curved(df, -df * (x + df))


@register_pointwise("LogitBackward0")
def logit(node: Any) -> Partials:
    """``f' = 1/(x (1−x))``, ``f'' = (2x − 1) f'²``; flat outside ``[ε, 1−ε]`` if there is an ε."""
    x, eps = node._saved_self, node._saved_eps
    df = (x * (1 - x)).reciprocal()
    if eps is not None:
        df = torch.where((x >= eps) & (x <= 1 - eps), df, 0.0)
    return curved(df, (2 * x - 1) * df * df)


@register_pointwise("SpecialEntrBackward0")
def entropy(node: Any) -> Partials:
    """``y = −x log x``: ``f' = −1 − log x``, ``f'' = −1/x``."""
    x = node._saved_self
    return curved(-1 - x.log(), -x.reciprocal())


@register_pointwise("LgammaBackward0")
def log_gamma(node: Any) -> Partials:
    """``f' = ψ(x)``, ``f'' = ψ'(x)``."""
    x = node._saved_self
    return curved(torch.digamma(x), torch.polygamma(1, x))


@register_pointwise("MvlgammaBackward0")
def multivariate_log_gamma(node: Any) -> Partials:
    """``Σ_{i<p} log Γ(x − i/2)`` and a constant."""
    x = node._saved_self.unsqueeze(-1)
    x = x - torch.arange(node._saved_p, dtype=x.dtype, device=x.device) / 2
    return curved(torch.digamma(x).sum(-1), torch.polygamma(1, x).sum(-1))


@register_pointwise("DigammaBackward0")
def digamma(node: Any) -> Partials:
    """``y = ψ(x)``: ``f' = ψ'(x)``, ``f'' = ψ''(x)``."""
    x = node._saved_self
    return curved(torch.polygamma(1, x), torch.polygamma(2, x))


@register_pointwise("PolygammaBackward0", "PolygammaBackward1")
def polygamma(node: Any) -> Partials:
    """``y = ψ⁽ⁿ⁾(x)``: ``f' = ψ⁽ⁿ⁺¹⁾(x)``, ``f'' = ψ⁽ⁿ⁺²⁾(x)``."""
    x, n = node._saved_self, node._saved_n
    return curved(torch.polygamma(n + 1, x), torch.polygamma(n + 2, x))


def _zeta(node: Any) -> tuple[Tensor, Tensor]:
    s, q = operand(node, node._saved_self), operand(node, node._saved_other)
    return -s * torch.special.zeta(s + 1, q), s * (s + 1) * torch.special.zeta(s + 2, q)


@register_pointwise("SpecialZetaBackward0", curved=((1, 1),))
def zeta(node: Any) -> Partials:
    """``y = Σ_{k≥0} (k + q)^{−s}`` by q: ``f_q = −s ζ(s+1, q)``, ``f_qq = s (s+1) ζ(s+2, q)``.

    By s PyTorch has no derivative.
    """
    return _of_second(*_zeta(node))


@register_pointwise("SpecialZetaBackward1")
def zeta_of_number(node: Any) -> Partials:
    """The same for a number s."""
    return curved(*_zeta(node))


def _incomplete_gamma(node: Any) -> tuple[Tensor, Tensor]:
    a, x = operand(node, node._saved_self), operand(node, node._saved_other)
    first = torch.exp(torch.xlogy(a - 1, x) - x - torch.lgamma(a))
    return first, first * ((a - 1) / x - 1)


@register_pointwise("IgammaBackward0", curved=((1, 1),))
def lower_incomplete_gamma(node: Any) -> Partials:
    """``y = ∫₀ˣ t^{a−1} e^{−t} dt / Γ(a)`` by x: ``f' = x^{a−1} e^{−x}/Γ(a)``.

    ``f'' = f' ((a−1)/x − 1)``. By a PyTorch has no derivative.
    """
    return _of_second(*_incomplete_gamma(node))


@register_pointwise("IgammacBackward0", curved=((1, 1),))
def upper_incomplete_gamma(node: Any) -> Partials:
    """One minus the lower one."""
    first, second = _incomplete_gamma(node)
    return _of_second(-first, -second)


def _of_second(first: Tensor, second: Tensor) -> Partials:
    """Return the derivatives of a function of two tensors by the second one alone."""
    return (None, first), ((1, 1, second),)


def _over_itself(i1: Tensor, x: Tensor) -> Tensor:
    """Return ``I₁(x)/x``, or the scaled one, which is 1/2 at 0."""
    return torch.where(x == 0, 0.5, i1 / x)


@register_pointwise("I0Backward0")
def bessel_i0(node: Any) -> Partials:
    """``y = I₀(x)``: ``f' = I₁``, ``f'' = I₀ − I₁/x``."""
    x = node._saved_self
    i1 = torch.special.i1(x)
    return curved(i1, torch.i0(x) - _over_itself(i1, x))


@register_pointwise("SpecialI0EBackward0")
def scaled_bessel_i0(node: Any) -> Partials:
    """``y = e^{−|x|} I₀(x)``: with the scaled I₁, ``f' = I₁ − ±y``, ``f'' = 2y − I₁/x − ±2I₁``."""
    x, y = node._saved_self, node._saved_result
    i1, sign = torch.special.i1e(x), torch.sgn(x)
    return curved(i1 - sign * y, 2 * (y - sign * i1) - _over_itself(i1, x))


@register_pointwise("SpecialI1Backward0")
def bessel_i1(node: Any) -> Partials:
    """``y = I₁(x)``: ``f' = I₀ − y/x``, ``f'' = y (1 + 2/x²) − I₀/x``; a series near 0."""
    x, y = node._saved_self, node._saved_result
    i0 = torch.i0(x)
    return curved(i0 - _over_itself(y, x), _second_of_i1(x, y, i0, 1.0))


@register_pointwise("SpecialI1EBackward0")
def scaled_bessel_i1(node: Any) -> Partials:
    """``y = e^{−|x|} I₁(x)``: ``f' = I₁' − ±y``, ``f'' = I₁'' − ±2I₁' + y``, I₁ scaled."""
    x, y = node._saved_self, node._saved_result
    i0, sign = torch.special.i0e(x), torch.sgn(x)
    first = i0 - _over_itself(y, x)
    second = _second_of_i1(x, y, i0, torch.exp(-x.abs()))
    return curved(first - sign * y, second - 2 * sign * first + y)


def _second_of_i1(x: Tensor, i1: Tensor, i0: Tensor, scale: Tensor | float) -> Tensor:
    """Return ``I₁''(x)``, or the scaled one given the scaled I₁ and I₀.

    I₁ = Σ_k (x/2)^{2k+1} / (k! (k+1)!)
    """
    near = x.abs() < 2
    away = torch.where(near, 2.0, x)
    half = x.clamp(-2, 2) / 2
    square, series = half * half, torch.zeros_like(x)
    for k in range(14, 0, -1):
        series = series * square + (2 * k + 1) * k / (2 * math.factorial(k) * math.factorial(k + 1))
    return torch.where(near, scale * half * series, i1 * (1 + 2 / away**2) - i0 / away)
