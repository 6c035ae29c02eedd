"""Reductions over dimensions."""

from __future__ import annotations

import torch

from tests.curvature.rows.row import Row

ROWS = [
    Row("sum", "SumBackward0", torch.sum),
    Row("sum dim", "SumBackward1", lambda x: x.sum(0)),
    Row("sum dims keepdim", "SumBackward1", lambda x: x.sum((-1, 0), keepdim=True)),
    Row("mean", "MeanBackward0", torch.mean),
    Row("mean dim", "MeanBackward1", lambda x: x.mean(-1)),
    Row("mean dims keepdim", "MeanBackward1", lambda x: x.mean((-1, 0), keepdim=True)),
    Row("max dim", "MaxBackward0", lambda x: x.max(1).values),
    Row("min dim", "MinBackward0", lambda x: x.min(0, keepdim=True).values),
]
