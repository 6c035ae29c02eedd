"""The smooth activations of networks: ``y = f(x)``, with their two derivatives.

    h(x) = f'(x)² h(y) + f''(x) g(y)

An activation in place saves its result, where that tells the slope, instead of its input; its
node then has a number of its own. At a kink the slope is the one that PyTorch's own gradient
takes, and the curvature is zero.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hesrl.curvature.rule_registry import Masked, Partials, register_pointwise, register_rule
from hesrl.curvature.rules.partials import curved
from hesrl.curvature.rules.softmax import saved_dim


def _composed(
    df: Tensor, d2f: Tensor, grad_out: Tensor, hess_out: Tensor, c: float = 1.0
) -> Tensor:
    """``f'² h + c f'' g`` in place of the derivatives."""
    return df.mul_(df).mul_(hess_out).addcmul_(d2f, grad_out, value=c)


def _tanh_alone(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``h(x) = f' (f' h(y) − 2y g(y))``, with ``f' v = v − y² v``."""
    y = node._saved_result
    square = y * y
    inner = torch.addcmul(hess_out, square, hess_out, value=-1).sub_(y * grad_out, alpha=2)
    return torch.addcmul(inner, square, inner, value=-1)


@register_pointwise("TanhBackward0", alone=_tanh_alone)
def tanh(node: Any) -> Partials:
    """``f' = 1 − y²``, ``f'' = −2 y f'``."""
    y = node._saved_result
    df = 1 - y * y
    return curved(df, -2 * (y * df))


def _sigmoid_alone(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``h(x) = f' (f' h(y) + (1 − 2y) g(y))``."""
    y = node._saved_result
    df = torch.addcmul(y, y, y, value=-1)
    return torch.addcmul(grad_out, y, grad_out, value=-2).addcmul_(df, hess_out).mul_(df)


@register_pointwise("SigmoidBackward0", alone=_sigmoid_alone)
def sigmoid(node: Any) -> Partials:
    """``f' = y (1 − y)``, ``f'' = (1 − 2y) f'``."""
    y = node._saved_result
    df = y - y * y
    return curved(df, (1 - 2 * y) * df)


@register_pointwise("LogSigmoidBackward0")
def log_sigmoid(node: Any) -> Partials:
    """``f' = σ(−x)``, ``f'' = −σ(x) σ(−x)``."""
    s = torch.sigmoid(-node._saved_self)
    return curved(s, s * s - s)


@register_pointwise("SoftplusBackward0")
def softplus(node: Any) -> Partials:
    """``f' = σ(βx)``, ``f'' = β σ (1 − σ)``, and the identity for ``βx`` above the threshold."""
    x, beta = node._saved_self, node._saved_beta
    s = torch.sigmoid(beta * x)
    identity = beta * x > node._saved_threshold
    return curved(torch.where(identity, 1.0, s), torch.where(identity, 0.0, beta * (s - s * s)))


def _elu_alone(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``h(x) = f' (f' h(y) + c g(y))`` below zero, with PyTorch's own kernel for ``f' v``."""
    x, inner = node._saved_self, node._saved_input_scale
    constants = node._saved_alpha, node._saved_scale, inner, False, x
    hess = torch.ops.aten.elu_backward(hess_out, *constants)
    above = torch.ops.aten.threshold_backward(grad_out, x, 0)
    hess.add_(grad_out - above, alpha=inner)
    slope_times: Tensor = torch.ops.aten.elu_backward(hess, *constants)
    return slope_times


@register_pointwise("EluBackward0", alone=_elu_alone)
def elu(node: Any) -> Partials:
    """ELU and SELU, ``s x`` above zero and ``s α (e^{cx} − 1)`` elsewhere."""
    x = node._saved_self
    scale, inner = node._saved_scale, node._saved_input_scale
    slope = (scale * node._saved_alpha * inner) * torch.exp(inner * x.clamp(max=0))
    return _bent(x <= 0, slope, scale, inner)


@register_pointwise("EluBackward1")
def elu_in_place(node: Any) -> Partials:
    """The same by ``y``: ``f' = c (y + s α)`` below zero."""
    y, scale, inner = node._saved_result, node._saved_scale, node._saved_input_scale
    return _bent(y <= 0, inner * (y + scale * node._saved_alpha), scale, inner)


@register_pointwise("CeluBackward0")
def celu(node: Any) -> Partials:
    """``x`` above zero and ``α (e^{x/α} − 1)`` elsewhere."""
    x, alpha = node._saved_self, node._saved_alpha
    return _bent(x <= 0, torch.exp(x.clamp(max=0) / alpha), 1.0, 1 / alpha)


@register_pointwise("CeluBackward1")
def celu_in_place(node: Any) -> Partials:
    """The same by ``y``: ``f' = 1 + y/α`` below zero."""
    y, alpha = node._saved_result, node._saved_alpha
    return _bent(y <= 0, 1 + y / alpha, 1.0, 1 / alpha)


def _bent(below: Tensor, slope: Tensor, slope_above: float, rate: float) -> Partials:
    """``f'' = rate f'`` below zero, where f is an exponential, and a straight line above."""
    return curved(torch.where(below, slope, slope_above), torch.where(below, rate * slope, 0.0))


