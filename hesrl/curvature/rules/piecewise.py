"""Piecewise linear functions of one tensor: activations, bounds, rounding, dropout.

    h(x) = f'(x)² h(y)

At a kink, and where a jump has no slope, ``f'`` is the one that PyTorch's own gradient takes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import Masked, Partials, register_pointwise
from hesrl.curvature.rules import ties
from hesrl.curvature.rules.partials import native_slope, routed, straight


@register_pointwise("ReluBackward0", curved=(), alone=routed)
def relu(node: Any) -> Partials:
    """Slope 1 above zero."""
    y = node._saved_result
    return straight(y > 0)


def _leaky_relu_alone(node: Any, grad_out: Any, hess_out: Tensor) -> Tensor:
    """``h(x) = f'² h(y)``: the gradient's own kernel, for the square of the slope."""
    slope = node._saved_negative_slope
    hess: Tensor = torch.ops.aten.leaky_relu_backward(hess_out, node._saved_self, slope**2, False)
    return hess


@register_pointwise("LeakyReluBackward0", curved=(), alone=_leaky_relu_alone)
def leaky_relu(node: Any) -> Partials:
    """Slope 1 above zero and ``negative_slope`` elsewhere."""
    x = node._saved_self
    return straight(torch.where(x > 0, torch.ones_like(x), node._saved_negative_slope))


@register_pointwise("LeakyReluBackward1", curved=())
def leaky_relu_in_place(node: Any) -> Partials:
    """The same by ``y``, which has the sign of x."""
    y = node._saved_result
    return straight(torch.where(y > 0, torch.ones_like(y), node._saved_negative_slope))


@register_pointwise("RreluWithNoiseBackward0", "RreluWithNoiseBackward1", curved=())
def rrelu(node: Any) -> Partials:
    """Slope 1 above zero; elsewhere random in training and the mean of its bounds afterwards."""
    lower, upper = node._saved_lower, node._saved_upper
    if node._saved_training and upper - lower > 1e-6:
        return straight(node._saved_noise)
    x = getattr(node, "_saved_self" if node.name().endswith("0") else "_saved_result")
    return straight(torch.where(x > 0, torch.ones_like(x), (lower + upper) / 2))


@register_pointwise("HardtanhBackward0", curved=(), alone=routed)
def hardtanh(node: Any) -> Partials:
    """Slope 1 strictly between the bounds; also ReLU6."""
    x = node._saved_self
    return straight((x > node._saved_min_val) & (x < node._saved_max_val))


@register_pointwise("HardsigmoidBackward0", curved=())
def hardsigmoid(node: Any) -> Partials:
    """Slope 1/6 strictly between −3 and 3."""
    x = node._saved_self
    return straight(Masked((x > -3) & (x < 3), 1 / 6))


@register_pointwise("HardshrinkBackward0", "SoftshrinkBackward0", curved=(), alone=routed)
def shrink(node: Any) -> Partials:
    """Slope 1 outside ±λ."""
    x = node._saved_self
    return straight(x.abs() > node._saved_lambd)


@register_pointwise("ThresholdBackward0", "ThresholdBackward1", curved=(), alone=routed)
def threshold(node: Any) -> Partials:
    """Slope 1 above the threshold."""
    x = node._saved_self
    return straight(x > node._saved_threshold)


@register_pointwise("NativeDropoutBackward0", curved=())
def dropout(node: Any) -> Partials:
    """Slope ``1/(1−p)`` where an entry was kept and 0 where it was dropped."""
    return straight(native_slope(node))


@register_pointwise("AbsBackward0", curved=())
def absolute(node: Any) -> Partials:
    """Slope ``sign x``."""
    return straight(torch.sgn(node._saved_self))


@register_pointwise("NegBackward0", "NegViewBackward0", constant=True)
def negative(node: Any) -> Partials:
    """Slope −1."""
    return straight(-1.0)


@register_pointwise("Deg2RadBackward0", constant=True)
def degrees_to_radians(node: Any) -> Partials:
    """Slope ``π/180``."""
    return straight(math.pi / 180)


@register_pointwise("Rad2DegBackward0", constant=True)
def radians_to_degrees(node: Any) -> Partials:
    """Slope ``180/π``."""
    return straight(180 / math.pi)


@register_pointwise(
    "AliasBackward0",
    "CloneBackward0",
    # What is left over after division by a number.
    "FmodBackward0",
    "FracBackward0",
    "RemainderBackward0",
    constant=True,
)
def shifted(node: Any) -> Partials:
    """Slope 1."""
    return straight(1.0)


@register_pointwise(
    "AngleBackward0",
    "CeilBackward0",
    "FloorBackward0",
    "RoundBackward0",
    "RoundBackward1",
    "SgnBackward0",
    "SignBackward0",
    "TruncBackward0",
    # Entries overwritten by a number.
    "FillBackward2",
    "ZeroBackward0",
    constant=True,
)
def step(node: Any) -> Partials:
    """Constant between jumps: slope 0."""
    return straight(0.0)


@register_pointwise(
    "BernoulliBackward0",
    "BernoulliBackward1",
    "BernoulliBackward2",
    "CauchyBackward0",
    "ExponentialBackward0",
    "GeometricBackward0",
    "LogNormalBackward0",
    "NormalBackward0",
    "NormalBackward1",
    "NormalBackward2",
    "NormalBackward3",
    "PoissonBackward0",
    "RandomBackward0",
    "RandomBackward1",
    "RandomBackward2",
    "UniformBackward0",
    constant=True,
)
def noise(node: Any) -> Partials:
    """Random numbers, in place or not: slope 0 for what was there and for the parameters."""
    return (0.0,) * len(node.next_functions), ()


@register_pointwise(
    "FakeQuantizePerChannelAffineCachemaskBackward0",
    "FakeQuantizePerTensorAffineCachemaskBackward0",
    "FakeQuantizePerTensorAffineCachemaskTensorQparamsBackward0",
    curved=(),
    alone=routed,
)
def fake_quantize(node: Any) -> Partials:
    """Rounding that the gradient takes for the identity: slope 1 within the range."""
    return straight(node._saved_mask)


@register_pointwise("ClampBackward1", curved=(), alone=routed)
def clamp(node: Any) -> Partials:
    """Slope 1 within two numbers (or one)."""
    x, low, high = node._saved_self, node._saved_min, node._saved_max
    if low is None:
        return straight(ties.below(x, high))
    inside = ties.above(x, low)
    return straight(inside if high is None else inside & ties.below(x, high))


@register_pointwise("ClampMinBackward0", curved=(), alone=routed)
def clamp_min(node: Any) -> Partials:
    """Slope 1 above a number."""
    return straight(ties.above(node._saved_self, node._saved_min))


@register_pointwise("ClampMaxBackward0", curved=(), alone=routed)
def clamp_max(node: Any) -> Partials:
    """Slope 1 below a number."""
    return straight(ties.below(node._saved_self, node._saved_max))


@register_pointwise("MaskedFillBackward0", curved=(), alone=routed)
def masked_fill(node: Any) -> Partials:
    """Slope 1 outside the mask."""
    return straight(~node._saved_mask)


@register_pointwise("NanToNumBackward0", curved=())
def nan_to_num(node: Any) -> Partials:
    """Slope 1 where the entry was finite."""
    return straight(node._saved_self.isfinite())


@register_pointwise("CopysignBackward1", curved=())
def copysign(node: Any) -> Partials:
    """``y = ±|x|`` with the sign of a number: slope ``sign x sign y``."""
    return straight(torch.sgn(node._saved_self) * torch.sgn(node._saved_result))
