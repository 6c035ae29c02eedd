"""Elementwise functions of one tensor: ``y = f(x)``, with their two derivatives.

    h(x) = f'(x)² h(y) + f''(x) g(y)

Each function returns ``(f',), ((0, 0, f''),)``, without the second part where ``f'' = 0``. At a
kink the slope is the one that PyTorch's own gradient takes, and the curvature is zero.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.registry import Partials, register_pointwise


def _curved(df: Tensor, d2f: Tensor | float) -> Partials:
    return (df,), ((0, 0, d2f),)


def _straight(slope: Tensor | float) -> Partials:
    return (slope,), ()


@register_pointwise("TanhBackward0")
def tanh(node: Any) -> Partials:
    """``f' = 1 − y²``, ``f'' = −2 y f'``."""
    y = node._saved_result
    df = 1 - y * y
    return _curved(df, -2 * (y * df))


@register_pointwise("SigmoidBackward0")
def sigmoid(node: Any) -> Partials:
    """``f' = y (1 − y)``, ``f'' = (1 − 2y) f'``."""
    y = node._saved_result
    df = y - y * y
    return _curved(df, (1 - 2 * y) * df)


@register_pointwise("ReluBackward0")
def relu(node: Any) -> Partials:
    """Slope 1 above zero."""
    y = node._saved_result
    return _straight((y > 0).to(y.dtype))


@register_pointwise("LeakyReluBackward0")
def leaky_relu(node: Any) -> Partials:
    """Slope 1 above zero and ``negative_slope`` elsewhere."""
    x = node._saved_self
    return _straight(torch.where(x > 0, torch.ones_like(x), node._saved_negative_slope))


@register_pointwise("HardtanhBackward0")
def hardtanh(node: Any) -> Partials:
    """Slope 1 strictly between the bounds; also ReLU6."""
    x = node._saved_self
    return _straight(((x > node._saved_min_val) & (x < node._saved_max_val)).to(x.dtype))


@register_pointwise("EluBackward0")
def elu(node: Any) -> Partials:
    """ELU and SELU, ``s x`` above zero and ``s α (e^{cx} − 1)`` elsewhere."""
    x = node._saved_self
    scale, inner = node._saved_scale, node._saved_input_scale
    slope = (scale * node._saved_alpha * inner) * torch.exp(inner * x.clamp(max=0))
    below = x <= 0
    return _curved(torch.where(below, slope, scale), torch.where(below, inner * slope, 0.0))


@register_pointwise("CeluBackward0")
def celu(node: Any) -> Partials:
    """``x`` above zero and ``α (e^{x/α} − 1)`` elsewhere."""
    x, alpha = node._saved_self, node._saved_alpha
    slope = torch.exp(x.clamp(max=0) / alpha)
    below = x <= 0
    return _curved(torch.where(below, slope, 1.0), torch.where(below, slope / alpha, 0.0))


@register_pointwise("SoftplusBackward0")
def softplus(node: Any) -> Partials:
    """``f' = σ(βx)``, ``f'' = β σ (1 − σ)``, and the identity for ``βx`` above the threshold."""
    x, beta = node._saved_self, node._saved_beta
    s = torch.sigmoid(beta * x)
    identity = beta * x > node._saved_threshold
    return _curved(torch.where(identity, 1.0, s), torch.where(identity, 0.0, beta * (s - s * s)))


@register_pointwise("LogSigmoidBackward0")
def log_sigmoid(node: Any) -> Partials:
    """``f' = σ(−x)``, ``f'' = −σ(x) σ(−x)``."""
    s = torch.sigmoid(-node._saved_self)
    return _curved(s, s * s - s)


@register_pointwise("SiluBackward0")
def silu(node: Any) -> Partials:
    """``y = x σ``: ``f' = σ + x σ'``, ``f'' = 2σ' + x σ''``."""
    x = node._saved_self
    s = torch.sigmoid(x)
    ds = s - s * s
    return _curved(s + x * ds, ds * (2 + x * (1 - 2 * s)))


