"""Piecewise linear functions of one tensor."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.curvature.rows.row import Row, normal, one, one_positive, positive

aten = torch.ops.aten
MASK = torch.tensor([[True, False, False, True]]).expand(3, 4)


STEPS, ZEROS = torch.tensor([0.1, 0.5, 1.0]), torch.tensor([0, 2, -1], dtype=torch.int32)


def probabilities() -> tuple[Tensor, ...]:
    return (torch.rand(3, 4, dtype=torch.float64),)


def flat(*parameters: Tensor) -> Tensor:
    """What is constant, for `torch.func`."""
    return torch.stack([0 * x for x in parameters]).sum(0)


def fake_quantize(x: Tensor, scale: Any, zero: Any) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(x, scale, zero, -5, 5)


def fake_quantize_per_channel(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return torch.fake_quantize_per_channel_affine(x, scale, zero, 0, -5, 5)


def within_range(x: Tensor, scale: Any, zero: Any) -> Tensor:
    """With the gradient that fake quantization takes."""
    low, high = (-5.5 - zero) * scale, (5.5 - zero) * scale
    if scale is not STEPS:
        return x.clamp(float(low), float(high))
    return x.clamp(low.unsqueeze(1), high.unsqueeze(1))


def widely() -> tuple[Tensor, ...]:
    return (4 * normal(3, 4),)


def with_infinities() -> tuple[Tensor, ...]:
    x = normal(3, 4)
    x[0, 0], x[1, 2], x[2, 3] = math.nan, math.inf, -math.inf
    return (x,)


def leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


ROWS = [
    Row("relu", "ReluBackward0", torch.relu),
    Row("relu in place", "ReluBackward0", lambda x: x.clone().relu_()),
    Row("leaky_relu", "LeakyReluBackward0", leaky),
    Row("leaky_relu in place", "LeakyReluBackward1", lambda x: F.leaky_relu(x.clone(), 0.2, True)),
    Row(
        "rrelu afterwards",
        "RreluWithNoiseBackward0",
        lambda x: F.rrelu(x, 0.1, 0.3),
        reference=leaky,
    ),
    Row(
        "rrelu in place",
        "RreluWithNoiseBackward1",
        lambda x: F.rrelu_(x.clone(), 0.1, 0.3),
        reference=leaky,
    ),
    Row("hardtanh", "HardtanhBackward0", lambda x: F.hardtanh(x, -0.5, 0.8)),
    Row("relu6", "HardtanhBackward0", F.relu6, widely),
    Row("hardsigmoid", "HardsigmoidBackward0", F.hardsigmoid, widely, lambda x: F.relu6(x + 3) / 6),
    Row("hardshrink", "HardshrinkBackward0", lambda x: F.hardshrink(x, 0.4)),
    Row("softshrink", "SoftshrinkBackward0", lambda x: F.softshrink(x, 0.4)),
    Row("threshold", "ThresholdBackward0", lambda x: F.threshold(x, 0.2, -1.0)),
    Row("threshold in place", "ThresholdBackward1", lambda x: F.threshold_(x.clone(), 0.2, -1.0)),
    Row(
        "dropout afterwards",
        "NativeDropoutBackward0",
        lambda x: torch.native_dropout(x, 0.3, False)[0],
        reference=torch.clone,
    ),
    Row("abs", "AbsBackward0", torch.abs),
    Row("neg", "NegBackward0", torch.neg),
    Row("deg2rad", "Deg2RadBackward0", torch.deg2rad),
    Row("rad2deg", "Rad2DegBackward0", torch.rad2deg),
    Row("frac", "FracBackward0", torch.frac),
    Row("fmod number", "FmodBackward0", lambda x: torch.fmod(x, 0.7)),
    Row("remainder number", "RemainderBackward0", lambda x: torch.remainder(x, -0.7)),
    Row("ceil", "CeilBackward0", lambda x: torch.ceil(x)),
    Row("floor", "FloorBackward0", torch.floor),
    Row("round", "RoundBackward0", torch.round),
    Row("round decimals", "RoundBackward1", lambda x: torch.round(x, decimals=1)),
    Row("sgn", "SgnBackward0", torch.sgn),
    Row("sign", "SignBackward0", torch.sign),
    Row("trunc", "TruncBackward0", torch.trunc),
    Row("fill", "FillBackward2", lambda x: x.clone().fill_(2.0)),
    Row("zero", "ZeroBackward0", lambda x: x.clone().zero_()),
    Row("clamp", "ClampBackward1", lambda x: x.clamp(-0.5, 0.8)),
    Row("clamp from", "ClampBackward1", lambda x: torch.clamp(x, min=-0.5)),
    Row("clamp to", "ClampBackward1", lambda x: torch.clamp(x, max=0.8)),
    Row("clamp_min", "ClampMinBackward0", lambda x: torch.clamp_min(x, -0.5)),
    Row("clamp_max", "ClampMaxBackward0", lambda x: torch.clamp_max(x, 0.8)),
    Row("masked_fill", "MaskedFillBackward0", lambda x: x.masked_fill(MASK, -2.0)),
    Row(
        "nan_to_num",
        "NanToNumBackward0",
        lambda x: torch.nan_to_num(x, 0.3, 1.0, -1.0),
        with_infinities,
    ),
    Row("neg view", "NegViewBackward0", torch._neg_view, reference=torch.neg),
    Row("angle", "AngleBackward0", torch.angle, reference=flat),
    Row("copysign number", "CopysignBackward1", lambda x: torch.copysign(x, -2.0)),
    *(
        Row(f"{name} {number}", f"{name}Backward{number}", function, inputs, flat)
        for name, number, function, inputs in (
            ("Bernoulli", 0, torch.bernoulli, probabilities),
            ("Bernoulli", 1, lambda x: x.clone().bernoulli_(torch.tensor(0.5)), one),
            ("Bernoulli", 2, lambda x: x.clone().bernoulli_(0.5), one),
            ("Cauchy", 0, lambda x: x.clone().cauchy_(), one),
            ("Exponential", 0, lambda x: x.clone().exponential_(), one),
            ("Geometric", 0, lambda x: x.clone().geometric_(0.5), one),
            ("LogNormal", 0, lambda x: x.clone().log_normal_(), one),
            ("Normal", 0, lambda x: x.clone().normal_(), one),
            ("Normal", 1, lambda x: torch.normal(x, 1.0), one),
            ("Normal", 2, lambda x: torch.normal(1.0, x), one_positive),
            ("Normal", 3, torch.normal, lambda: (normal(3, 4), positive(3, 4))),
            ("Poisson", 0, torch.poisson, one_positive),
            ("Random", 0, lambda x: x.clone().random_(1, 5), one),
            ("Random", 1, lambda x: x.clone().random_(5), one),
            ("Random", 2, lambda x: x.clone().random_(), one),
            ("Uniform", 0, lambda x: x.clone().uniform_(), one),
        )
    ),
    *(
        Row(
            f"fake quantize {name}",
            f"FakeQuantizePer{name}Backward0",
            partial(function, scale=scale, zero=zero),
            widely,
            partial(within_range, scale=scale, zero=zero),
        )
        for name, function, scale, zero in (
            ("ChannelAffineCachemask", fake_quantize_per_channel, STEPS, ZEROS),
            ("TensorAffineCachemask", fake_quantize, 0.3, 1),
            ("TensorAffineCachemaskTensorQparams", fake_quantize, STEPS[1], ZEROS[1]),
        )
    ),
]
