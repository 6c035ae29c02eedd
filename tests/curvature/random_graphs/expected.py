"""The curvature of a random program's leaves by definition, without hesrl.

    h(x)_j = Σ_k (∂y_k/∂x_j)² h(y)_k + Σ_k g(y)_k ∂²y_k/∂x_j²

operation by operation from the loss downwards, by `torch.func` in float64. The elementwise
operations between two others are one operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tests.curvature.random_graphs.operations import function_of
from tests.curvature.random_graphs.program import Program, weighted_sum
from tests.curvature.recursion import Recursion


def expected_curvature(program: Program) -> list[Tensor]:
    """Return h of every leaf."""
    leaves = [leaf.clone().requires_grad_() for leaf in program.leaves]
    if program.family == "elementwise":
        return exact_diagonal(program, leaves)
    return _recursion(program, leaves).curvature(leaves)


def exact_diagonal(program: Program, leaves: list[Tensor]) -> list[Tensor]:
    """The exact diagonal of the Hessian, whose other entries of one leaf are zero.

    The sum over a row is its diagonal entry then.
    """
    grads = torch.autograd.grad(
        program.loss(leaves, True), leaves, create_graph=True, materialize_grads=True
    )
    return [_derivative_of_sum(grad, leaf) for grad, leaf in zip(grads, leaves, strict=True)]


def _derivative_of_sum(y: Tensor, x: Tensor) -> Tensor:
    if not y.requires_grad:
        return torch.zeros_like(x)
    (grad,) = torch.autograd.grad(
        y.sum(), x, retain_graph=True, create_graph=True, materialize_grads=True
    )
    return grad


def elementwise_curvature(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    index: int,
    grad_out: Tensor,
    hess_out: Tensor,
) -> Tensor:
    """`reference.hesscale` of an elementwise operation, from one derivative per entry.

    An input that broadcasts has as many copies as it is used; their curvatures add up.
    """
    values = [x.detach() for x in inputs]
    shape = torch.broadcast_shapes(*(x.shape for x in values))
    values[index] = x = values[index].expand(shape).clone().requires_grad_()
    y = function(*values)
    assert y.shape == shape
    first = _derivative_of_sum(y, x)
    second = _derivative_of_sum(first * grad_out.view(shape), x)
    total = first.square() * hess_out.view(shape) + second
    return total.detach().sum_to_size(inputs[index].shape)


class _Region:
    """A value as an elementwise function of sources: leaves, and results of other operations."""

    def __init__(self, function: Callable[..., Tensor] | None, sources: list[Tensor]) -> None:
        self.function, self.sources = function, sources

    def __call__(self, known: dict[Tensor, Tensor]) -> Tensor:
        return known[self.sources[0]] if self.function is None else self.function(known)


def _recursion(program: Program, leaves: list[Tensor]) -> Recursion:
    step = Recursion()
    values = [_Region(None, [leaf]) for leaf in leaves]
    for line in program.instructions:
        function = function_of(line.text, True)
        arguments = [values[n] for n in line.arguments]
        if line.kind == "elementwise":
            values.append(_joined(function, arguments))
            continue
        inputs = [_materialised(step, region) for region in arguments]
        result = step(function, *inputs)
        made = [result] if line.results == 1 else result
        values += [_Region(None, [tensor]) for tensor in made]
    outputs = [_materialised(step, values[n]) for n in program.outputs]
    step(lambda *tensors: weighted_sum(tensors), *outputs, rule=_linear)
    return step


def _linear(function: object, inputs: Sequence[Tensor], index: int, *of_loss: Tensor) -> Tensor:
    """Zero, where the loss is linear and its own h is zero."""
    return torch.zeros_like(inputs[index])


def _joined(function: Callable[..., Tensor], arguments: list[_Region]) -> _Region:
    sources = list(dict.fromkeys(s for region in arguments for s in region.sources))
    return _Region(lambda known: function(*(region(known) for region in arguments)), sources)


def _materialised(step: Recursion, region: _Region) -> Tensor:
    """Run a region as one operation, for another operation that takes its value."""

    def function(*tensors: Tensor) -> Tensor:
        return region(dict(zip(region.sources, tensors, strict=True)))

    made: Tensor = step(function, *region.sources, rule=elementwise_curvature)
    return made
