"""A backward pass that gives the gradients of armed parameters their curvature.

`backward` does what `torch.autograd.backward` does, with curvature. While parameters are armed,
`hesrl.curvature.arming.torch_patches` makes ``loss.backward()`` do the same.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from hesrl.curvature.advice import hidden_by
from hesrl.curvature.arming.distributed import average_over_ranks
from hesrl.curvature.arming.store import (
    Stored,
    accumulated_curvature,
    is_any_armed,
    is_armed,
    mark_of,
    store_curvature,
    stored_curvature,
    untraced,
)
from hesrl.curvature.backward_sweep import Sweep
from hesrl.curvature.estimators.sampling import GaussNewtonMC, Hutchinson
from hesrl.curvature.graph import Graph, node_of
from hesrl.curvature.method import Method
from hesrl.curvature.plan import plan_for
from hesrl.curvature.roots import Hess, as_tuple, handed_on, refuse_seeds, seeds_of
from hesrl.curvature.rule_registry import MissingRuleError

_native = torch.autograd.backward


def backward(
    tensors: Any,
    grad: Any = None,
    *,
    hess: Hess | Sequence[Hess] = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Do what ``loss.backward()`` does while parameters are armed, without a change of PyTorch.

    A backward pass that is split at a tensor, ``d = out.detach().requires_grad_()``, goes on with
    ``backward(out, d.grad, hess=d.hess_diag)`` if d is armed.

    Args:
        tensors: The loss, or several roots, as for `torch.autograd.backward`.
        grad: The gradient at the roots, likewise.
        hess: The curvature at the roots, each of the shape of its root. The number 0 stands for
            zeros, which is the curvature of losses: it must be given beside a ``grad``, which may
            come from a loss whose curvature is not known here.
        retain_graph: As for `torch.autograd.backward`.
        create_graph: Likewise.
        inputs: Likewise.

    Raises:
        ValueError: ``hess`` does not fit the roots.
        MissingRuleError: An operation on the way to an armed parameter has no rule, or a root has
            a gradient but no curvature. No gradient has changed then.
    """
    untraced(run_backward)(
        _native,
        tensors,
        grad,
        retain_graph=retain_graph,
        create_graph=create_graph,
        inputs=inputs,
        hess=hess,
    )


def run_backward(
    native: Callable[..., None],
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    grad_variables: Any = None,
    inputs: Any = None,
    hess: Any = None,
) -> None:
    """Run the native backward pass and, if it can reach an armed parameter, the sweep with it.

    See `backward` for the errors.
    """
    tensors = as_tuple(tensors)
    inputs = None if inputs is None else as_tuple(inputs)
    run = functools.partial(
        native,
        tensors,
        grad_tensors,
        retain_graph=retain_graph,
        create_graph=create_graph,
        grad_variables=grad_variables,
        inputs=inputs,
    )
    if not is_any_armed() or handed_on.is_again(tensors):
        run()
        return
    wanted: Callable[[Tensor], bool] = is_armed
    if inputs is not None:
        asked_for = {id(leaf) for leaf in inputs}
        wanted = lambda leaf: id(leaf) in asked_for and is_armed(leaf)  # noqa: E731
    graph = Graph(node for root in tensors if (node := node_of(root)) is not None)
    leaves: dict[Method, list[int]] = {}
    for number in graph.structure.leaves:
        leaf = graph.nodes[number].variable
        if wanted(leaf):
            mark = mark_of(leaf)
            assert mark is not None
            leaves.setdefault(mark.method, []).append(number)
    if not leaves:
        run()
        average_over_ranks(graph)
        return
    numbers = [number for group in leaves.values() for number in group]
    params = [graph.nodes[number].variable for number in numbers]
    _refuse_hidden(params)
    _refuse_compiled()
    grads = grad_tensors if grad_tensors is not None else grad_variables
    seeds = seeds_of(graph, tensors, grads, hess)
    keep_graph = create_graph if retain_graph is None else retain_graph
    passes: list[Sweep | GaussNewtonMC | Hutchinson] = []
    for method, group in leaves.items():
        if method == "ggn_mc":
            refuse_seeds(seeds, method)
            passes.append(GaussNewtonMC(graph, group, tensors, grads))
        elif method == "hutchinson":
            refuse_seeds(seeds, method)
            passes.append(
                Hutchinson(graph, group, keep_recorded=create_graph, keep_graph=keep_graph)
            )
        else:
            plan = plan_for(graph, frozenset(group), method, frozenset(seeds))
            passes.append(Sweep(graph, plan, seeds))
    if "hutchinson" in leaves:
        run = functools.partial(run, retain_graph=True, create_graph=True)
    with _EarlierCurvature(params) as earlier:
        with ExitStack() as stack:
            for one in passes:
                stack.enter_context(one)
            with handed_on.noting(tensors):
                run()
        hessians = [
            one.curvature(number)
            for one, group in zip(passes, leaves.values(), strict=True)
            for number in group
        ]
        earlier.attach(hessians)
    average_over_ranks(graph)


