"""What is timed: one update of a model, which is forward, backward with curvature, and step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Loss = Callable[[], Tensor]
Update = Callable[[], object]


def eager_update(optimizer: torch.optim.Optimizer, loss: Loss) -> Update:
    """Return an update by the loop that PyTorch's users write."""

    def update() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return update
