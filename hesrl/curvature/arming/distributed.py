"""`DistributedDataParallel`: curvature is averaged over the ranks, as the gradient is.

Each rank's loss is a mean over its own samples, and the whole loss is the mean over ranks: so the
gradient is averaged, and with it its derivative. In a forward pass the module knows whether the
next backward pass will synchronize (not under ``no_sync()``); the next backward pass that reaches
its parameters then averages all the curvature that they have accumulated.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from weakref import ref

import torch
import torch.distributed as dist
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parallel.distributed import _DDPSink

from hesrl.curvature.arming.store import is_any_armed, is_armed, store_curvature, stored_curvature
from hesrl.curvature.graph import Graph
from hesrl.curvature.rule_registry import register_rule

_awaiting: list[ref[DistributedDataParallel]] = []
"""The modules whose next backward pass synchronizes, in the order of their forward passes."""


@register_rule(_DDPSink, linear=True)
def sink(node: Any, grads: Any, hess_out: Any) -> Any:
    """The identity that DDP puts behind a module's outputs."""
    return hess_out


def noting_forward(native: Callable[..., Any]) -> Callable[..., Any]:
    """Return a ``forward`` that notes which modules' next backward pass synchronizes."""

    @functools.wraps(native)
    def forward(module: DistributedDataParallel, *inputs: Any, **kwargs: Any) -> Any:
        output = native(module, *inputs, **kwargs)
        synchronizes = torch.is_grad_enabled() and module.require_backward_grad_sync
        if (
            is_any_armed()
            and synchronizes
            and not any(reference() is module for reference in _awaiting)
        ):
            _awaiting.append(ref(module))
        return output

    return forward


def average_over_ranks(graph: Graph) -> None:
    """Average the curvature of the modules that a backward pass synchronized.

    A rank takes part even if its loss depends on none of the armed parameters, because the
    losses of other ranks may depend on them.

    Args:
        graph: The graph of the pass.
    """
    if not _awaiting:
        return
    reached = {id(graph.nodes[leaf].variable) for leaf in graph.structure.leaves}
    for reference in _awaiting.copy():
        module = reference()
        if module is None:
            _awaiting.remove(reference)
            continue
        params = list(module.module.parameters())
        if any(id(param) in reached for param in params):
            _awaiting.remove(reference)
            armed = [param for param in params if is_armed(param)]
            for dtype in dict.fromkeys(param.dtype for param in armed):
                _average([p for p in armed if p.dtype == dtype], reached, module.process_group)


def _average(params: list[Tensor], reached: set[int], group: dist.ProcessGroup) -> None:
    """Average in one message; a parameter that this rank's loss does not depend on has zeros."""
    own = [stored_curvature(param) for param in params]
    hessians = [
        torch.zeros_like(param) if hess is None else hess
        for param, hess in zip(params, own, strict=True)
    ]
    total = _flatten_dense_tensors(hessians)
    dist.all_reduce(total, group=group)
    total /= dist.get_world_size(group)
    for param, hess, mean in zip(
        params, own, _unflatten_dense_tensors(total, hessians), strict=True
    ):
        # Reached, but without curvature: part of its gradient came from elsewhere.
        if param.grad is not None and (hess is not None or id(param) not in reached):
            store_curvature(param, mean)
