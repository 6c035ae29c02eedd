"""Operations of PyTorch that take more than one statement over entries.

Each function of `COMPOSITES` takes the translation, the tensor or tensors of the result, and the
operation's arguments; it adds the statements and returns the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hesrl.train_step.expressions import UnknownOperationError

if TYPE_CHECKING:
    from hesrl.train_step.translation import Translation


def _copied(to: Translation, out: Tensor, *args: Any, **_: Any) -> Tensor:
    return to.entries(out, "{0}", args[-1])


def _copied_to_new(to: Translation, out: Tensor, x: Tensor, **_: Any) -> Tensor:
    return to.entries(out, "{0}", x)


def _zeroed(to: Translation, out: Tensor, _: Tensor) -> Tensor:
    return to.entries(out, "{0}", 0)


def _selected(to: Translation, out: Tensor, mask: Tensor, a: Any, b: Any) -> Tensor:
    return to.entries(out, "{0} ? {1} : {2}", mask, a, b)


def _product(to: Translation, out: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return to.multiply(out, a, b)


def _product_with_bias(
    to: Translation,
    out: Tensor,
    bias: Tensor,
    a: Tensor,
    b: Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
) -> Tensor:
    product = to.multiply(to.new_like(out), a, b)
    if alpha == beta == 1:
        return to.entries(out, "{0} + {1}", product, bias)
    return to.entries(out, "{0} * {2} + {1} * {3}", product, bias, alpha, beta)


def _product_with_vector(to: Translation, out: Tensor, a: Tensor, b: Tensor) -> Tensor:
    to.multiply(out[:, None], a, b[:, None])
    return out


def _joined(to: Translation, out: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    start = 0
    for x in tensors:
        to.entries(out.narrow(dim, start, x.shape[dim]), "{0}", x)
        start += x.shape[dim]
    return out


def _stacked(to: Translation, out: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    for number, x in enumerate(tensors):
        to.entries(out.select(dim, number), "{0}", x)
    return out


def _dims(x: Tensor, dims: Any) -> list[int]:
    if dims is None or dims == []:
        return list(range(x.dim()))
    return [d % max(x.dim(), 1) for d in ([dims] if isinstance(dims, int) else dims)]


def _count(x: Tensor, dims: Sequence[int]) -> int:
    return math.prod(x.shape[d] for d in dims if x.dim())


def _kept(to: Translation, out: Tensor, x: Tensor, dims: Sequence[int]) -> Tensor:
    """Return a tensor for folds along dimensions, which it keeps."""
    return to.new_like(out, [1 if d in dims else size for d, size in enumerate(x.shape)])


def _sum(
    to: Translation, out: Tensor, x: Tensor, dims: Any = None, keepdim: bool = False, **_: Any
) -> Tensor:
    return to.fold(out, _dims(x, dims), "sum", "{0}", x)


def _mean(
    to: Translation, out: Tensor, x: Tensor, dims: Any = None, keepdim: bool = False, **_: Any
) -> Tensor:
    dims = _dims(x, dims)
    total = to.fold(to.new_like(out), dims, "sum", "{0}", x)
    return to.entries(out, "{0} / {1}", total, _count(x, dims))


def _norm(
    to: Translation,
    out: Tensor,
    x: Tensor,
    ord: float = 2,
    dims: Any = None,
    keepdim: bool = False,
    **_: Any,
) -> Tensor:
    if ord != 2:
        raise UnknownOperationError(f"a norm of order {ord}")
    total = to.fold(to.new_like(out), _dims(x, dims), "sum", "{0} * {0}", x)
    return to.entries(out, "__builtin_sqrt@({0})", total)


def _largest(to: Translation, out: Tensor, x: Tensor, dims: Any = None, _: bool = False) -> Tensor:
    return to.fold(out, _dims(x, dims), "max", "{0}", x)


def _spread(root: bool, with_mean: bool) -> Callable[..., Any]:
    """Return what translates variances, or their roots, and means beside them."""
    text = "__builtin_sqrt@({0} / {1})" if root else "{0} / {1}"

    def translated(
        to: Translation,
        out: Any,
        x: Tensor,
        dims: Any = None,
        *,
        correction: float = 1,
        keepdim: bool = False,
    ) -> Any:
        spread, mean = out if with_mean else (out, None)
        dims = _dims(x, dims)
        count = _count(x, dims)
        total = to.fold(_kept(to, spread, x, dims), dims, "sum", "{0}", x)
        centre = to.entries(to.new_like(total), "{0} / {1}", total, count)
        squares = to.fold(to.new_like(spread), dims, "sum", "({0} - {1}) * ({0} - {1})", x, centre)
        to.entries(spread, text, squares, max(count - correction, 0))
        if mean is not None:
            to.entries(mean, "{0}", centre.view(mean.shape))
        return out

    return translated


def _log_softmax(to: Translation, out: Tensor, x: Tensor, dim: int, _: bool) -> Tensor:
    top, total = _exponentials(to, out, x, [dim])
    logarithm = to.entries(to.new_like(total), "__builtin_log@({0})", total)
    return to.entries(out, "{0} - {1} - {2}", x, top, logarithm)


def _softmax(to: Translation, out: Tensor, x: Tensor, dim: int, _: bool) -> Tensor:
    top, total = _exponentials(to, out, x, [dim])
    return to.entries(out, "exponential({0} - {1}) / {2}", x, top, total)


def _logsumexp(to: Translation, out: Tensor, x: Tensor, dims: Any, keepdim: bool = False) -> Tensor:
    top, total = _exponentials(to, out, x, _dims(x, dims))
    return to.entries(out, "{0} + __builtin_log@({1})", top.view(out.shape), total.view(out.shape))


def _exponentials(
    to: Translation, out: Tensor, x: Tensor, dims: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return the largest entries, and the sums of exponentials below them."""
    dims = _dims(x, list(dims))
    top = to.fold(_kept(to, out, x, dims), dims, "max", "{0}", x)
    # An infinite one is not subtracted, as in PyTorch.
    finite = to.entries(to.new_like(top), "{0} - {0} == 0 ? {0} : {0} != {0} ? {0} : 0", top)
    total = to.fold(to.new_like(top), dims, "sum", "exponential({0} - {1})", x, finite)
    return top, total


