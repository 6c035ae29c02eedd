"""Outputs of a network, and the data at which losses of them are taken; fixed, in float64.

Half the probability ratios lie outside the clip range, on either side, with advantages of both
signs; so do the value changes.
"""

from __future__ import annotations

import torch
from torch import Tensor

N, K = 8, 3
CLIP = 0.2


def fixed(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


ACTIONS = fixed(N, K, seed=1)
CHOICES = torch.tensor([0, 1, 2, 1, 0, 2, 2, 1])
MEAN, LOG_STD, LOGITS = fixed(N, K, seed=2), 0.3 * fixed(1, K, seed=3), fixed(N, K, seed=4)
VALUES, RETURNS = fixed(N, 1, seed=5), fixed(N, seed=6)
LOG_VARIANCE = 0.5 * fixed(N, K, seed=7)
TWO_LOGITS = fixed(N, 5, seed=8)
"""Of two categorical actions side by side, one of 2 and one of 3 choices."""
NOISE = fixed(N, K, seed=9)
ADVANTAGES = torch.tensor([1.5, -1.5], dtype=torch.float64).repeat(4)
LOG_RATIOS = torch.tensor([-0.5, -0.5, -0.1, -0.1, 0.1, 0.1, 0.5, 0.5], dtype=torch.float64)
OLD_VALUES = VALUES.view(-1) - 2 * LOG_RATIOS
"""Half of them further than `CLIP` from the values."""