def _refuse_hidden(params: list[Tensor]) -> None:
    """Refuse a backward pass that a `torch.autograd.Function` runs inside its own.

    It has the gradient at its roots, but nobody knows the curvature there.
    """
    node = torch._C._current_autograd_node()
    if isinstance(node, BackwardCFunction):
        raise MissingRuleError(hidden_by(node.name(), params))


def _refuse_compiled() -> None:
    """Refuse a backward pass that PyTorch records and compiles, which runs hooks at another time.

    Raises:
        RuntimeError: It would be one.
    """
    module = sys.modules.get("torch._dynamo.compiled_autograd")
    if module is not None and module.compiled_autograd_enabled:
        raise RuntimeError(
            "compiled autograd hides the backward pass from the curvature of armed parameters: set "
            "torch._dynamo.config.compiled_autograd = False, or disarm them"
        )


class _EarlierCurvature:
    """The curvature of earlier passes, detached from the parameters while a pass changes gradients.

    After an error it is attached again where the gradient is as it was. A backward pass within a
    hook of an outer pass adds its curvature to the curvature of the outer pass.

    Args:
        params: The armed parameters that the pass reaches.
    """

    def __init__(self, params: list[Tensor]) -> None:
        self._params = params

    def __enter__(self) -> _EarlierCurvature:
        self._before = [accumulated_curvature(param) for param in self._params]
        self._stored: dict[int, tuple[Stored | None, int]] = {}
        """Of the parameters that no outer pass has taken, with the version of the gradient."""
        for number, param in enumerate(self._params):
            mark = mark_of(param)
            if mark is not None and mark.within is None:
                version = -1 if param.grad is None else param.grad._version
                self._stored[number] = mark.stored, version
                mark.within, mark.stored = 0.0, None
        return self

    def attach(self, hessians: list[Tensor | None]) -> None:
        """Attach the curvature of the pass to the gradients, added to earlier curvature.

        A parameter on which the roots depend linearly has zeros.
        """
        for number, (param, hess) in enumerate(zip(self._params, hessians, strict=True)):
            mark = mark_of(param)
            if mark is None or param.grad is None:
                continue
            total: Any = torch.zeros_like(param) if hess is None else hess
            if number in self._stored:
                before, within = self._before[number], mark.within
                if before is None:
                    continue
                for part in (before, within):
                    if isinstance(part, Tensor):
                        total = part + total
                store_curvature(param, total)
            elif mark.within is not None:
                mark.within = mark.within + total
            elif (before := stored_curvature(param)) is not None:  # the outer pass was quicker
                store_curvature(param, before + total)

    def __exit__(self, *exception: object) -> None:
        for number, (stored, version) in self._stored.items():
            mark, grad = mark_of(self._params[number]), self._params[number].grad
            if mark is None:
                continue
            mark.within = None
            if exception[0] is None or stored is None or grad is None:
                continue
            of: Any = stored()
            if of is grad and grad._version == version:
                mark.stored = stored
