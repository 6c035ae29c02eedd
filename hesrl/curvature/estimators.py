"""Hessian diagonals on demand, without arming anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias, overload

import torch
from torch import Tensor

from hesrl.curvature.advice import REENTRANT_CHECKPOINT, hidden_by
from hesrl.curvature.analysis import Method, check_method
from hesrl.curvature.graph import Graph, node_of
from hesrl.curvature.plan import plan_for
from hesrl.curvature.registry import MissingRuleError
from hesrl.curvature.sweep import Sweep

Loss: TypeAlias = Tensor | Callable[[], Tensor]


@overload
def hess_diag(
    loss: Loss, params: Mapping[str, Tensor], method: Method = ...
) -> dict[str, Tensor]: ...


@overload
def hess_diag(loss: Loss, params: Iterable[Tensor], method: Method = ...) -> list[Tensor]: ...


def hess_diag(
    loss: Loss, params: Mapping[str, Tensor] | Iterable[Tensor], method: Method = "hesscale"
) -> dict[str, Tensor] | list[Tensor]:
    """Estimate ``diag ∂²L/∂θ²`` in one backward pass (Elsayed et al., 2024, arXiv 2406.03276).

    It leaves ``p.grad``, ``p.hess_diag`` and the graph of the loss as they are, so that
    ``loss.backward()`` still works.

    Args:
        loss: L, a scalar that autograd recorded, or a function that computes it.
        params: θ, leaf tensors that require a gradient, in a list or by name
            (``dict(model.named_parameters())``).
        method: ``"hesscale"``, ``"hesscale_gn"`` or ``"bl89"``, see `hesrl.curvature.Method`.

    Returns:
        The signed diagonal for each of ``params``, of its shape and dtype, in loss per squared
        parameter; zeros where the loss does not depend on it. In a list or by name, as asked.

    Raises:
        ValueError: The loss is not a scalar that autograd recorded, or belongs to a transform of
            `torch.func`; a parameter is not a floating-point leaf that requires a gradient; or the
            method is unknown.
        MissingRuleError: An operation between the loss and the parameters has no rule.
    """
    if isinstance(params, Mapping):
        return dict(zip(params, hess_diag(loss, list(params.values()), method), strict=True))
    params = list(params)
    check_method(method)
    for param in params:
        if not (param.is_leaf and param.requires_grad and param.is_floating_point()):
            raise ValueError(
                "params must be floating-point leaves that require a gradient, not a tensor of "
                f"shape {tuple(param.shape)} and dtype {param.dtype} (is_leaf={param.is_leaf}, "
                f"requires_grad={param.requires_grad})"
            )
    if not isinstance(loss, Tensor):
        with torch.enable_grad():
            loss = loss()
    if not isinstance(loss, Tensor):
        raise ValueError(f"the loss must be a tensor, not {loss!r}")
    if torch._C._functorch.is_functorch_wrapped_tensor(loss):
        raise ValueError(
            "the loss belongs to a transform of torch.func (vmap, grad, …), whose operations the "
            "graph does not show: call hess_diag outside of it"
        )
    if loss.numel() != 1:
        raise ValueError(f"the loss must be a scalar, not of shape {tuple(loss.shape)}")
    root = node_of(loss)
    if root is None:
        raise ValueError("the loss does not require a gradient: it depends on no parameter")
    graph = Graph([root])
    numbers = {id(graph.nodes[leaf].variable): leaf for leaf in graph.structure.leaves}
    wanted = {id(param): param for param in params if id(param) in numbers}
    missing = [param for param in params if id(param) not in numbers]
    if missing and any(node.name() == REENTRANT_CHECKPOINT for node in graph.nodes):
        raise MissingRuleError(hidden_by(REENTRANT_CHECKPOINT, missing))
    hessians: dict[int, Tensor | None] = {}
    if wanted:
        plan = plan_for(graph, frozenset(numbers[key] for key in wanted), method)
        with Sweep(graph, plan) as sweep:
            torch.autograd.grad(loss, list(wanted.values()), retain_graph=True, allow_unused=True)
        hessians = {key: sweep.curvature(numbers[key]) for key in wanted}
    return [
        torch.zeros_like(param) if (hess := hessians.get(id(param))) is None else hess
        for param in params
    ]
