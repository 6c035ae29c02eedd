"""Variances, softmax and layer normalisation in statements over entries.

As in `hesrl.train_step.composites`, which has the other operations of this kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from hesrl.train_step.statements import Statements


def dims_of(x: Tensor, dims: Any) -> list[int]:
    """Return the dimensions that an operation goes along; None or none given are all."""
    if dims is None or dims == []:
        return list(range(x.dim()))
    return [d % max(x.dim(), 1) for d in ([dims] if isinstance(dims, int) else dims)]


def count_of(x: Tensor, dims: Sequence[int]) -> int:
    """Return how many entries lie along dimensions."""
    return math.prod(x.shape[d] for d in dims if x.dim())


def _kept(to: Statements, out: Tensor, x: Tensor, dims: Sequence[int]) -> Tensor:
    """Return a tensor for folds along dimensions, which it keeps."""
    return to.new_like(out, [1 if d in dims else size for d, size in enumerate(x.shape)])


def _spread(root: bool, with_mean: bool) -> Callable[..., Any]:
    """Return what translates variances, or their roots, and means beside them."""
    text = "__builtin_sqrt@({0} / {1})" if root else "{0} / {1}"

    def translated(
        to: Statements,
        out: Any,
        x: Tensor,
        dims: Any = None,
        *,
        correction: float = 1,
        keepdim: bool = False,
    ) -> Any:
        spread, mean = out if with_mean else (out, None)
        dims = dims_of(x, dims)
        count = count_of(x, dims)
        total = to.fold(_kept(to, spread, x, dims), dims, "sum", "{0}", x)
        centre = to.entries(to.new_like(total), "{0} / {1}", total, count)
        squares = to.fold(to.new_like(spread), dims, "sum", "({0} - {1}) * ({0} - {1})", x, centre)
        to.entries(spread, text, squares, max(count - correction, 0))
        if mean is not None:
            to.entries(mean, "{0}", centre.view(mean.shape))
        return out

    return translated


def _log_softmax(to: Statements, out: Tensor, x: Tensor, dim: int, _: bool) -> Tensor:
    top, total = _exponentials(to, out, x, [dim])
    logarithm = to.entries(to.new_like(total), "__builtin_log@({0})", total)
    return to.entries(out, "{0} - {1} - {2}", x, top, logarithm)


def _softmax(to: Statements, out: Tensor, x: Tensor, dim: int, _: bool) -> Tensor:
    top, total = _exponentials(to, out, x, [dim])
    return to.entries(out, "exponential({0} - {1}) / {2}", x, top, total)


def _logsumexp(to: Statements, out: Tensor, x: Tensor, dims: Any, keepdim: bool = False) -> Tensor:
    top, total = _exponentials(to, out, x, dims_of(x, dims))
    return to.entries(out, "{0} + __builtin_log@({1})", top.view(out.shape), total.view(out.shape))


def _exponentials(
    to: Statements, out: Tensor, x: Tensor, dims: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return the largest entries, and the sums of exponentials below them."""
    dims = dims_of(x, list(dims))
    top = to.fold(_kept(to, out, x, dims), dims, "max", "{0}", x)
    # An infinite one is not subtracted, as in PyTorch.
    finite = to.entries(to.new_like(top), "{0} - {0} == 0 ? {0} : {0} != {0} ? {0} : 0", top)
    total = to.fold(to.new_like(top), dims, "sum", "exponential({0} - {1})", x, finite)
    return top, total


def _log_softmax_backward(
    to: Statements, out: Tensor, grad: Tensor, y: Tensor, dim: int, _: Any
) -> Tensor:
    dims = dims_of(y, dim)
    total = to.fold(_kept(to, out, y, dims), dims, "sum", "{0}", grad)
    return to.entries(out, "{0} - exponential({1}) * {2}", grad, y, total)


def _softmax_backward(
    to: Statements, out: Tensor, grad: Tensor, y: Tensor, dim: int, _: Any
) -> Tensor:
    dims = dims_of(y, dim)
    total = to.fold(_kept(to, out, y, dims), dims, "sum", "{0} * {1}", grad, y)
    return to.entries(out, "{1} * ({0} - {2})", grad, y, total)


def _layer_norm(
    to: Statements,
    out: Sequence[Tensor],
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Sequence[Tensor]:
    y, mean, scale = out
    dims = list(range(x.dim() - len(shape), x.dim()))
    count = count_of(x, dims)
    total = to.fold(to.new_like(mean), dims, "sum", "{0}", x)
    to.entries(mean, "{0} / {1}", total, count)
    squares = to.fold(to.new_like(mean), dims, "sum", "({0} - {1}) * ({0} - {1})", x, mean)
    to.entries(scale, "1 / __builtin_sqrt@({0} / {1} + {2})", squares, count, eps)
    factors = (1 if weight is None else weight), (0 if bias is None else bias)
    to.entries(y, "({0} - {1}) * {2} * {3} + {4}", x, mean, scale, *factors)
    return out


def _layer_norm_backward(
    to: Statements,
    out: Sequence[Any],
    grad: Tensor,
    x: Tensor,
    shape: Sequence[int],
    mean: Tensor,
    scale: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mask: Sequence[bool],
) -> Sequence[Any]:
    of_x, of_weight, of_bias = out
    dims = list(range(x.dim() - len(shape), x.dim()))
    others = [d for d in range(x.dim()) if d not in dims]
    factor = 1 if weight is None else weight
    unit = to.entries(to.new_like(x), "({0} - {1}) * {2}", x, mean, scale)
    if mask[0]:
        inner = to.entries(to.new_like(x), "{0} * {1}", grad, factor)
        first = to.fold(to.new_like(mean), dims, "sum", "{0}", inner)
        second = to.fold(to.new_like(mean), dims, "sum", "{0} * {1}", inner, unit)
        text = "{0} * ({1} - ({2} + {3} * {4}) / {5})"
        to.entries(of_x, text, scale, inner, first, unit, second, count_of(x, dims))
    if mask[1] and weight is not None:
        to.fold(of_weight, others, "sum", "{0} * {1}", grad, unit)
    if mask[2] and bias is not None:
        to.fold(of_bias, others, "sum", "{0}", grad)
    return out


NORMALISATIONS: dict[str, Callable[..., Any]] = {
    "std": _spread(root=True, with_mean=False),
    "var": _spread(root=False, with_mean=False),
    "std_mean": _spread(root=True, with_mean=True),
    "var_mean": _spread(root=False, with_mean=True),
    "_log_softmax": _log_softmax,
    "_softmax": _softmax,
    "logsumexp": _logsumexp,
    "_log_softmax_backward_data": _log_softmax_backward,
    "_softmax_backward_data": _softmax_backward,
    "native_layer_norm": _layer_norm,
    "native_layer_norm_backward": _layer_norm_backward,
}
