"""Arithmetic of several tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.curvature.rows.row import Row, broadcast, broadcast_positive, normal, positive

aten = torch.ops.aten


def three() -> tuple[Tensor, ...]:
    return (normal(4), *broadcast())


ROWS = [
    Row("add", "AddBackward0", lambda a, b: torch.add(a, b, alpha=-1.7), broadcast),
    Row("add number", "AddBackward0", lambda a: a + 2.0),
    Row("sub", "SubBackward0", lambda a, b: torch.sub(a, b, alpha=1.7), broadcast),
    Row("rsub", "RsubBackward0", lambda a, b: torch.rsub(a, b, alpha=1.7), broadcast),
    Row("number - a", "RsubBackward1", lambda a: 2.0 - a),
    Row("rsub alpha", "RsubBackward1", lambda a: torch.rsub(a, 2.0, alpha=1.7)),
    Row("mul", "MulBackward0", torch.mul, broadcast),
    Row("mul number", "MulBackward0", lambda a: 0.3 * a),
    Row("div", "DivBackward0", torch.div, broadcast),
    Row("div number", "DivBackward0", lambda a: a / -0.3),
    Row(
        "div rounding None",
        "DivBackward2",
        lambda a, b: torch.div(a, b, rounding_mode=None),
        broadcast,
    ),
    Row(
        "div floor", "DivBackward2", lambda a, b: torch.div(a, b, rounding_mode="floor"), broadcast
    ),
    Row("div trunc number", "DivBackward2", lambda a: torch.div(a, 0.3, rounding_mode="trunc")),
    Row("add.Scalar", "AddBackward1", lambda a: aten.add.Scalar(a, 0.3, 0.7)),
    Row("sub.Scalar", "SubBackward1", lambda a: aten.sub.Scalar(a, 0.3, 0.7)),
    Row("mul.Scalar", "MulBackward1", lambda a: aten.mul.Scalar(a, 0.3)),
    Row("div.Scalar", "DivBackward1", lambda a: aten.div.Scalar(a, 0.3)),
    Row(
        "div.Scalar_mode None",
        "DivBackward3",
        lambda a: aten.div.Scalar_mode(a, 0.3, rounding_mode=None),
    ),
    Row(
        "div.Scalar_mode floor",
        "DivBackward3",
        lambda a: aten.div.Scalar_mode(a, 0.3, rounding_mode="floor"),
    ),
    Row("fmod", "FmodBackward1", torch.fmod, broadcast),
    Row("remainder", "RemainderBackward1", torch.remainder, broadcast),
    Row("pow", "PowBackward1", torch.pow, broadcast_positive),
    Row("number ** b", "PowBackward2", lambda b: 1.7**b),
    Row("ldexp", "LdexpBackward0", torch.ldexp, broadcast),
    Row("addcmul", "AddcmulBackward0", lambda a, b, c: torch.addcmul(a, b, c, value=-1.7), three),
    Row("addcdiv", "AddcdivBackward0", lambda a, b, c: torch.addcdiv(a, b, c, value=-1.7), three),
    Row("lerp", "LerpBackward0", lambda a, b: torch.lerp(a, b, 0.3), broadcast),
    Row(
        "lerp weights",
        "LerpBackward1",
        torch.lerp,
        lambda: (normal(2, 1, 4), normal(3, 1), positive(4)),
    ),
]
