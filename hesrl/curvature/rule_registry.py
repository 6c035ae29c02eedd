"""Which rule handles which operation of the autograd graph.

Every differentiable operation leaves a node in the graph that PyTorch records anyway
(``tensor.grad_fn``), and the node knows what a rule needs: the tensors that the operation saved
for its gradient. A rule is therefore registered under the node's name, as ``grad_fn.name()``
prints it (``"TanhBackward0"``), or under a `torch.autograd.Function`: the class, or its full name
(``"package.module.Class"``) if the package need not be there.

There are three kinds (``h(x)_j = Σ_k (∂y_k/∂x_j)² h(y)_k + Σ_k g(y)_k ∂²y_k/∂x_j²``):

- `Pointwise`: ``y_k`` depends on one entry of each (broadcast) input. The rule gives first and
  second partial derivatives; the sweep composes neighbours exactly.
- `Local`: anything else. The rule gives ``h`` of every input.
- `Adjoint`: a linear map whose coefficients are 0 or 1 (views, gathers, sums). The squares of
  the coefficients are the coefficients, so ``h`` goes where the gradient goes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor


class Masked(NamedTuple):
    """A coefficient that selects: what it is multiplied by is not looked at outside the mask.

    So infinity outside the mask leaves nothing behind, as in a gradient that PyTorch selects.
    """

    mask: Tensor
    """Where the coefficient is not zero, of dtype bool."""
    value: Tensor | float
    """The coefficient there; anything elsewhere."""


Coefficient: TypeAlias = "Tensor | float | Masked"
Second: TypeAlias = "tuple[tuple[int, int, Coefficient], ...]"
Partials: TypeAlias = "tuple[tuple[Coefficient | None, ...], Second]"
PointwiseRule: TypeAlias = Callable[[Any], Partials]
Pairs: TypeAlias = "tuple[tuple[int, int], ...]"
Excess: TypeAlias = Callable[[Any, Any, Tensor], "Tensor | None"]
LocalRule: TypeAlias = Callable[[Any, Any, Any], "Tensor | tuple[Tensor | None, ...] | None"]


@dataclass(frozen=True, slots=True)
class Pointwise:
    """A rule that gives the partial derivatives of an elementwise operation."""

    partials: PointwiseRule
    curved: Pairs | None = None
    """The only pairs of inputs with a second derivative that is not zero; None for all pairs."""
    alone: LocalRule | None = None
    """The same rule for a node with one input that forms no diamond with others, in fewer steps."""
    constant: bool = False
    """All slopes are numbers, which need no saved tensors."""
    reduces: bool = False
    """The operation may reduce its terms to one number: then paths meet in it, not beyond it."""
    gradient_excess: Excess | None = None
    """For a rule that stands for another operation of the same value: what that operation's
    gradient at its source has in excess of the native one, given the node, the slope and the
    native gradient at the output; None for zero. An excess at the output is passed on besides."""
    layer: bool = False
    """It takes the place of a matrix product, as `Local.layer` says."""


@dataclass(frozen=True, slots=True)
class Local:
    """A rule that gives the curvature of every input of one operation."""

    curvature: LocalRule
    linear: bool
    """No second derivative with respect to any single input: zero in, zero out."""
    layer: bool = False
    """A matrix product or convolution: HesScaleGN drops second derivatives of what feeds it."""
    elementwise: Pointwise | None = None
    """The rule with the own diagonal entries of the Jacobian only, for BL89."""
    read: Callable[[Any], Any] | None = None
    """Reads what the rule needs, and takes instead of the node, when the node's turn comes before
    its curvature is complete."""
    separate: bool = False
    """Every input entry reaches one output entry at most, so off-diagonals do not matter."""


@dataclass(frozen=True, slots=True)
class Adjoint:
    """The rule of linear maps with coefficients 0 and 1: the gradient's own map."""

    one_output: bool = False
    """Always has a single output."""
    apply: Callable[[Tensor], Tensor] | None = None
    """The map itself, where it needs nothing from the node: quicker than calling the node."""


class MissingRuleError(RuntimeError):
    """An operation on the way from a wanted parameter to the loss has no curvature rule."""


Rule: TypeAlias = "Pointwise | Local | Adjoint"
Operation: TypeAlias = "str | type[torch.autograd.Function]"

_RULES: dict[str, Rule] = {}
_FUNCTION_RULES: dict[type | str, Rule] = {}
"""By the class of the node, or by the full name of the function."""


def _add(operation: Operation, rule: Rule) -> None:
    rules: dict[Any, Rule]
    key: Any
    if isinstance(operation, str) and "." in operation:
        rules, key = _FUNCTION_RULES, operation
    elif isinstance(operation, str):
        rules, key = _RULES, _class_name(operation)
    elif isinstance(operation, type) and issubclass(operation, torch.autograd.Function):
        rules, key = _FUNCTION_RULES, vars(operation)["_backward_cls"]
    else:
        raise TypeError(
            f"a rule is registered for a node name or an autograd.Function, not {operation!r}"
        )
    if key in rules:
        raise ValueError(f"{operation} already has a curvature rule")
    rules[key] = rule


