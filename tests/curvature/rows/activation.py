"""Elementwise functions of one tensor."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tests.curvature.rows.row import Row, normal, one_positive

MASK = torch.tensor([[True, False, False, True]]).expand(3, 4)

ROWS = [
    Row("tanh", "TanhBackward0", torch.tanh),
    Row("sigmoid", "SigmoidBackward0", torch.sigmoid),
    Row("relu", "ReluBackward0", torch.relu),
    Row("leaky_relu", "LeakyReluBackward0", lambda x: F.leaky_relu(x, 0.2)),
    Row("hardtanh", "HardtanhBackward0", lambda x: F.hardtanh(x, -0.5, 0.8)),
    Row("relu6", "HardtanhBackward0", F.relu6, lambda: (5 * normal(3, 4),)),
    Row("elu", "EluBackward0", lambda x: F.elu(x, 1.3)),
    Row("selu", "EluBackward0", F.selu),
    Row("celu", "CeluBackward0", lambda x: F.celu(x, 0.5)),
    Row("softplus", "SoftplusBackward0", F.softplus),
    Row("softplus beta threshold", "SoftplusBackward0", lambda x: F.softplus(x, 2.0, 1.7)),
    Row("logsigmoid", "LogSigmoidBackward0", F.logsigmoid),
    Row("silu", "SiluBackward0", F.silu),
    Row("gelu", "GeluBackward0", F.gelu),
    Row("gelu tanh", "GeluBackward0", lambda x: F.gelu(x, approximate="tanh")),
    Row("exp", "ExpBackward0", torch.exp),
    Row("log", "LogBackward0", torch.log, one_positive),
    Row("log1p", "Log1PBackward0", torch.log1p, one_positive),
    Row("sqrt", "SqrtBackward0", torch.sqrt, one_positive),
    Row("rsqrt", "RsqrtBackward0", torch.rsqrt, one_positive),
    Row("reciprocal", "ReciprocalBackward0", torch.reciprocal),
    Row("square", "PowBackward0", torch.square),
    Row("cube", "PowBackward0", lambda x: x**3),
    Row("pow 0", "PowBackward0", lambda x: x**0),
    Row("pow 1", "PowBackward0", lambda x: x**1),
    Row("pow -2", "PowBackward0", lambda x: x**-2),
    Row("pow 1.7", "PowBackward0", lambda x: x**1.7, one_positive),
    Row("sin", "SinBackward0", torch.sin),
    Row("cos", "CosBackward0", torch.cos),
    Row("abs", "AbsBackward0", torch.abs),
    Row("neg", "NegBackward0", torch.neg),
    Row("clamp", "ClampBackward1", lambda x: x.clamp(-0.5, 0.8)),
    Row("clamp from", "ClampBackward1", lambda x: torch.clamp(x, min=-0.5)),
    Row("clamp to", "ClampBackward1", lambda x: torch.clamp(x, max=0.8)),
    Row("clamp_min", "ClampMinBackward0", lambda x: torch.clamp_min(x, -0.5)),
    Row("clamp_max", "ClampMaxBackward0", lambda x: torch.clamp_max(x, 0.8)),
    Row("masked_fill", "MaskedFillBackward0", lambda x: x.masked_fill(MASK, -2.0)),
]
