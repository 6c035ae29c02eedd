"""Loss scaling: `torch.amp.GradScaler` unscales the gradient; here it unscales curvature too.

``scaler.scale(loss).backward()`` multiplies both derivatives by the scale S. ``scaler.unscale_``,
which ``scaler.step`` calls if the user has not, divides only ``p.grad`` by S. The optimizer cannot
make up for that, since nobody tells it S once the gradient is unscaled.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from hesrl.curvature.arming.store import store_curvature, stored_curvature


def unscaling_both(native: Callable[..., None]) -> Callable[..., None]:
    """Return a ``GradScaler.unscale_`` that unscales curvature, too."""

    @functools.wraps(native)
    def unscale_(scaler: GradScaler, optimizer: Optimizer) -> None:
        carriers = _carriers(optimizer) if scaler.is_enabled() else []
        if not carriers:
            native(scaler, optimizer)
            return
        optimizer.param_groups.append({"params": [carrier for _, carrier in carriers]})
        try:
            native(scaler, optimizer)
        finally:
            optimizer.param_groups.pop()
        for param, carrier in carriers:
            assert carrier.grad is not None
            store_curvature(param, carrier.grad)

    return unscale_


def _carriers(optimizer: Optimizer) -> list[tuple[Tensor, Tensor]]:
    """Return each parameter that has curvature, and a tensor whose gradient is a copy of it.

    Among the parameters of the optimizer it is unscaled as they are: divided by S, and if it is not
    finite the scaler skips the step.
    """
    carriers = []
    for group in optimizer.param_groups:
        for param in group["params"]:
            hess = stored_curvature(param)
            if hess is not None:
                carrier = torch.empty_like(hess)
                # A copy, since a curvature may share its memory, even with the gradient.
                carrier.grad = hess.clone()
                carriers.append((param, carrier))
    return carriers