@register_pointwise("GeluBackward0")
def gelu(node: Any) -> Partials:
    """``y = x Φ(x)``: ``f' = Φ + x φ``, ``f'' = (2 − x²) φ``; or its tanh approximation."""
    x = node._saved_self
    if node._saved_approximate == "none":
        phi = torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return _curved(torch.special.ndtr(x) + x * phi, (2 - x * x) * phi)
    c, cubic = math.sqrt(2 / math.pi), 0.044715
    t = torch.tanh(c * (x + cubic * x**3))
    du, d2u = c * (1 + 3 * cubic * x * x), c * 6 * cubic * x
    sech = 1 - t * t
    dt = sech * du
    d2t = sech * d2u - 2 * t * dt * du
    return _curved(0.5 * (1 + t + x * dt), dt + 0.5 * x * d2t)


@register_pointwise("ExpBackward0")
def exp(node: Any) -> Partials:
    """``f' = f'' = y``."""
    y = node._saved_result
    return _curved(y, y)


@register_pointwise("LogBackward0")
def log(node: Any) -> Partials:
    """``f' = 1/x``, ``f'' = −1/x²``."""
    df = node._saved_self.reciprocal()
    return _curved(df, -(df * df))


@register_pointwise("Log1PBackward0")
def log1p(node: Any) -> Partials:
    """``f' = 1/(1+x)``, ``f'' = −1/(1+x)²``."""
    df = (1 + node._saved_self).reciprocal()
    return _curved(df, -(df * df))


@register_pointwise("SqrtBackward0")
def sqrt(node: Any) -> Partials:
    """``f' = 1/(2y)``, ``f'' = −1/(4y³)``."""
    inverse = node._saved_result.reciprocal()
    return _curved(0.5 * inverse, -0.25 * inverse**3)


@register_pointwise("RsqrtBackward0")
def rsqrt(node: Any) -> Partials:
    """``f' = −y³/2``, ``f'' = 3y⁵/4``."""
    y = node._saved_result
    return _curved(-0.5 * y**3, 0.75 * y**5)


@register_pointwise("ReciprocalBackward0")
def reciprocal(node: Any) -> Partials:
    """``f' = −y²``, ``f'' = 2y³``."""
    y = node._saved_result
    square = y * y
    return _curved(-square, 2 * square * y)


@register_pointwise("PowBackward0")
def power(node: Any) -> Partials:
    """``y = x^n`` for a number n: ``f' = n x^{n−1}``, ``f'' = n (n−1) x^{n−2}``."""
    x, n = node._saved_self, node._saved_exponent
    if n == 2:
        return _curved(2 * x, 2.0)
    if n in (0, 1):
        return _straight(float(n))
    return _curved(n * x ** (n - 1), n * (n - 1) * x ** (n - 2))


@register_pointwise("SinBackward0")
def sin(node: Any) -> Partials:
    """``f' = cos x``, ``f'' = −sin x``."""
    x = node._saved_self
    return _curved(torch.cos(x), -torch.sin(x))


@register_pointwise("CosBackward0")
def cos(node: Any) -> Partials:
    """``f' = −sin x``, ``f'' = −cos x``."""
    x = node._saved_self
    return _curved(-torch.sin(x), -torch.cos(x))


@register_pointwise("AbsBackward0")
def absolute(node: Any) -> Partials:
    """Slope ``sign x``."""
    return _straight(torch.sgn(node._saved_self))


@register_pointwise("NegBackward0")
def negative(node: Any) -> Partials:
    """Slope −1."""
    return _straight(-1.0)


@register_pointwise("ClampBackward1")
def clamp(node: Any) -> Partials:
    """Slope 1 within two numbers (or one), bounds included."""
    x, low, high = node._saved_self, node._saved_min, node._saved_max
    inside = torch.ones_like(x, dtype=torch.bool)
    if low is not None:
        inside &= x >= low
    if high is not None:
        inside &= x <= high
    return _straight(inside.to(x.dtype))


@register_pointwise("ClampMinBackward0")
def clamp_min(node: Any) -> Partials:
    """Slope 1 from a number upwards."""
    x = node._saved_self
    return _straight((x >= node._saved_min).to(x.dtype))


@register_pointwise("ClampMaxBackward0")
def clamp_max(node: Any) -> Partials:
    """Slope 1 up to a number."""
    x = node._saved_self
    return _straight((x <= node._saved_max).to(x.dtype))


@register_pointwise("MaskedFillBackward0")
def masked_fill(node: Any) -> Partials:
    """Slope 1 outside the mask."""
    return _straight((~node._saved_mask).to(node._input_metadata[0].dtype))
