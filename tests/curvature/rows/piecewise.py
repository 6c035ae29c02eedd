"""Piecewise linear functions of one tensor."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.curvature.rows.row import Row, normal

aten = torch.ops.aten
MASK = torch.tensor([[True, False, False, True]]).expand(3, 4)


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
    Row("copysign number", "CopysignBackward1", lambda x: torch.copysign(x, -2.0)),
]
