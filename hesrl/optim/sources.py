"""Curvature as a source: when parameters are armed, and what their backward passes left."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hesrl.curvature import Method, arm, disarm, is_armed, take_curvature
from hesrl.optim.amp import unscale_curvature_too


def is_due(group: dict[str, Any], state: dict[str, Any]) -> bool:
    """Whether a parameter's next step takes a new curvature: its steps 1, k + 1, 2 k + 1, … do."""
    every: int = group["curvature_every"]
    return every == 1 or int(state.get("step", 0)) % every == 0


def arm_due(group: dict[str, Any], params: list[Tensor], state: Any, method: Method) -> None:
    """Arm the parameters whose next step takes a new curvature, and disarm the others.

    Raises:
        ValueError: A parameter cannot be armed.
    """
    due = {id(p) for p in params if is_due(group, state.get(p, {}))}
    disarm(p for p in params if id(p) not in due)
    arm((p for p in params if id(p) in due), method)
    unscale_curvature_too()


def take_due(group: dict[str, Any], params: list[Tensor], state: Any) -> list[Any]:
    """Return h of each parameter, None where this step takes no new one.

    h is zero where ``zero_grad(set_to_none=False)`` left a gradient of zeros only.

    Raises:
        RuntimeError: A parameter has a gradient but no curvature.
    """
    lazy = group["curvature_every"] > 1
    hessians = []
    for param in params:
        hess = take_curvature(param)
        of_param = state.get(param, {})
        # A run that was lazy until now has its next curvature from the next backward pass.
        turned = "hess_count" in of_param and not is_armed(param)
        if turned or (lazy and not is_due(group, of_param)):
            hess = None
        elif hess is None:
            if param.grad is None or param.grad.any():
                raise _missing_curvature(group, param)
            hess = torch.zeros_like(param)
        hessians.append(hess)
    return hessians


def _missing_curvature(group: dict[str, Any], param: Tensor) -> RuntimeError:
    index = next(i for i, other in enumerate(group["params"]) if other is param)
    name = group["param_names"][index] if "param_names" in group else f"parameter {index}"
    return RuntimeError(
        f"{name} of shape {tuple(param.shape)} has a gradient but no curvature: its gradient must "
        "come from loss.backward() called after the optimizer was made (not from "
        "torch.autograd.grad, nor from a backward() before that)"
    )
