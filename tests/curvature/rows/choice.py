"""Elementwise choices between several tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.curvature.rows.row import Row, broadcast, normal

MASK = torch.tensor([[True, False, False, True]]).expand(3, 4)


def between() -> tuple[Tensor, ...]:
    """A tensor with a lower and an upper bound, which cross in some places."""
    return normal(2, 3, 4), normal(3, 1) - 0.5, normal(4) + 0.5


ROWS = [
    Row("maximum", "MaximumBackward0", torch.maximum, broadcast),
    Row("minimum", "MinimumBackward0", torch.minimum, broadcast),
    Row("fmax", "FmaxBackward0", torch.fmax, broadcast),
    Row("fmin", "FminBackward0", torch.fmin, broadcast),
    Row("where", "WhereBackward0", lambda a, b: torch.where(MASK, a, b), broadcast),
    Row("where number", "WhereBackward0", lambda a: torch.where(MASK, 2.0, a)),
    Row(
        "masked_fill tensor",
        "MaskedFillBackward1",
        lambda a, v: a.masked_fill(MASK, v),
        lambda: (normal(3, 4), normal()),
    ),
    Row("clamp tensors", "ClampBackward0", torch.clamp, between),
    Row("clamp from tensor", "ClampBackward0", lambda x, low: torch.clamp(x, min=low), broadcast),
    Row("clamp to tensor", "ClampBackward0", lambda x, high: torch.clamp(x, max=high), broadcast),
    Row("clamp_min tensor", "ClampMinBackward1", torch.clamp_min, broadcast),
    Row("clamp_max tensor", "ClampMaxBackward1", torch.clamp_max, broadcast),
    Row("copysign", "CopysignBackward0", torch.copysign, broadcast),
]
