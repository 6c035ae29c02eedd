"""Armed parameters: every ``backward()`` that reaches them also fills ``p.hess_diag``.

Arming a parameter marks the tensor and, once per process, wraps `torch.autograd.backward`, which
``loss.backward()`` calls, and gives tensors the attribute ``hess_diag`` beside ``grad``. The
parameter's class, the forward pass and the native gradient stay as they are. ``hess_diag`` lives
and dies with ``grad``: several backward passes accumulate both, and clearing the gradient, by the
optimizer or by the module, clears both.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.graph import Graph
from hesrl.curvature.sweep import Sweep

_MARK = "_hesrl_curvature"


class _Curvature:
    """What an armed parameter carries: its curvature and the gradient's version with it."""

    __slots__ = ("grad_version", "hess")

    def __init__(self) -> None:
        self.hess: Tensor | None = None
        self.grad_version = -1


def arm(params: Iterable[Tensor]) -> None:
    """Make ``backward()`` compute the curvature of parameters; arming twice changes nothing.

    Args:
        params: Leaf tensors that require a gradient.

    Raises:
        ValueError: A tensor is not a leaf, or is not of floating point.
    """
    params = list(params)
    for param in params:
        if not param.is_leaf or not param.is_floating_point():
            raise ValueError(
                f"curvature is for floating-point leaf tensors, not for one of shape "
                f"{tuple(param.shape)} and dtype {param.dtype} (is_leaf={param.is_leaf})"
            )
    _wrap_backward()
    for param in params:
        if not is_armed(param):
            setattr(param, _MARK, _Curvature())


def disarm(params: Iterable[Tensor]) -> None:
    """Undo `arm`: drop the curvature of parameters and compute no more."""
    for param in params:
        param.__dict__.pop(_MARK, None)


def is_armed(param: Tensor) -> bool:
    """Whether ``backward()`` computes the curvature of a parameter."""
    return _MARK in param.__dict__


def take_curvature(param: Tensor) -> Tensor | None:
    """Return ``param.hess_diag`` for an optimizer step, without asking whether it is stale.

    None if no backward pass since the last clearing computed it.
    """
    return getattr(param, _MARK).hess if is_armed(param) else None


def give_curvature(param: Tensor, hess: Tensor) -> None:
    """Set ``param.hess_diag`` to a curvature that was computed without ``backward()``.

    Args:
        param: A leaf tensor with its gradient in ``param.grad``; it becomes armed.
        hess: Its curvature, of its shape. It is kept, not copied, until the next
            ``backward()`` or ``zero_grad()``.
    """
    arm([param])
    curvature = getattr(param, _MARK)
    curvature.hess = hess
    curvature.grad_version = param.grad._version if param.grad is not None else -1


def clear_curvature(params: Iterable[Tensor]) -> None:
    """Forget the curvature of parameters, as ``zero_grad`` forgets the gradient."""
    for param in params:
        if is_armed(param):
            getattr(param, _MARK).hess = None


def _carried_over(param: Tensor) -> Tensor | float | None:
    """Return what the next curvature is added to.

    That is 0.0 if the gradient was cleared (set to None or to zeros) since the last backward pass,
    and None if the gradient has a part whose curvature nobody computed.
    """
    curvature, grad = getattr(param, _MARK), param.grad
    if grad is None:
        return 0.0
    if curvature.hess is None:
        return None if grad.any() else 0.0
    if grad._version != curvature.grad_version and not grad.any():
        return 0.0
    hess: Tensor = curvature.hess
    return hess


def _get_hess_diag(param: Tensor) -> Tensor | None:
    """Diagonal of the Hessian as HesScale estimates it, of the shape of the parameter, signed.

    None for a tensor that is not armed, or whose gradient was cleared.
    """
    hess = _carried_over(param) if is_armed(param) else None
    return hess if isinstance(hess, Tensor) else None


def _backward(
    native: Callable[..., None],
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    grad_variables: Any = None,
    inputs: Any = None,
) -> None:
    """Run the native backward pass and, if it can reach an armed parameter, the sweep with it.

    Raises:
        MissingRuleError: An operation on the way has no rule. No gradient has changed then.
    """
    run = functools.partial(
        native, tensors, grad_tensors, retain_graph, create_graph, grad_variables, inputs
    )
    roots = tensors if isinstance(tensors, Sequence) else (tensors,)
    nodes = [root.grad_fn if isinstance(root, Tensor) else root.node for root in roots]
    wanted = is_armed
    if inputs is not None:
        asked_for = {id(leaf) for leaf in (inputs if isinstance(inputs, Sequence) else (inputs,))}
        wanted = lambda leaf: id(leaf) in asked_for and is_armed(leaf)  # noqa: E731
    graph = Graph([node for node in nodes if node is not None], wanted)
    if not graph.leaves:
        run()
        return
    before = [_carried_over(leaf) for _, leaf in graph.leaves]
    with Sweep(graph, create_graph=create_graph) as sweep:
        run()
        results = sweep.curvatures()
    for (leaf, hess), carried in zip(results, before, strict=True):
        curvature = getattr(leaf, _MARK)
        if isinstance(carried, float):
            curvature.hess = hess
        else:
            curvature.hess = None if carried is None else carried + hess
        curvature.grad_version = leaf.grad._version if leaf.grad is not None else -1


@functools.cache
def _wrap_backward() -> None:
    native = torch.autograd.backward
    torch.autograd.backward = functools.wraps(native)(functools.partial(_backward, native))
    Tensor.hess_diag = property(_get_hess_diag)  # type: ignore[attr-defined]
