"""Operations in place on a view: a region of the base became ``f(region, x_1, …)``.

Autograd has one node for all of them, and does not tell which it is, but the operations of its map
``v ↦ Jᵀ v`` do (`hesrl.curvature.rules.gradient_map`). Where each of them only scales or moves the
entries of ``v``, every entry of J is one product of their coefficients, and

    h(x)_j = Σ_k J_kj² h(y)_k + Σ_k g(y)_k ∂J_kj/∂x_j

is the same map with every scaling done twice, and the derivative of ``Jᵀ g`` by the saved tensors:
``f`` is elementwise, so ``(Jᵀ g)_j`` depends on no other entry of ``x``. Anything else (a matrix
product, a cumulative sum, a product of entries that are scattered to one place) is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from hesrl.curvature.rule_registry import Adjoint, Local, Rule
from hesrl.curvature.rules.gradient_map import MOVES, PIECES, SCALES, Call, again, watch

_FLAT = frozenset({"sgn", "sign"})
"""Operations whose derivative is zero."""

_INDEXED = frozenset({"gather", "index", "index_select", "scatter", "scatter_add"})
"""Operations by an index, which may repeat: entries of several tensors could meet in one."""

_RESULT = -1
"""Stands, among the numbers of the inputs, for the new entries of the region."""

_NOTHING: frozenset[int] = frozenset()


class InPlace(NamedTuple):
    """What an operation in place on a view does."""

    refused: str = ""
    """Why it has no rule, if it has none."""
    scales: bool = False
    broadcasts: bool = False
    curved: bool = False
    """Whether a coefficient depends on the input that it belongs to."""

    def __bool__(self) -> bool:
        """Whether there is a rule for it."""
        return not self.refused

    @property
    def rule(self) -> Rule:
        """The rule for it."""
        if not self.scales:
            return Adjoint()
        return Local(_curvature, linear=not self.curved, separate=not self.broadcasts)


def look_into(node: Any) -> InPlace:
    """Find out what an operation in place on a view does, whatever its values."""
    of_y = node._input_metadata[0]
    ones = torch.ones(tuple(of_y.shape), dtype=of_y.dtype, device=of_y.device)
    calls, parts, in_python = watch(node, ones)
    if in_python:
        return InPlace("an autograd.Function")
    moving = {id(ones): _NOTHING}
    """The tensors that hold entries of v, with the inputs that their coefficients depend on."""
    constant: dict[int, frozenset[int]] = {}
    """The other tensors, with the inputs that they depend on."""
    scales = False
    is_indexed = any(call.name in _INDEXED for call in calls)
    selects = {"copy_"} if is_indexed else {"copy_", "where"}
    """Operations that take each entry from one of several tensors."""
    for call in calls:
        through = [t for t in call.inputs() if id(t) in moving]
        depends = _NOTHING.union(*(_depends(t, node, constant) for t in call.inputs()))
        if not through:
            if call.name != "detach":  # which hands out what was saved
                for t in call.outputs():
                    is_flat = call.name in _FLAT or not t.is_floating_point()
                    constant[id(t)] = _NOTHING if is_flat else depends
            continue
        into_part = call.name == "copy_" and id(call.args[0]) not in moving
        if (
            call.name not in MOVES.union(SCALES)
            or (into_part and call.args[0]._is_view())
            or (len(through) > 1 and call.name not in selects)
        ):
            return InPlace(f"aten::{call.name}")
        if call.name == "copy_":
            through = through[-1:]
        held = _NOTHING.union(*(moving[id(t)] for t in through))
        if call.name in SCALES:
            scales = True
            held = held if call.name in PIECES else held | depends
        moving |= {id(t): held for t in call.outputs()}
    if scales and of_y.dtype.is_complex:
        return InPlace("a product of complex numbers")
    edges = [edge for edge in node.next_functions if edge[0] is not None]
    if scales and len(set(edges)) < len(edges):
        return InPlace("the same tensor taken twice")
    found = [moving.get(id(part), _NOTHING) for part in parts]
    found[0] = moving.get(id(calls[-1].out), _NOTHING)  # the region, when it is written
    curved = any(held & {number, _RESULT} for number, held in enumerate(found))
    broadcasts = any(
        part is not None and part.shape != _shape(node, number)
        for number, part in enumerate(parts)
        if number
    )
    return InPlace("", scales, broadcasts, curved)


def _depends(t: Tensor, node: Any, constant: dict[int, frozenset[int]]) -> frozenset[int]:
    """Return the inputs that a tensor depends on."""
    if id(t) in constant:
        return constant[id(t)]
    return frozenset({_input_of(t, node)}) if t.requires_grad else _NOTHING


def _curvature(node: Any, grad_out: Tensor | None, hess_out: Tensor) -> tuple[Tensor | None, ...]:
    """``h(x)_j = Σ_k J_kj² h(y)_k + Σ_k g(y)_k ∂J_kj/∂x_j``."""
    value = hess_out if grad_out is None else grad_out
    calls, parts, _ = watch(node, value)
    second: list[Tensor | None] = [None] * len(parts)
    if grad_out is not None:
        second = _second(node, calls, parts)
    new = again(calls, {id(value): hess_out}, twice=True, added=second[0])
    hess: list[Tensor | None] = [None if part is None else new[id(part)] for part in parts]
    for number in range(1, len(parts)):
        of_input, more = hess[number], second[number]
        if of_input is not None and more is not None:
            hess[number] = of_input.sum_to_size(_shape(node, number)) + more
    return tuple(hess)


def _second(node: Any, calls: list[Call], parts: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return ``Σ_k g_k ∂J_kj/∂x_j`` for every input, for the first one of the region's shape.

    Where the new entries y were saved, x changes them too: ``Σ_k g_k ∂J_kj/∂y_k J_kj`` is added.
    """
    first = next(n for n, call in enumerate(calls) if call.name == "clone")
    region, calls = calls[first].out, calls[first + 1 :]
    ends = list(parts)
    if parts[0] is not None:
        ends[0] = calls.pop().args[1]
    second: list[Tensor | None] = []
    for number, end in enumerate(ends):
        total = None
        saved = _saved(node, calls, end) if end is not None else {}
        for of in {number, _RESULT}.intersection(saved):
            x = saved[of][0].detach().requires_grad_()
            with torch.enable_grad():
                changed = again(calls, {id(t): x for t in saved[of]})[id(end)]
                if not changed.requires_grad:
                    continue
                (slope,) = torch.autograd.grad(changed.sum(), x)
            if of == _RESULT:
                slope = again(calls, {id(region): slope})[id(end)]
            if number:
                slope = slope.sum_to_size(_shape(node, number))
            total = slope if total is None else total + slope
        second.append(total)
    return second


