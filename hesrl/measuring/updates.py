"""What is timed: one update of a model, which is forward, backward with curvature, and step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hesrl.errors import UserError
from hesrl.optim.base import CurvatureOptimizer
from hesrl.train_step import TrainStep

Loss = Callable[[], Tensor]
Update = Callable[[], object]


def eager_update(optimizer: torch.optim.Optimizer, loss: Loss) -> Update:
    """Return an update by the loop that PyTorch's users write."""

    def update() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return update


def recorded_update(
    optimizer: CurvatureOptimizer,
    loss: Loss,
    compile: str,
    remedy: str,
    max_grad_norm: float = math.inf,
) -> Update:
    """Return an update in one call, of which the first one is eager.

    Args:
        optimizer: What steps.
        loss: The loss, on the same data at each call.
        compile: ``"auto"`` to replay what was recorded, ``"on"`` to compile it.
        remedy: What to do where it cannot be compiled, the end of the error's line.
        max_grad_norm: Norm to clip the gradient to.
    """

    def refuse(line: str) -> None:
        raise UserError(f"{line}{remedy}")

    step = TrainStep(
        lambda: (loss(), ()),
        optimizer,
        max_grad_norm=max_grad_norm,
        compile=compile,
        report=refuse,
    )
    no_indices = torch.empty(0, dtype=torch.int64)
    return lambda: step((), no_indices)
