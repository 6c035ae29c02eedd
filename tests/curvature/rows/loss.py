"""Losses that PyTorch computes in one operation."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tests.curvature.rows.row import Row, pair

TARGETS = torch.tensor([2, 0, 1])
WEIGHTS = torch.tensor([0.5, 2.0, 1.7, 1.0], dtype=torch.float64)

ROWS = [
    *(
        Row(f"{name} {reduction}", node, lambda x, t, f=f, r=reduction: f(x, t, reduction=r), pair)
        for reduction in ("none", "mean", "sum")
        for name, node, f in (
            ("mse", "MseLossBackward0", F.mse_loss),
            (
                "huber",
                "HuberLossBackward0",
                lambda x, t, reduction: F.huber_loss(x, t, reduction, 0.7),
            ),
            (
                "smooth_l1",
                "SmoothL1LossBackward0",
                lambda x, t, reduction: F.smooth_l1_loss(x, t, reduction=reduction, beta=0.7),
            ),
        )
    ),
    *(
        Row(
            f"nll {reduction}",
            "NllLossBackward0",
            lambda x, r=reduction: F.nll_loss(x, TARGETS, WEIGHTS, ignore_index=1, reduction=r),
        )
        for reduction in ("none", "mean", "sum")
    ),
]
