"""Loss scaling: `torch.amp.GradScaler` unscales the gradient; here it unscales curvature too.

``scaler.scale(loss).backward()`` multiplies both derivatives by the scale S. ``scaler.unscale_``,
which ``scaler.step`` calls if the user has not, divides only ``p.grad`` by S. The optimizer cannot
make up for that, since nobody tells it S once the gradient is unscaled.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch.amp import GradScaler
from torch.optim import Optimizer

from hesrl.curvature import give_curvature, take_curvature


@functools.cache
def unscale_curvature_too() -> None:
    """Wrap ``GradScaler.unscale_``, once per process."""
    native = GradScaler.unscale_

    @functools.wraps(native)
    def unscale_(scaler: GradScaler, optimizer: Optimizer) -> None:
        native(scaler, optimizer)
        if scaler.is_enabled():
            _unscale(scaler, optimizer)

    GradScaler.unscale_ = unscale_  # type: ignore[method-assign, assignment]


@torch.no_grad()
def _unscale(scaler: GradScaler, optimizer: Optimizer) -> None:
    """Divide curvatures by S.

    As with the gradient, a value that is not finite makes the scaler skip the step.
    """
    inverse = 1 / scaler.get_scale()
    found_inf: dict[Any, Any] = scaler._found_inf_per_device(optimizer)
    for group in optimizer.param_groups:
        for param in group["params"]:
            hess = take_curvature(param)
            if hess is not None:
                hess = hess.clone()  # a curvature may share its memory, even with the gradient
                torch._amp_foreach_non_finite_check_and_unscale_(
                    [hess], found_inf[hess.device], torch.tensor(inverse, device=hess.device)
                )
                give_curvature(param, hess)