def _silu_alone(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``f' = σ + x σ'``, ``f'' = 2σ' + x σ' (1 − 2σ)`` with ``σ' = σ − σ²``."""
    x = node._saved_self
    s = torch.sigmoid(x)
    ds = torch.addcmul(s, s, s, value=-1)
    x_ds = x * ds
    df = s + x_ds
    d2f = s.mul_(-2).add_(1).mul_(x_ds).add_(ds, alpha=2)
    return _composed(df, d2f, grad_out, hess_out)


@register_pointwise("SiluBackward0", alone=_silu_alone)
def silu(node: Any) -> Partials:
    """``y = x σ``: ``f' = σ + x σ'``, ``f'' = 2σ' + x σ''``."""
    x = node._saved_self
    s = torch.sigmoid(x)
    ds = s - s * s
    return curved(s + x * ds, ds * (2 + x * (1 - 2 * s)))


@register_pointwise("MishBackward0")
def mish(node: Any) -> Partials:
    """``y = x t``, t = tanh(log(1 + eˣ)): ``f' = t + x t'``, ``f'' = 2t' + x t''``."""
    x = node._saved_self
    s, t = torch.sigmoid(x), torch.tanh(F.softplus(x))
    sech = 1 - t * t
    dt = sech * s
    d2t = dt * (1 - s - 2 * s * t)
    return curved(t + x * dt, 2 * dt + x * d2t)


_RATE, _CUBIC = 2 * math.sqrt(2 / math.pi), 0.044715
"""The tanh approximation of GELU is ``x σ(w)`` with ``w = rate (x + cubic x³)``."""


def _gelu_alone(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``f' = Φ + x φ``, ``f'' = (2 − x²) φ``; or the tanh approximation, with ``p = σ' w'``.

    ``f' = σ + x p``,    ``f'' = 4p − 2 rate σ' + x p w' (1 − 2σ)``,  as ``x w'' = 2 (w' − rate)``.
    """
    x = node._saved_self
    square = x * x
    if node._saved_approximate == "none":
        # φ without its constant; exp2 takes half the time of exp on a CPU.
        phi, c = (square * (-0.5 / math.log(2))).exp2_(), 1 / math.sqrt(2 * math.pi)
        df = (x * math.sqrt(0.5)).erf_().add_(1).mul_(0.5).addcmul_(x, phi, value=c)
        return _composed(df, square.sub_(2).mul_(phi), grad_out, hess_out, -c)
    s = (square * (_RATE * _CUBIC)).add_(_RATE).mul_(x).sigmoid_()
    dw = square.mul_(3 * _RATE * _CUBIC).add_(_RATE)
    ds = torch.addcmul(s, s, s, value=-1)
    p = ds * dw
    x_p = x * p
    df = s + x_p
    d2f = s.mul_(-2).add_(1).mul_(dw).mul_(x_p).add_(p, alpha=4).sub_(ds, alpha=2 * _RATE)
    return _composed(df, d2f, grad_out, hess_out)


@register_pointwise("GeluBackward0", alone=_gelu_alone)
def gelu(node: Any) -> Partials:
    """``y = x Φ(x)``: ``f' = Φ + x φ``, ``f'' = (2 − x²) φ``; or its tanh approximation."""
    x = node._saved_self
    if node._saved_approximate == "none":
        phi = torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return curved(torch.special.ndtr(x) + x * phi, (2 - x * x) * phi)
    c, cubic = math.sqrt(2 / math.pi), 0.044715
    t = torch.tanh(c * (x + cubic * x**3))
    du, d2u = c * (1 + 3 * cubic * x * x), c * 6 * cubic * x
    sech = 1 - t * t
    dt = sech * du
    d2t = sech * d2u - 2 * t * dt * du
    return curved(0.5 * (1 + t + x * dt), dt + 0.5 * x * d2t)


def _hardswish_alone(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``f'² h(y) + f'' g(y)``, with the native slope and PyTorch's kernel for what lies inside."""
    inside = torch.ops.aten.hardtanh_backward(grad_out, node._saved_self, -3, 3)
    hess: Tensor = node(node(hess_out))
    return hess.add_(inside, alpha=1 / 3)


@register_pointwise("HardswishBackward0", alone=_hardswish_alone)
def hardswish(node: Any) -> Partials:
    """``x (x + 3) / 6`` between −3 and 3: ``f' = x/3 + 1/2``, ``f'' = 1/3``; 0 or x outside."""
    x = node._saved_self
    slope = torch.where(x < 3, x / 3 + 0.5, 1.0)
    return curved(Masked(x > -3, slope), Masked((x > -3) & (x < 3), 1 / 3))


@register_pointwise("PreluKernelBackward0", curved=((0, 1),))
def prelu(node: Any) -> Partials:
    """``y = x`` above zero and ``w x`` elsewhere: ``f_w = x`` and ``f_xw = 1`` there."""
    x, w = node._saved_self, node._saved_weight
    below = x <= 0
    return (torch.where(below, w, 1.0), Masked(below, x)), ((0, 1, below),)


@register_rule("GluBackward0", separate=True)
def glu(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``y = a σ(b)`` for the halves a, b of x; nothing mixes but the entries of each pair.

    h(a) = σ² h(y),    h(b) = (a σ')² h(y) + a σ'' g(y)
    """
    x = node._saved_self
    dim = saved_dim(node._saved_dim, x.dim())
    a, b = x.chunk(2, dim)
    s = torch.sigmoid(b)
    ds = s - s * s
    hess_b = (a * ds).square() * hess_out + a * (1 - 2 * s) * ds * grad_out
    return torch.cat([s * s * hess_out, hess_b], dim)
