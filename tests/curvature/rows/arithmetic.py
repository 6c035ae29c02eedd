"""Elementwise operations of several tensors."""

from __future__ import annotations

import torch

from tests.curvature.rows.row import Row, broadcast, broadcast_positive, normal

aten = torch.ops.aten
MASK = torch.tensor([[True, False, False, True]]).expand(3, 4)

ROWS = [
    Row("add", "AddBackward0", lambda a, b: torch.add(a, b, alpha=-1.7), broadcast),
    Row("add number", "AddBackward0", lambda a: a + 2.0),
    Row("sub", "SubBackward0", lambda a, b: torch.sub(a, b, alpha=1.7), broadcast),
    Row("number - a", "RsubBackward1", lambda a: 2.0 - a),
    Row("rsub alpha", "RsubBackward1", lambda a: torch.rsub(a, 2.0, alpha=1.7)),
    Row("mul", "MulBackward0", torch.mul, broadcast),
    Row("mul number", "MulBackward0", lambda a: 0.3 * a),
    Row("div", "DivBackward0", torch.div, broadcast),
    Row("div number", "DivBackward0", lambda a: a / -0.3),
    Row("add.Scalar", "AddBackward1", lambda a: aten.add.Scalar(a, 0.3, 0.7)),
    Row("sub.Scalar", "SubBackward1", lambda a: aten.sub.Scalar(a, 0.3, 0.7)),
    Row("mul.Scalar", "MulBackward1", lambda a: aten.mul.Scalar(a, 0.3)),
    Row("div.Scalar", "DivBackward1", lambda a: aten.div.Scalar(a, 0.3)),
    Row("pow", "PowBackward1", torch.pow, broadcast_positive),
    Row("number ** b", "PowBackward2", lambda b: 1.7**b),
    Row("maximum", "MaximumBackward0", torch.maximum, broadcast),
    Row("minimum", "MinimumBackward0", torch.minimum, broadcast),
    Row("where", "WhereBackward0", lambda a, b: torch.where(MASK, a, b), broadcast),
    Row(
        "addcmul",
        "AddcmulBackward0",
        lambda a, b, c: torch.addcmul(a, b, c, value=-1.7),
        lambda: (normal(4), *broadcast()),
    ),
    Row("lerp", "LerpBackward0", lambda a, b: torch.lerp(a, b, 0.3), broadcast),
]
