"""Scaled dot-product attention.

The fused operation is linear in its values, where the rule is the definition. For queries and keys
it is the rules of the operations that it stands for: see test_attention.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.curvature.rows.row import Row, normal

QUERY = torch.arange(24, dtype=torch.float64).sin().view(2, 2, 3, 2)
KEY = torch.arange(16, dtype=torch.float64).cos().view(2, 1, 4, 2)
MASK = torch.tensor([[True, True, False, True], [False] * 4, [False, True, False, False]])


def fused(v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(QUERY, KEY, v, is_causal=True, scale=0.6, enable_gqa=True)


def by_products(v: Tensor) -> Tensor:
    scores = 0.6 * QUERY @ KEY.mT
    future = torch.ones(3, 4, dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -torch.inf).softmax(-1) @ v


ROWS = [
    Row(
        "attention to values",
        "ScaledDotProductFlashAttentionForCpuBackward0",
        fused,
        lambda: (normal(2, 1, 4, 2),),
        by_products,
    ),
    Row("_safe_softmax", "SafeSoftmaxBackward0", lambda x: torch._safe_softmax(x, -2)),
    Row(
        "_safe_softmax of masked rows",
        "SafeSoftmaxBackward0",
        lambda x: torch._safe_softmax(x.masked_fill(~MASK, -torch.inf), -1),
        reference=lambda x: x.masked_fill(~MASK, -torch.inf).softmax(-1).masked_fill(~MASK, 0),
    ),
]
