"""Arithmetic of the sweep, with slopes that may be numbers, masks or tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.registry import Coefficient


def adjoint(node: Any, values: tuple[Tensor | None, ...]) -> Any:
    """Call a node's own map from the gradients of its outputs to those of its inputs.

    Returns:
        One tensor, or one per entry of ``node.next_functions``.
    """
    if not is_python_function(node):
        return node(*values)
    # A Python function gets zeros where the engine has no gradient, and returns something for
    # every argument, tensor or not.
    known = next(value for value in values if value is not None)
    outputs = [
        known.new_zeros(tuple(output.shape)) if value is None else value
        for value, output in zip(values, node._input_metadata, strict=True)
    ]
    results = node.apply(*outputs)
    results = results if isinstance(results, tuple) else (results,)
    needed = (r for r, needs in zip(results, node.needs_input_grad, strict=False) if needs)
    return tuple(None if source is None else next(needed) for source, _ in node.next_functions)


def is_python_function(node: Any) -> bool:
    """Whether a node is that of a `torch.autograd.Function`."""
    return isinstance(node, torch.autograd.function.BackwardCFunction)


def add(a: Tensor | None, b: Tensor) -> Tensor:
    """Return a + b, where None is zero."""
    return b if a is None else a + b


def times(a: Any, b: Any) -> Any:
    """Return ``a b``, in a quicker way where a factor is the number 1, −1 or 2."""
    if isinstance(a, Tensor):
        if isinstance(b, Tensor):
            return a * b
        a, b = b, a
    if a == 1:
        return b
    b = number(b)
    if a == -1:
        return -b
    return b + b if a == 2 else a * b


def number(f: Coefficient) -> Coefficient:
    """Turn a mask, which stands for a slope of 0 and 1, into what adds up as slopes do."""
    return f.float() if isinstance(f, Tensor) and f.dtype == torch.bool else f


def square(f: Coefficient) -> Coefficient:
    """Return f²; a mask is its own square."""
    return f if isinstance(f, Tensor) and f.dtype == torch.bool else f * f


def fit(hess: Tensor, node: Any, output: int) -> Tensor:
    """Give a curvature the shape and dtype of its tensor, which an operation may have promoted.

    It is summed over the dimensions along which the tensor was broadcast.

    Args:
        hess: The curvature.
        node: The node that made the tensor.
        output: Which of its outputs the tensor is.
    """
    of_tensor = node._input_metadata[output]
    shape = tuple(of_tensor.shape)
    if hess.shape != shape:
        hess = hess.sum_to_size(shape)
    return hess if hess.dtype == of_tensor.dtype else hess.to(of_tensor.dtype)