def register_pointwise(
    *operations: Operation,
    curved: Pairs | None = None,
    alone: LocalRule | None = None,
    constant: bool = False,
    reduces: bool = False,
    layer: bool = False,
) -> Callable[[PointwiseRule], PointwiseRule]:
    """Register the derivatives of an elementwise operation ``y = f(x_0, x_1, …)``.

    Args:
        *operations: Node names (``"TanhBackward0"``) or `torch.autograd.Function` classes, or the
            full names of such classes.
        curved: The pairs of inputs ``(i, j)``, ``i ≤ j``, whose second derivative can differ from
            zero: ``()`` for a piecewise linear operation, ``((0, 1),)`` for a product. What is
            known to vanish costs nothing. By default all pairs.
        alone: For an operation of one tensor, ``alone(node, grad_out, hess_out) -> hess_in``: the
            same curvature as the partial derivatives give, in fewer steps. The gradient is None
            if the operation is piecewise linear.
        constant: The slopes are numbers, and no tensor that the operation saved is read.
        reduces: The operation reduces its terms to their sum or mean, unless it has a
            ``node._saved_reduction`` of 0. The rule gives derivatives of the result by each entry,
            all of the shape of the terms.
        layer: The operation takes the place of a matrix product, as for `register_rule`.

    Returns:
        A decorator for ``rule(node) -> (first, second)``. ``first[i]`` is ∂y/∂x_i, with the
        shape of ``y`` or one that broadcasts to it (a float if constant, a mask of dtype bool if 0
        or 1, `Masked` if 0 or anything else by selection, None for an input that takes no
        gradient). ``second`` lists ``(i, j, ∂²y/∂x_i∂x_j)`` for ``i ≤ j``, without the entries that
        are zero.

    Raises:
        ValueError: An operation already has a rule.
        TypeError: An operation is neither a name nor an `autograd.Function`.
    """

    def register(rule: PointwiseRule) -> PointwiseRule:
        for operation in operations:
            pairs = () if constant else curved
            _add(operation, Pointwise(rule, pairs, alone, constant, reduces, layer=layer))
        return rule

    return register


def register_rule(
    *operations: Operation,
    linear: bool = False,
    layer: bool = False,
    elementwise: PointwiseRule | None = None,
    separate: bool = False,
) -> Callable[[LocalRule], LocalRule]:
    """Register the curvature of an operation that is not elementwise.

    Args:
        *operations: As for `register_pointwise`.
        linear: The operation has no second derivative with respect to any one entry of its
            inputs, so that curvature zero at the output is curvature zero at every input. The
            rule is then called only with a curvature that is not zero, and without a gradient.
        layer: The operation is a matrix product or a convolution, or takes their place in a
            network: HesScaleGN drops the second derivatives of whatever feeds it. Its rule gives
            every input its exact shape and dtype; other rules of several inputs may leave the sum
            over broadcast dimensions to the sweep.
        elementwise: The rule that BL89 has instead, which treats the operation as elementwise.
        separate: Every input entry reaches one output entry at most, so that the rule is exact
            whatever the off-diagonals of the Hessian at the output; for `explain` only.

    Returns:
        A decorator for ``rule(node, grad_out, hess_out) -> hess_in``. ``node`` is the autograd
        node with its ``_saved_…`` attributes; ``grad_out`` (None if linear) and ``hess_out`` have
        the shape of the output (tuples of them, with None for zero, if there are several outputs);
        ``hess_in`` is one tensor per entry of ``node.next_functions``, or None where that entry
        takes no gradient or its curvature is zero. One tensor stands for a tuple of one.

    Raises:
        ValueError: An operation already has a rule.
        TypeError: An operation is neither a name nor an `autograd.Function`.
    """

    def register(rule: LocalRule) -> LocalRule:
        for operation in operations:
            as_elementwise = elementwise and Pointwise(elementwise)
            _add(operation, Local(rule, linear, layer, as_elementwise, separate=separate))
        return rule

    return register


def register_adjoint(
    *operations: Operation,
    one_output: bool = False,
    apply: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Register linear operations whose coefficients are all 0 or 1.

    Args:
        *operations: As for `register_pointwise`.
        one_output: They always have a single output, which makes them cheaper.
        apply: The gradient's map from output to input, if it needs nothing from the node.

    Raises:
        ValueError: An operation already has a rule.
        TypeError: An operation is neither a name nor an `autograd.Function`.
    """
    for operation in operations:
        _add(operation, Adjoint(one_output, apply))


def find_rule(kind: Any) -> Rule | None:
    """Return the rule for a kind of node, its class or its name, or None if there is none."""
    if isinstance(kind, str):
        return _RULES.get(_class_name(kind))
    rule = _FUNCTION_RULES.get(kind) or _RULES.get(kind.__name__)
    function = getattr(kind, "_forward_cls", None)
    if rule is None and function is not None:
        rule = _FUNCTION_RULES.get(f"{function.__module__}.{function.__qualname__}")
    return rule


def _class_name(name: str) -> str:
    """Return the name of a node's class, ``"CopySlices"`` for ``"torch::autograd::CopySlices"``."""
    return name.rpartition("::")[2]
