"""Matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tests.curvature.rows.row import Row, normal

ROWS = [
    Row(
        "addmm",
        "AddmmBackward0",
        lambda b, a, w: torch.addmm(b, a, w, beta=-0.5, alpha=1.7),
        lambda: (normal(4), normal(3, 2), normal(2, 4)),
    ),
    Row("linear", "AddmmBackward0", F.linear, lambda: (normal(3, 2), normal(4, 2), normal(4))),
    Row(
        "linear 3d",
        "AddmmBackward0",
        F.linear,
        lambda: (normal(2, 3, 2), normal(4, 2), normal(4)),
    ),
    Row("linear 1d", "AddmmBackward0", F.linear, lambda: (normal(2), normal(4, 2), normal(4))),
    Row("mm", "MmBackward0", torch.mm, lambda: (normal(3, 2), normal(2, 4))),
    Row("bmm", "BmmBackward0", torch.bmm, lambda: (normal(2, 3, 2), normal(2, 2, 4))),
    Row("mv", "MvBackward0", torch.mv, lambda: (normal(3, 2), normal(2))),
    Row("dot", "DotBackward0", torch.dot, lambda: (normal(3), normal(3))),
]
