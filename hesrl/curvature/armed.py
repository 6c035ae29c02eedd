"""Armed parameters: every ``backward()`` that reaches them also fills ``p.hess_diag``.

Arming a parameter marks the tensor and, once per process, wraps `torch.autograd.backward`, which
``loss.backward()`` calls, and gives tensors the attribute ``hess_diag`` beside ``grad``. The
parameter's class, the forward pass and the native gradient stay as they are. ``hess_diag`` lives
and dies with ``grad``: several backward passes accumulate both, and clearing the gradient, by the
optimizer or by the module, clears both.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from hesrl.curvature.graph import Graph
from hesrl.curvature.plan import METHODS, Method, plan_for
from hesrl.curvature.sweep import Sweep

_ARMED = "_hesrl_armed"
"""Attribute of an armed parameter: the estimator of its curvature."""

_CURVATURE = "_hesrl_curvature"
"""Attribute of a gradient: the curvature that belongs to it, and the gradient's version then."""


def arm(params: Iterable[Tensor], method: Method = "hesscale") -> None:
    """Make ``backward()`` compute the curvature of parameters.

    Arming them again with the same method changes nothing.

    Args:
        params: Leaf tensors that require a gradient.
        method: The estimator, see `hesrl.curvature.plan.Method`.

    Raises:
        ValueError: A tensor is not a leaf, is not of floating point, is listed twice, or is armed
            with another method; or the method is unknown. Nothing has changed then.
    """
    params = list(params)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    seen: set[int] = set()
    for param in params:
        _check(param, method)
        if id(param) in seen:
            raise ValueError(f"the parameter of shape {tuple(param.shape)} is listed twice")
        seen.add(id(param))
    _wrap_backward()
    for param in params:
        setattr(param, _ARMED, method)


def _check(param: Tensor, method: Method) -> None:
    shape = tuple(param.shape)
    if not param.is_leaf or not param.is_floating_point():
        raise ValueError(
            f"curvature is for floating-point leaf tensors, not for one of shape {shape} "
            f"and dtype {param.dtype} (is_leaf={param.is_leaf})"
        )
    other = param.__dict__.get(_ARMED, method)
    if other != method:
        raise ValueError(
            f"the parameter of shape {shape} is armed with {other!r} already: call "
            f"hesrl.curvature.disarm on it before arming it with {method!r}"
        )


def disarm(params: Iterable[Tensor]) -> None:
    """Undo `arm`: drop the curvature of parameters and compute no more."""
    params = list(params)
    clear_curvature(params)
    for param in params:
        param.__dict__.pop(_ARMED, None)


def is_armed(param: Tensor) -> bool:
    """Whether ``backward()`` computes the curvature of a parameter."""
    return _ARMED in param.__dict__


def take_curvature(param: Tensor) -> Tensor | None:
    """Return ``param.hess_diag`` for an optimizer step, without asking for an emptied gradient.

    None if there is no gradient, or one whose curvature no backward pass computed.
    """
    kept = None if param.grad is None else param.grad.__dict__.get(_CURVATURE)
    return None if kept is None else kept[0]


def give_curvature(param: Tensor, hess: Tensor) -> None:
    """Set ``param.hess_diag`` to a curvature that was computed without ``backward()``.

    Args:
        param: A leaf tensor with its gradient in ``param.grad``; it becomes armed.
        hess: Its curvature, of its shape. It is kept, not copied, as long as that gradient.

    Raises:
        ValueError: The tensor has no gradient, or cannot be armed.
    """
    arm([param])
    if param.grad is None:
        raise ValueError(
            f"the parameter of shape {tuple(param.shape)} has no gradient for its curvature to "
            "belong to: set param.grad first"
        )
    _keep(param.grad, hess)


def clear_curvature(params: Iterable[Tensor]) -> None:
    """Forget the curvature of parameters, as ``zero_grad`` forgets the gradient."""
    for param in params:
        if param.grad is not None:
            param.grad.__dict__.pop(_CURVATURE, None)


def _keep(grad: Tensor, hess: Tensor) -> None:
    setattr(grad, _CURVATURE, (hess, grad._version))


def _carried_over(param: Tensor) -> Tensor | float | None:
    """Return what the next curvature is added to.

    That is 0.0 if the gradient was cleared (set to None or to zeros) since the last backward pass,
    and None if the gradient has a part whose curvature nobody computed.
    """
    grad = param.grad
    if grad is None:
        return 0.0
    kept = grad.__dict__.get(_CURVATURE)
    if kept is None:
        return None if grad.any() else 0.0
    hess: Tensor
    hess, version = kept
    return 0.0 if grad._version != version and not grad.any() else hess


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
    tensors = _as_tuple(tensors)
    wanted: Callable[[Tensor], bool] = is_armed
    if inputs is not None:
        inputs = _as_tuple(inputs)
        asked_for = {id(leaf) for leaf in inputs}
        wanted = lambda leaf: id(leaf) in asked_for and is_armed(leaf)  # noqa: E731
    run = functools.partial(
        native, tensors, grad_tensors, retain_graph, create_graph, grad_variables, inputs
    )
    graph = Graph(node for root in tensors if (node := _node(root)) is not None)
    leaves: dict[Method, list[int]] = {}
    for number in graph.structure.leaves:
        leaf = graph.nodes[number].variable
        if wanted(leaf):
            leaves.setdefault(leaf.__dict__[_ARMED], []).append(number)
    if not leaves:
        run()
        return
    sweeps = [
        Sweep(graph, plan_for(graph, frozenset(numbers), method), create_graph=create_graph)
        for method, numbers in leaves.items()
    ]
    before = {n: _carried_over(graph.nodes[n].variable) for group in leaves.values() for n in group}
    with ExitStack() as stack:
        for sweep in sweeps:
            stack.enter_context(sweep)
        run()
    for sweep, numbers in zip(sweeps, leaves.values(), strict=True):
        for number in numbers:
            _leave(graph.nodes[number].variable, sweep.curvature(number), before[number])


def _leave(param: Tensor, hess: Tensor | None, before: Tensor | float | None) -> None:
    """Leave the curvature of one backward pass with the gradient, added to that of passes before.

    A parameter on which the roots depend linearly has zeros.
    """
    if param.grad is None or before is None:
        return
    if hess is None:
        hess = torch.zeros_like(param)
    _keep(param.grad, hess if isinstance(before, float) else before + hess)


def _as_tuple(tensors: Any) -> tuple[Any, ...]:
    """Return the arguments that ``backward`` takes one by one, in a dict or in any iterable."""
    if isinstance(tensors, (Tensor, GradientEdge)):
        return (tensors,)
    return tuple(tensors.values() if isinstance(tensors, dict) else tensors)


def _node(root: Tensor | GradientEdge) -> Any | None:
    """Return the node that made a root, None for a constant."""
    if isinstance(root, GradientEdge):
        return root.node
    if root.grad_fn is None and root.requires_grad:
        return get_gradient_edge(root).node
    return root.grad_fn


@functools.cache
def _wrap_backward() -> None:
    native = torch.autograd.backward
    torch.autograd.backward = functools.wraps(native)(functools.partial(_backward, native))
    Tensor.hess_diag = property(_get_hess_diag)  # type: ignore[attr-defined]
