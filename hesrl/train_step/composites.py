"""Operations of PyTorch that take more than one statement over entries.

Each function of `COMPOSITES` takes the translation, the tensor or tensors of the result, and the
operation's arguments; it adds the statements and returns the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hesrl.train_step.expressions import UnknownOperationError
from hesrl.train_step.normalisations import NORMALISATIONS, count_of, dims_of
from hesrl.train_step.statements import Statements


def _copied(to: Statements, out: Tensor, *args: Any, **_: Any) -> Tensor:
    return to.entries(out, "{0}", args[-1])


def _copied_to_new(to: Statements, out: Tensor, x: Tensor, **_: Any) -> Tensor:
    return to.entries(out, "{0}", x)


def _zeroed(to: Statements, out: Tensor, _: Tensor) -> Tensor:
    return to.entries(out, "{0}", 0)


def _selected(to: Statements, out: Tensor, mask: Tensor, a: Any, b: Any) -> Tensor:
    return to.entries(out, "{0} ? {1} : {2}", mask, a, b)


def _product(to: Statements, out: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return to.multiply(out, a, b)


def _product_with_bias(
    to: Statements,
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


def _product_with_vector(to: Statements, out: Tensor, a: Tensor, b: Tensor) -> Tensor:
    to.multiply(out[:, None], a, b[:, None])
    return out


def _joined(to: Statements, out: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    start = 0
    for x in tensors:
        to.entries(out.narrow(dim, start, x.shape[dim]), "{0}", x)
        start += x.shape[dim]
    return out


def _stacked(to: Statements, out: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    for number, x in enumerate(tensors):
        to.entries(out.select(dim, number), "{0}", x)
    return out


def _sum(
    to: Statements, out: Tensor, x: Tensor, dims: Any = None, keepdim: bool = False, **_: Any
) -> Tensor:
    return to.fold(out, dims_of(x, dims), "sum", "{0}", x)


def _mean(
    to: Statements, out: Tensor, x: Tensor, dims: Any = None, keepdim: bool = False, **_: Any
) -> Tensor:
    dims = dims_of(x, dims)
    total = to.fold(to.new_like(out), dims, "sum", "{0}", x)
    return to.entries(out, "{0} / {1}", total, count_of(x, dims))


def _norm(
    to: Statements,
    out: Tensor,
    x: Tensor,
    ord: float = 2,
    dims: Any = None,
    keepdim: bool = False,
    **_: Any,
) -> Tensor:
    if ord != 2:
        raise UnknownOperationError(f"a norm of order {ord}")
    total = to.fold(to.new_like(out), dims_of(x, dims), "sum", "{0} * {0}", x)
    return to.entries(out, "__builtin_sqrt@({0})", total)


def _largest(to: Statements, out: Tensor, x: Tensor, dims: Any = None, _: bool = False) -> Tensor:
    return to.fold(out, dims_of(x, dims), "max", "{0}", x)


def _indexed(to: Statements, out: Tensor, x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    """Translate rows ``x[index]``, the only form of several that is known."""
    (index, *others) = indices
    if others or index is None or index.dim() != 1 or index.dtype == torch.bool:
        raise UnknownOperationError("indices other than one vector along the first dimension")
    return to.gather(out, x, {0: index.view(-1, *[1] * (x.dim() - 1))})


def _gathered(
    to: Statements, out: Tensor, x: Tensor, dim: int, index: Tensor, sparse_grad: bool = False
) -> Tensor:
    return to.gather(out, x, {dim % x.dim(): index})


def _scattered(
    to: Statements, out: Tensor, x: Tensor, dim: int, index: Tensor, value: Any
) -> Tensor:
    to.entries(out, "{0}", x)
    return to.scatter(out, {dim % x.dim(): index}, index, value)


COMPOSITES: dict[str, Callable[..., Any]] = NORMALISATIONS | {
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
    "index": _indexed,
    "gather": _gathered,
    "scatter": _scattered,
}
