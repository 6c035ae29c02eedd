"""Elementary functions of one tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.curvature.rows.row import Row, normal, one_positive


def within_one() -> tuple[Tensor, ...]:
    return (0.9 * torch.tanh(normal(3, 4)),)


def above_one() -> tuple[Tensor, ...]:
    return (1.0 + one_positive()[0],)


ROWS = [
    Row("exp", "ExpBackward0", torch.exp),
    Row("exp2", "Exp2Backward0", torch.exp2),
    Row("expm1", "Expm1Backward0", torch.expm1),
    Row("log", "LogBackward0", torch.log, one_positive),
    Row("log2", "Log2Backward0", torch.log2, one_positive),
    Row("log10", "Log10Backward0", torch.log10, one_positive),
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
    Row("tan", "TanBackward0", torch.tan),
    Row("asin", "AsinBackward0", torch.asin, within_one),
    Row("acos", "AcosBackward0", torch.acos, within_one),
    Row("atan", "AtanBackward0", torch.atan),
    Row("sinh", "SinhBackward0", torch.sinh),
    Row("cosh", "CoshBackward0", torch.cosh),
    Row("asinh", "AsinhBackward0", torch.asinh),
    Row("acosh", "AcoshBackward0", torch.acosh, above_one),
    Row("atanh", "AtanhBackward0", torch.atanh, within_one),
    Row(
        "sinc",
        "SincBackward0",
        torch.sinc,
        reference=lambda x: torch.sin(torch.pi * x) / (torch.pi * x),
    ),
]
