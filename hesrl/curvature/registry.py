"""Which rule handles which operation of the autograd graph.

Every differentiable operation leaves a node in the graph that PyTorch records anyway
(``tensor.grad_fn``), and the node knows what a rule needs: the tensors that the operation saved
for its gradient. A rule is therefore registered under the node's name, as ``grad_fn.name()``
prints it (``"TanhBackward0"``), or under a `torch.autograd.Function`.

There are three kinds (MATH: ``h(x)_j = Σ_k (∂y_k/∂x_j)² h(y)_k + Σ_k g(y)_k ∂²y_k/∂x_j²``):

- `Pointwise`: ``y_k`` depends on one entry of each (broadcast) input. The rule gives first and
  second partial derivatives; the sweep composes neighbours exactly.
- `Local`: anything else. The rule gives ``h`` of every input.
- `Adjoint`: a linear map whose coefficients are 0 or 1 (views, gathers, sums). The squares of
  the coefficients are the coefficients, so ``h`` goes where the gradient goes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

Coefficient: TypeAlias = "Tensor | float"
Second: TypeAlias = "tuple[tuple[int, int, Coefficient], ...]"
Partials: TypeAlias = "tuple[tuple[Coefficient | None, ...], Second]"
PointwiseRule: TypeAlias = Callable[[Any], Partials]
LocalRule: TypeAlias = Callable[[Any, Any, Any], "Tensor | tuple[Tensor | None, ...] | None"]


@dataclass(frozen=True, slots=True)
class Pointwise:
    """A rule that gives the partial derivatives of an elementwise operation."""

    partials: PointwiseRule
    gradient_excess: Callable[[Any, Tensor, Tensor], Tensor] | None = None
    """For a rule that stands for another operation of the same value: what that operation's
    gradient at the input has in excess of the native one, given the node, the slope and the
    gradient at the output."""


@dataclass(frozen=True, slots=True)
class Local:
    """A rule that gives the curvature of every input of one operation."""

    curvature: LocalRule
    linear: bool
    """No second derivative with respect to any single input: zero in, zero out."""
    layer: bool = False
    """A matrix product or convolution: HesScaleGN drops second derivatives of what feeds it."""


@dataclass(frozen=True, slots=True)
class Adjoint:
    """The rule of linear maps with coefficients 0 and 1: the gradient's own map."""


Rule: TypeAlias = "Pointwise | Local | Adjoint"
Operation: TypeAlias = "str | type[torch.autograd.Function]"

_RULES: dict[str, Rule] = {}
_FUNCTION_RULES: dict[type, Rule] = {}


def _add(operation: Operation, rule: Rule) -> None:
    rules: dict[Any, Rule]
    key: Any
    if isinstance(operation, str):
        rules, key = _RULES, operation
    elif isinstance(operation, type) and issubclass(operation, torch.autograd.Function):
        rules, key = _FUNCTION_RULES, vars(operation)["_backward_cls"]
    else:
        raise TypeError(
            f"a rule is registered for a node name or an autograd.Function, not {operation!r}"
        )
    if key in rules:
        raise ValueError(f"{operation} already has a curvature rule")
    rules[key] = rule


def register_pointwise(*operations: Operation) -> Callable[[PointwiseRule], PointwiseRule]:
    """Register the derivatives of an elementwise operation ``y = f(x_0, x_1, …)``.

    Args:
        *operations: Node names (``"TanhBackward0"``) or `torch.autograd.Function` classes.

    Returns:
        A decorator for ``rule(node) -> (first, second)``. ``first[i]`` is ∂y/∂x_i, with the
        shape of ``y`` or one that broadcasts to it (a float if constant, None for an input that
        takes no gradient). ``second`` lists ``(i, j, ∂²y/∂x_i∂x_j)`` for ``i ≤ j``, without the
        entries that are zero.

    Raises:
        ValueError: An operation already has a rule.
        TypeError: An operation is neither a name nor an `autograd.Function`.
    """

    def register(rule: PointwiseRule) -> PointwiseRule:
        for operation in operations:
            _add(operation, Pointwise(rule))
        return rule

    return register


def register_rule(
    *operations: Operation, linear: bool = False, layer: bool = False
) -> Callable[[LocalRule], LocalRule]:
    """Register the curvature of an operation that is not elementwise.

    Args:
        *operations: Node names (``"AddmmBackward0"``) or `torch.autograd.Function` classes.
        linear: The operation has no second derivative with respect to any one of its inputs,
            so that curvature zero at the output is curvature zero at every input. The rule is
            then called only with a curvature that is not zero.
        layer: The operation is a matrix product or a convolution, or takes their place in a
            network: HesScaleGN drops the second derivatives of whatever feeds it.

    Returns:
        A decorator for ``rule(node, grad_out, hess_out) -> hess_in``. ``node`` is the autograd
        node with its ``_saved_…`` attributes; ``grad_out`` and ``hess_out`` have the shape of
        the output (tuples of them, with None for zero, if there are several outputs);
        ``hess_in`` is one tensor per entry of ``node.next_functions``, or None where that entry
        takes no gradient or its curvature is zero. One tensor stands for a tuple of one.

    Raises:
        ValueError: An operation already has a rule.
        TypeError: An operation is neither a name nor an `autograd.Function`.
    """

    def register(rule: LocalRule) -> LocalRule:
        for operation in operations:
            _add(operation, Local(rule, linear, layer))
        return rule

    return register


def register_adjoint(*operations: Operation) -> None:
    """Register linear operations whose coefficients are all 0 or 1.

    Args:
        *operations: Node names (``"ViewBackward0"``) or `torch.autograd.Function` classes.

    Raises:
        ValueError: An operation already has a rule.
        TypeError: An operation is neither a name nor an `autograd.Function`.
    """
    for operation in operations:
        _add(operation, Adjoint())


def find_rule(node: Any) -> Rule | None:
    """Return the rule of an autograd node, or None if there is none."""
    return _RULES.get(node.name()) or _FUNCTION_RULES.get(type(node))
