"""Armed parameters: every ``backward()`` that reaches them also fills ``p.hess_diag``.

Arming a parameter marks the tensor and, once per process, wraps `torch.autograd.backward`, which
``loss.backward()`` calls, and gives tensors the attribute ``hess_diag`` beside ``grad``. The
parameter's class, the forward pass and the native gradient stay as they are. ``hess_diag`` lives
and dies with ``grad``: several backward passes accumulate both, and clearing the gradient, by the
optimizer or by the module, clears both. A hook that changes a gradient changes g in the
recursion from there on, and leaves h as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import GradientEdge

from hesrl.curvature.advice import hidden_by
from hesrl.curvature.analysis import Method, check_method
from hesrl.curvature.distributed import average_over_ranks, wrap_forward
from hesrl.curvature.graph import Graph, node_of
from hesrl.curvature.plan import plan_for
from hesrl.curvature.registry import MissingRuleError
from hesrl.curvature.sampling import GaussNewtonMC, Hutchinson
from hesrl.curvature.store import (
    ARMED,
    carried_over,
    clear_curvature,
    get_hess_diag,
    is_armed,
    keep,
    take_curvature,
)
from hesrl.curvature.sweep import Sweep

_lock = Lock()


def arm(params: Iterable[Tensor], method: Method = "hesscale") -> None:
    """Make ``backward()`` compute the curvature of parameters.

    Arming them again with the same method changes nothing.

    Args:
        params: Leaf tensors that require a gradient.
        method: The estimator, see `hesrl.curvature.Method`.

    Raises:
        ValueError: A tensor is not a leaf, is not of floating point, is listed twice, or is armed
            with another method; or the method is unknown. Nothing has changed then.
    """
    params = list(params)
    check_method(method)
    seen: set[int] = set()
    for param in params:
        _check(param, method)
        if id(param) in seen:
            raise ValueError(f"the parameter of shape {tuple(param.shape)} is listed twice")
        seen.add(id(param))
    with _lock:
        _wrap_backward()
    for param in params:
        setattr(param, ARMED, method)


def _check(param: Tensor, method: Method) -> None:
    shape = tuple(param.shape)
    if not param.is_leaf or not param.is_floating_point():
        raise ValueError(
            f"curvature is for floating-point leaf tensors, not for one of shape {shape} "
            f"and dtype {param.dtype} (is_leaf={param.is_leaf})"
        )
    other = getattr(param, ARMED, method)
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
        param.__dict__.pop(ARMED, None)


def give_curvature(param: Tensor, hess: Tensor) -> None:
    """Set ``param.hess_diag`` to a curvature that was computed without ``backward()``.

    Args:
        param: A leaf tensor with its gradient in ``param.grad``; it becomes armed.
        hess: Its curvature, of its shape. It is kept, not copied, as long as that gradient.

    Raises:
        ValueError: The tensor has no gradient, or another shape; or it cannot be armed.
    """
    if not is_armed(param):
        arm([param])
    if param.grad is None:
        raise ValueError(
            f"the parameter of shape {tuple(param.shape)} has no gradient for its curvature to "
            "belong to: set param.grad first"
        )
    if hess.shape != param.shape:
        raise ValueError(
            f"a curvature of shape {tuple(hess.shape)} is not that of a parameter of shape "
            f"{tuple(param.shape)}"
        )
    keep(param.grad, hess)


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
        native,
        tensors,
        grad_tensors,
        retain_graph=retain_graph,
        create_graph=create_graph,
        grad_variables=grad_variables,
        inputs=inputs,
    )
    graph = Graph(node for root in tensors if (node := node_of(root)) is not None)
    leaves: dict[Method, list[int]] = {}
    for number in graph.structure.leaves:
        leaf = graph.nodes[number].variable
        if wanted(leaf):
            leaves.setdefault(getattr(leaf, ARMED), []).append(number)
    if not leaves:
        run()
        average_over_ranks(graph)
        return
    params = [graph.nodes[number].variable for group in leaves.values() for number in group]
    _refuse_hidden(params)
    keep_graph = create_graph if retain_graph is None else retain_graph
    passes = [
        _make_pass(method, graph, numbers, (tensors, grad_tensors), create_graph, keep_graph)
        for method, numbers in leaves.items()
    ]
    if "hutchinson" in leaves:
        run = functools.partial(run, retain_graph=True, create_graph=True)
    before = [carried_over(param) for param in params]
    clear_curvature(p for p, hess in zip(params, before, strict=True) if not torch.is_tensor(hess))
    with ExitStack() as stack:
        for one in passes:
            stack.enter_context(one)
        run()
    hessians = [
        one.curvature(number)
        for one, group in zip(passes, leaves.values(), strict=True)
        for number in group
    ]
    for param, hess, hess_before in zip(params, hessians, before, strict=True):
        _leave(param, hess, hess_before)
    average_over_ranks(graph)


def _make_pass(
    method: Method,
    graph: Graph,
    leaves: list[int],
    roots: tuple[Any, Any],
    keep_recorded: bool,
    keep_graph: bool,
) -> Sweep | GaussNewtonMC | Hutchinson:
    """Return what computes the curvature of some leaves around the native pass."""
    if method == "ggn_mc":
        return GaussNewtonMC(graph, leaves, *roots)
    if method == "hutchinson":
        return Hutchinson(graph, leaves, keep_recorded=keep_recorded, keep_graph=keep_graph)
    return Sweep(graph, plan_for(graph, frozenset(leaves), method))


def _refuse_hidden(params: list[Tensor]) -> None:
    """Refuse a backward pass that a `torch.autograd.Function` runs inside its own.

    It has the gradient at its roots, but nobody knows the curvature there.
    """
    node = torch._C._current_autograd_node()
    if isinstance(node, BackwardCFunction):
        raise MissingRuleError(hidden_by(node.name(), params))


def _leave(param: Tensor, hess: Tensor | None, before: Tensor | float | None) -> None:
    """Leave the curvature of one backward pass with the gradient, added to that of passes before.

    A parameter on which the roots depend linearly has zeros.
    """
    if param.grad is None or before is None:
        return
    if hess is None:
        hess = torch.zeros_like(param)
    # A backward pass inside this one, in a hook, has added to it.
    within = take_curvature(param)
    total = before if within is None else within
    keep(param.grad, hess if isinstance(total, float) else total + hess)


def _as_tuple(tensors: Any) -> tuple[Any, ...]:
    """Return the arguments that ``backward`` takes one by one, in a dict or in any iterable."""
    if isinstance(tensors, (Tensor, GradientEdge)):
        return (tensors,)
    return tuple(tensors.values() if isinstance(tensors, dict) else tensors)


@functools.cache
def _wrap_backward() -> None:
    native = torch.autograd.backward
    # Left out of compiled functions: the sweep works on the graph of one pass, not of any.
    wrapped = torch.compiler.disable(functools.partial(_backward, native))
    torch.autograd.backward = functools.wraps(native)(wrapped)
    wrap_forward()
    Tensor.hess_diag = property(get_hess_diag)  # type: ignore[attr-defined]