def _shape(node: Any, number: int) -> tuple[int, ...]:
    source, output = node.next_functions[number]
    return tuple(source._input_metadata[output].shape)


def _saved(node: Any, calls: Sequence[Call], end: Tensor) -> dict[int, list[Tensor]]:
    """Return the saved tensors from which a tensor was made, by the input that they are."""
    leads = {id(end)}
    made = {id(t) for call in calls if call.name != "detach" for t in call.outputs()}
    saved: dict[int, list[Tensor]] = {}
    for call in reversed(calls):
        if not leads.isdisjoint(map(id, call.outputs())):
            for t in call.inputs():
                if t.requires_grad and id(t) not in made:
                    saved.setdefault(_input_of(t, node), []).append(t)
                else:
                    leads.add(id(t))
    return saved


def _input_of(t: Tensor, node: Any) -> int:
    """Return which input of a node a saved tensor is, `_RESULT` for the new entries."""
    edge = tuple(get_gradient_edge(t))[:2]
    if edge in node.next_functions[1:]:
        number: int = node.next_functions.index(edge, 1)
        return number
    # The operation copied the entries before it changed them. The new ones were made by the view,
    # which autograd has led to the base, or by the operation itself.
    return 0 if t.grad_fn is not None and t.grad_fn.name() == "CloneBackward0" else _RESULT
