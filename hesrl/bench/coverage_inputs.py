"""A loss of whatever a model returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hesrl.bench.coverage_examine import Case


def loss_of(output: Any) -> Tensor:
    """Return a scalar of what a model returned: its own loss, a cross-entropy or mean squares."""
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if isinstance(loss, Tensor) and loss.requires_grad:
        return loss.sum()
    found = [t for t in tensors_of(output) if t.is_floating_point() and t.requires_grad]
    if not found:
        raise RuntimeError("the outputs have no gradient")
    return torch.stack([_loss_of_tensor(t) for t in found]).sum()


def _loss_of_tensor(output: Tensor) -> Tensor:
    if output.dim() == 2 and len(output) > 1:
        target = torch.arange(len(output)) % output.shape[1]
        return F.cross_entropy(output.float(), target)
    return output.float().square().mean()


def tensors_of(tree: Any) -> list[Tensor]:
    """Return the tensors in nested lists, dicts, dataclasses and the like, each once."""
    found: dict[int, Tensor] = {}
    stack = [tree]
    while stack:
        item = stack.pop()
        if isinstance(item, Tensor):
            found[id(item)] = item
        elif isinstance(item, Mapping):
            stack.extend(reversed(list(item.values())))
        elif isinstance(item, (list, tuple)):
            stack.extend(reversed(item))
        elif hasattr(item, "__dict__") and not isinstance(item, nn.Module):
            stack.extend(reversed(list(vars(item).values())))
    return list(found.values())


def case_of(name: str, model: nn.Module, *args: Any, **kwargs: Any) -> Case:
    """Return a case in training mode from a model and the arguments of its call."""
    model.train()
    return Case(name, model, lambda: loss_of(model(*args, **kwargs)))
