"""Arithmetic of the sweep, with slopes that may be numbers, tensors, or either within a mask."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import Coefficient, Masked

_select = torch.ops.aten.threshold_backward


def adjoint(node: Any, values: tuple[Tensor | None, ...]) -> Any:
    """Call a node's own map from the gradients of its outputs to the gradients of its inputs.

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
    """Whether a `torch.autograd.Function` made a node."""
    return isinstance(node, torch.autograd.function.BackwardCFunction)


def add(a: Tensor | None, b: Tensor) -> Tensor:
    """Return a + b, where None is zero."""
    return b if a is None else a + b


def times(a: Coefficient, b: Coefficient) -> Any:
    """Return ``a b``, in a quicker way where a factor is the number 1, −1 or 2.

    A product with a mask is `Masked`: the other factor may be infinite outside of it.
    """
    if isinstance(b, Masked) or is_mask(b):
        a, b = b, a
    if isinstance(a, Masked) or is_mask(a):
        return _times_masked(a, b)
    if isinstance(a, Tensor):
        if isinstance(b, Tensor):
            return a * b
        a, b = b, a
    if a == 1:
        return b
    if a == -1:
        return -b  # type: ignore[operator]
    return b + b if a == 2 else a * b  # type: ignore[operator]


def is_mask(f: Any) -> bool:
    """Whether a coefficient is a mask, which stands for a slope of 0 and 1."""
    return isinstance(f, Tensor) and f.dtype == torch.bool


def _times_masked(masked: Any, b: Any) -> Masked:
    mask, value = masked if isinstance(masked, Masked) else (masked, 1.0)
    if isinstance(b, Masked):
        return Masked(mask & b.mask, times(value, b.value))
    return Masked(mask & b, value) if is_mask(b) else Masked(mask, times(value, b))


def dense(f: Any, dtype: torch.dtype) -> Any:
    """Return a coefficient as a number or tensor, which adds up as such: 0 outside a mask.

    Args:
        f: The coefficient.
        dtype: That of a mask whose value is a number.
    """
    if is_mask(f):
        return f.to(dtype)
    if not isinstance(f, Masked):
        return f
    if not isinstance(f.value, Tensor):
        return f.value * f.mask.to(dtype)
    return _select(f.value, f.mask.to(f.value.dtype), 0)


def plus(a: Any, b: Any, dtype: torch.dtype) -> Coefficient:
    """Return ``a + b``; what both mask stays masked."""
    total = dense(a, dtype) + dense(b, dtype)
    masks = [f.mask if isinstance(f, Masked) else f for f in (a, b)]
    return Masked(masks[0] | masks[1], total) if all(map(is_mask, masks)) else total


def carried(slope: Coefficient, hess: Tensor) -> Tensor:
    """Return ``f² h``, the curvature that a slope carries on."""
    if isinstance(slope, Tensor):
        if slope.dtype != torch.bool:
            return slope * slope * hess
    elif not isinstance(slope, Masked) and slope * slope == 1:
        return hess
    result: Tensor = dense(times(square(slope), hess), hess.dtype)
    return result


def square(f: Coefficient) -> Coefficient:
    """Return f²; a mask is its own square."""
    if isinstance(f, Masked):
        return Masked(f.mask, f.value * f.value)
    return f if is_mask(f) else f * f


def fit(hess: Tensor, node: Any, output: int) -> Tensor:
    """Give a curvature the shape and dtype of its tensor, which an operation may have promoted.

    It is summed over the dimensions along which the tensor was broadcast.

    Args:
        hess: The curvature.
        node: The node that made the tensor.
        output: Which of its outputs the tensor is.
    """
    of_tensor = node._input_metadata[output]
    if hess.shape != of_tensor.shape:
        hess = hess.sum_to_size(tuple(of_tensor.shape))
    return hess if hess.dtype == of_tensor.dtype else hess.to(of_tensor.dtype)
