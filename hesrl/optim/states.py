"""The state of a parameter: what kinds there are, in which precision, and which may be loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from hesrl.optim.update import HALF

State = dict[str, Any]

COUNTS = {"step", "hess_count"}
"""The states that count: t, and in a lazy run the curvatures so far, each a tensor of one."""

WIDE = {"exp_hess", "exp_hess_sq", "exp_grad_sq", "exp_fisher"}
"""The states that are of single precision if the parameters are of half: their squares overflow."""

SCALARS = {"td_count", "sigma", "td_error_sq", "td_error_abs"}
"""The states of a whole group that its first parameter keeps, each a tensor of one in double."""


def dtype_of(name: str, param: Tensor) -> torch.dtype:
    """Return the precision in which a parameter's state is kept."""
    if name in SCALARS:
        return torch.float64
    return torch.float32 if name in WIDE and param.dtype in HALF else param.dtype


def count(value: Any, group: dict[str, Any], param: Tensor) -> Tensor:
    """Return a count as a tensor: where the parameter is if the group is capturable."""
    device = param.device if group["capturable"] else "cpu"
    return torch.as_tensor(value, dtype=torch.float32, device=device)


def check_loadable(
    optimizer: str,
    state_dict: dict[str, Any],
    names_of: Callable[[dict[str, Any]], Iterable[str]],
) -> None:
    """Refuse the state of another optimizer.

    Args:
        optimizer: Name of the optimizer, for the message.
        state_dict: What an optimizer's `state_dict` returned.
        names_of: Returns the names of the states that a parameter of a group needs.

    Raises:
        ValueError: The message says what does not fit.
    """
    for group in state_dict["param_groups"]:
        for state in (state_dict["state"].get(key, {}) for key in group["params"]):
            for name in names_of(group) if state else ():
                if name not in state:
                    raise ValueError(
                        f"{optimizer} cannot load the state of another optimizer: it has "
                        f"{', '.join(state)}, but no {name}"
                    )
        for name in ("amsgrad", "differentiable"):
            if group.get(name):
                raise ValueError(f"{optimizer} cannot load a state with {name}=True")
        # torch's SGD never says that its weight decay is not decoupled.
        coupled = group.get("momentum") and "curvature_every" not in group
        if group.get("weight_decay") and not group.get("decoupled_weight_decay", not coupled):
            raise ValueError(
                f"{optimizer} cannot load a weight_decay that is not decoupled: it is "
                f"{group['weight_decay']!r}, added to the gradient"
            )


def in_own_precision(state: State, param: Tensor) -> State:
    """Return those of a saved state that are not kept in the precision of the parameter."""
    found = {}
    for name in (WIDE | SCALARS) & state.keys():
        dtype = dtype_of(name, param)
        if dtype != param.dtype:
            found[name] = state[name].to(param.device, dtype, copy=True)
    return found
