"""Pooling: the largest entry of each window, or the mean of its entries.

Max pooling gives ``h`` to the entry that it picked, as the gradient does. The mean over windows
of n_k entries is linear: ``h(x)_j = Σ_k h_k / n_k²`` over the windows k that hold entry j. The
node's own map divides by n_k once, so ``h(x) = Jᵀ (h / n)``. All are exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import register_adjoint, register_rule

register_adjoint(
    "AdaptiveMaxPool2DBackward0",
    "AdaptiveMaxPool3DBackward0",
    "FractionalMaxPool2DBackward0",
    "FractionalMaxPool3DBackward0",
    "MaxPool2DWithIndicesBackward0",
    "MaxPool3DWithIndicesBackward0",
    "MaxUnpool2DBackward0",
    "MaxUnpool3DBackward0",
)


@register_rule("AvgPool2DBackward0", linear=True)
def avg_pool_2d(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """Windows of a given size over two dimensions; one dimension is pooled as two."""
    return node(hess_out / _divisor(node, hess_out, 2))


@register_rule("AvgPool3DBackward0", linear=True)
def avg_pool_3d(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """Windows of a given size over three dimensions."""
    return node(hess_out / _divisor(node, hess_out, 3))


def _divisor(node: Any, output: Tensor, ndim: int) -> Tensor | int:
    """Return what the sum of each window is divided by.

    Unless that is given, it counts the entries of the window that lie within the input, or
    within the padded input: the last window may reach beyond either with ``ceil_mode``.
    """
    divisor: Any = node._saved_divisor_override
    if divisor is not None:
        # Autograd hands negative numbers out as unsigned ones.
        return divisor - (1 << 64) if divisor >= 1 << 63 else divisor
    kernel, padding = _each(node._saved_kernel_size, ndim), _each(node._saved_padding, ndim)
    stride = _each(node._saved_stride or kernel, ndim)
    cut_off = node._saved_ceil_mode or (not node._saved_count_include_pad and any(padding))
    divisor = 1
    for d, (length, index) in enumerate(_dimensions(node, output, ndim)):
        size: Tensor | int = kernel[d]
        if cut_off:
            counted = padding[d] if node._saved_count_include_pad else 0
            start = index * stride[d] - padding[d]
            end = (start + kernel[d]).clamp(max=length + counted)
            size = end - start.clamp(min=-counted)
        divisor = divisor * size
    return divisor


@register_rule("AdaptiveAvgPool2DBackward0", linear=True)
def adaptive_avg_pool_2d(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """Windows from ``⌊k L/K⌋`` to ``⌈(k+1) L/K⌉`` that take L entries to K, in two dimensions."""
    return node(hess_out / _adaptive_divisor(node, hess_out, 2))


@register_rule("AdaptiveAvgPool3DBackward0", linear=True)
def adaptive_avg_pool_3d(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """The same in three dimensions."""
    return node(hess_out / _adaptive_divisor(node, hess_out, 3))


def _adaptive_divisor(node: Any, output: Tensor, ndim: int) -> Tensor | int:
    divisor: Tensor | int = 1
    for length, index in _dimensions(node, output, ndim):
        count = index.numel()
        end = ((index + 1) * length + count - 1) // count
        divisor = divisor * (end - index * length // count)
    return divisor


def _dimensions(node: Any, output: Tensor, ndim: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the input's length and the windows' indices along each of the pooled dimensions.

    The indices have the shape that broadcasts along that dimension of the output.
    """
    source, number = node.next_functions[0]
    lengths = source._input_metadata[number].shape
    for dim in range(-ndim, 0):
        index = torch.arange(output.shape[dim], device=output.device)
        yield int(lengths[dim]), index.view(-1, *[1] * (-dim - 1))


def _each(values: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    """Return one value per dimension; a single one stands for all."""
    return values * ndim if len(values) == 1 else values
