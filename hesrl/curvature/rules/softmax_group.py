"""The rules of softmaxes and log-softmaxes of the same logits, which are one operation.

The first form of a group stands for the operation. The others are elementwise functions φ of it:
with y the log-softmax and p the softmax, ``p = e^y``, and every further y or p is the same again.
So the Hessian with respect to y, or to p if there is no y, is as diagonal as the loss is separable.

The native gradient knows nothing of that. An elementwise form f gives its source the gradient
``φ' g(f)`` here, but natively it gives ``V g(f)``: V is zero if f reaches the logits past its
source, and the map of the form otherwise. The excess ``φ' g − V g`` is added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial, update_wrapper
from typing import Any, Literal, TypeAlias

from torch import Tensor

from hesrl.curvature.rule_registry import Excess, Local, Partials, Pointwise
from hesrl.curvature.rules.reduce import restored
from hesrl.curvature.rules.softmax import log_softmax_curvature, softmax_curvature

Value: TypeAlias = Literal["softmax", "log_softmax", "negative"]
"""What a form computes; the last is ``−log_softmax``."""

Dims: TypeAlias = tuple[int, ...]
Probabilities: TypeAlias = Callable[[Any], Tensor]
"""Reads p at the node of a form, once: a checkpoint hands saved tensors out no more often."""


def of_log_softmax(node: Any) -> Tensor:
    """``p = e^y``."""
    return node._saved_result.exp()


def of_softmax(node: Any) -> Tensor:
    """``p`` itself."""
    return node._saved_result


def of_quotient(node: Any) -> Tensor:
    """``p = a / b``."""
    return node._saved_self / node._saved_other


@cache
def of_difference(path: tuple[int, ...], dims: Dims) -> Probabilities:
    """Return what reads ``p = exp(x − logsumexp x)`` at the node of a difference.

    Args:
        path: The inputs through which the logsumexp is reached.
        dims: The dimensions of the sum.
    """

    def probabilities(node: Any) -> Tensor:
        logsumexp = _follow(node, path)
        x, result = logsumexp._saved_self, logsumexp._saved_result
        return (x - restored(result, list(dims), logsumexp._saved_keepdim)).exp()

    return probabilities


@cache
def of_written_difference(path: tuple[int, ...], dims: Dims) -> Probabilities:
    """Return the same for a logsumexp that is written out, where ``p = exp x / Σ exp x``."""

    def probabilities(node: Any) -> Tensor:
        node = _follow(node, path)
        total = node._saved_self
        while type(node).__name__ != "ExpBackward0":
            node = node.next_functions[0][0]
        exp = node._saved_result
        return exp / restored(total, list(dims), total.dim() == exp.dim())

    return probabilities


def _follow(node: Any, path: tuple[int, ...]) -> Any:
    for position in path:
        node = node.next_functions[position][0]
    return node


@cache
def first_form(value: Value, probabilities: Probabilities, dims: Dims) -> Local:
    """Return the rule of the form that stands for its group."""

    def read(node: Any) -> tuple[Tensor, Dims]:
        return probabilities(node), dims

    elementwise = _named(_elementwise, value, probabilities)
    return Local(_FIRST[value], linear=False, elementwise=Pointwise(elementwise), read=read)


def _common_log_softmax(state: tuple[Tensor, Dims], grad_out: Tensor, hess_out: Tensor) -> Tensor:
    return log_softmax_curvature(*state, grad_out, hess_out)


def _common_negative(state: tuple[Tensor, Dims], grad_out: Tensor, hess_out: Tensor) -> Tensor:
    return log_softmax_curvature(*state, -grad_out, hess_out)


def _common_softmax(state: tuple[Tensor, Dims], grad_out: Tensor, hess_out: Tensor) -> Tensor:
    return softmax_curvature(*state, grad_out, hess_out)


_FIRST = {
    "log_softmax": _common_log_softmax,
    "negative": _common_negative,
    "softmax": _common_softmax,
}


def _elementwise(value: Value, probabilities: Probabilities, node: Any) -> Partials:
    """``y' = 1 − p``, ``y'' = −p (1 − p)``; ``p' = p (1 − p)``, ``p'' = p' (1 − 2p)``."""
    p = probabilities(node)
    slope = p - p * p
    if value == "softmax":
        return (slope,), ((0, 0, slope * (1 - 2 * p)),)
    if value == "negative":
        return (p - 1,), ((0, 0, slope),)
    return (1 - p,), ((0, 0, -slope),)


@cache
def form_beside(value: Value, first: Value, probabilities: Probabilities) -> Pointwise:
    """Return the rule of a form whose native gradient goes past the first one, to the logits."""
    return _function_of(first, value, probabilities, lambda node, slope, grad: slope * grad)


@cache
def form_of_form(
    value: Value, source: Value, probabilities: Probabilities, dims: Dims
) -> Pointwise:
    """Return the rule of a softmax or log-softmax of a form, or of its quotient by its sum.

    form            source         φ'   V g               excess
    log-softmax     log-softmax    1    g − p Σ_k g_k     p Σ_k g_k
    its negative    log-softmax    −1   p Σ_k g_k − g     −p Σ_k g_k
    softmax         log-softmax    p    p (g − Σ g_k p_k) p Σ_k g_k p_k
    softmax         softmax        1    g − Σ_k g_k p_k   Σ_k g_k p_k
    """

    def excess(node: Any, slope: Any, grad: Tensor) -> Tensor:
        if value == "softmax" and source == "log_softmax":
            return slope * (slope * grad).sum(dims, keepdim=True)
        p = probabilities(node)
        if value == "softmax":
            return (p * grad).sum(dims, keepdim=True).expand_as(p)
        return slope * p * grad.sum(dims, keepdim=True)

    return _function_of(source, value, probabilities, excess)


@cache
def elementwise_form(rule: Pointwise) -> Pointwise:
    """Return the rule of an exponential, logarithm or negative of which a form is made."""
    return replace(rule, alone=None, gradient_excess=lambda node, slope, grad: None)


def _function_of(
    source: Value, value: Value, probabilities: Probabilities, excess: Excess
) -> Pointwise:
    if value == "softmax" and source != "softmax":
        return Pointwise(_named(_exp_of_log_softmax, source, probabilities), gradient_excess=excess)
    constant = _same_again if value == source else _negative
    return Pointwise(constant, curved=(), constant=True, gradient_excess=excess)


def _same_again(node: Any) -> Partials:
    return (1.0,), ()


def _negative(node: Any) -> Partials:
    return (-1.0,), ()


def _exp_of_log_softmax(source: Value, probabilities: Probabilities, node: Any) -> Partials:
    """``p = e^y``: ``φ' = φ'' = p``; or ``p = e^{−v}``."""
    p = probabilities(node)
    return (-p if source == "negative" else p,), ((0, 0, p),)


def _named(function: Callable[..., Partials], *args: Any) -> Callable[[Any], Partials]:
    """Return a function with some arguments given, under its name."""
    return update_wrapper(partial(function, *args), function)
