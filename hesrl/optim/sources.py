"""Curvature as a source: when parameters are armed, and what their backward passes left."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from hesrl.curvature import Method, arm, is_armed
from hesrl.curvature.arming.armed import pause
from hesrl.curvature.arming.fingerprint import Relation, is_recording
from hesrl.curvature.arming.store import changed, look_up


def is_due(group: dict[str, Any], state: dict[str, Any]) -> bool:
    """Whether a parameter's next step takes a new curvature: its steps 1, k + 1, 2 k + 1, … do."""
    every: int = group["curvature_every"]
    return every == 1 or int(state.get("step", 0)) % every == 0


def arm_due(
    optimizer: Optimizer, group: dict[str, Any], params: list[Tensor], method: Method
) -> None:
    """Arm the parameters whose next step takes a new curvature, and no others.

    Raises:
        ValueError: A parameter cannot be armed.
    """
    due = {id(p) for p in params if is_due(group, optimizer.state.get(p, {}))}
    pause((p for p in params if id(p) not in due), optimizer)
    arm((p for p in params if id(p) in due), method, owner=optimizer)


def take_due(group: dict[str, Any], params: list[Tensor], state: Any) -> list[Any]:
    """Return h of each parameter, None where this step takes no new one.

    h is zero where the gradient was set to zeros, as by ``zero_grad(set_to_none=False)``.

    Raises:
        RuntimeError: A parameter has a gradient but no curvature, or one of another gradient.
        FloatingPointError: A curvature is not finite where the gradient is. On a GPU and while
            operations are recorded no number is asked for; there an entry whose h is not finite
            has one so large that the entry stays where it is.
    """
    lazy = group["curvature_every"] > 1
    hessians: list[Any] = []
    for param in params:
        of_param = state.get(param, {})
        # A run that was lazy until now has its next curvature from the next backward pass.
        turned = "hess_count" in of_param and not is_armed(param)
        if turned or (lazy and not is_due(group, of_param)):
            hessians.append(None)
            continue
        hess, relation = look_up(param)
        if relation is Relation.OTHER and (hess is not None or _has_gradient(param)):
            raise _no_curvature(group, param, hess)
        if hess is None or relation is Relation.CLEARED:
            hess = torch.zeros_like(param)
        hessians.append(hess)
    fresh = [hess for hess in hessians if hess is not None]
    if is_recording() or not all(hess.is_cpu for hess in fresh):
        return [None if hess is None else _bounded(hess) for hess in hessians]
    if fresh:
        _refuse_not_finite(group, params, hessians, fresh)
    return hessians


def _bounded(hess: Tensor) -> Tensor:
    """Return h, in place of NaN and infinity the largest number whose square is finite."""
    largest = math.sqrt(torch.finfo(hess.dtype).max) / 2
    return hess.nan_to_num(largest, largest, largest)


def _has_gradient(param: Tensor) -> bool:
    return param.grad is None or bool(param.grad.any())


def _refuse_not_finite(
    group: dict[str, Any], params: list[Tensor], hessians: list[Any], fresh: list[Tensor]
) -> None:
    norms = torch._foreach_norm(fresh)
    if math.isfinite(sum(norms[1:], norms[0]).item()):
        return  # else there is one, or the squares overflow
    for param, hess in zip(params, hessians, strict=True):
        if hess is not None and param.grad is not None:
            wrong = int((~hess.isfinite() & param.grad.isfinite()).sum())
            if wrong:
                raise FloatingPointError(
                    f"the curvature of {name_of(group, param)} is not finite in {wrong} entries in "
                    "which the gradient is: zero_grad() skips this step, and "
                    "hesrl.curvature.explain(loss) lists the operations that it comes from"
                )


def name_of(group: dict[str, Any], param: Tensor) -> str:
    """Return what an error message calls a parameter of a group."""
    index = next(i for i, other in enumerate(group["params"]) if other is param)
    name = group["param_names"][index] if "param_names" in group else f"parameter {index}"
    return f"{name} of shape {tuple(param.shape)}"


def _no_curvature(group: dict[str, Any], param: Tensor, hess: Tensor | None) -> RuntimeError:
    name = name_of(group, param)
    if hess is not None:
        return RuntimeError(changed(name))
    return RuntimeError(
        f"{name} has a gradient but no curvature: its gradient must "
        "come from loss.backward() called after the optimizer was made (not from "
        "torch.autograd.grad, nor from a backward() before that)"
    )