def _log_softmax_backward(
    to: Translation, out: Tensor, grad: Tensor, y: Tensor, dim: int, _: Any
) -> Tensor:
    dims = _dims(y, dim)
    total = to.fold(_kept(to, out, y, dims), dims, "sum", "{0}", grad)
    return to.entries(out, "{0} - exponential({1}) * {2}", grad, y, total)


def _softmax_backward(
    to: Translation, out: Tensor, grad: Tensor, y: Tensor, dim: int, _: Any
) -> Tensor:
    dims = _dims(y, dim)
    total = to.fold(_kept(to, out, y, dims), dims, "sum", "{0} * {1}", grad, y)
    return to.entries(out, "{1} * ({0} - {2})", grad, y, total)


def _layer_norm(
    to: Translation,
    out: Sequence[Tensor],
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Sequence[Tensor]:
    y, mean, scale = out
    dims = list(range(x.dim() - len(shape), x.dim()))
    count = _count(x, dims)
    total = to.fold(to.new_like(mean), dims, "sum", "{0}", x)
    to.entries(mean, "{0} / {1}", total, count)
    squares = to.fold(to.new_like(mean), dims, "sum", "({0} - {1}) * ({0} - {1})", x, mean)
    to.entries(scale, "1 / __builtin_sqrt@({0} / {1} + {2})", squares, count, eps)
    factors = (1 if weight is None else weight), (0 if bias is None else bias)
    to.entries(y, "({0} - {1}) * {2} * {3} + {4}", x, mean, scale, *factors)
    return out


def _layer_norm_backward(
    to: Translation,
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
        to.entries(of_x, text, scale, inner, first, unit, second, _count(x, dims))
    if mask[1] and weight is not None:
        to.fold(of_weight, others, "sum", "{0} * {1}", grad, unit)
    if mask[2] and bias is not None:
        to.fold(of_bias, others, "sum", "{0}", grad)
    return out


def _indexed(to: Translation, out: Tensor, x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    """Translate rows ``x[index]``, the only form of several that is known."""
    (index, *others) = indices
    if others or index is None or index.dim() != 1 or index.dtype == torch.bool:
        raise UnknownOperationError("indices other than one vector along the first dimension")
    return to.gather(out, x, {0: index.view(-1, *[1] * (x.dim() - 1))})


def _gathered(
    to: Translation, out: Tensor, x: Tensor, dim: int, index: Tensor, sparse_grad: bool = False
) -> Tensor:
    return to.gather(out, x, {dim % x.dim(): index})


def _scattered(
    to: Translation, out: Tensor, x: Tensor, dim: int, index: Tensor, value: Any
) -> Tensor:
    to.entries(out, "{0}", x)
    return to.scatter(out, {dim % x.dim(): index}, index, value)


COMPOSITES: dict[str, Callable[..., Any]] = {
    "copy": _copied,
    "fill": _copied,
    "zero": _zeroed,
    "clone": _copied_to_new,
    "_to_copy": _copied_to_new,
    "lift_fresh_copy": _copied_to_new,
    "where": _selected,
    "mm": _product,
    "addmm": _product_with_bias,
    "mv": _product_with_vector,
    "cat": _joined,
    "stack": _stacked,
    "sum": _sum,
    "mean": _mean,
    "linalg_vector_norm": _norm,
    "norm": _norm,
    "amax": _largest,
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
    "index": _indexed,
    "gather": _gathered,
    "scatter": _scattered,
}
