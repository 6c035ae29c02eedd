"""Reductions over dimensions: sums, means, extremes, products, and sums along a dimension.

    h(x)_j = Σ_k (∂y_k/∂x_j)² h(y)_k + Σ_k g(y)_k ∂²y_k/∂x_j²

All are exact by this definition, in closed form and in linear time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import register_adjoint, register_rule
from hesrl.curvature.rules.softmax import saved_dim

register_adjoint(
    "NansumBackward0",
    # y_k = Σ_{j ≤ k} x_j.
    "CumsumBackward0",
    # The entry that is largest or smallest along a dimension (so far), by its index.
    "CummaxBackward0",
    "CumminBackward0",
    "MaxBackward0",
    "MinBackward0",
)
register_adjoint("SumBackward0", "SumBackward1", one_output=True)


def reduced_dims(dims: Any, ndim: int) -> list[int]:
    """Return the dimensions that a node reduced, in ascending order.

    Args:
        dims: What it saved: one dimension, several, or all of them as None or none.
        ndim: Number of dimensions of its input.
    """
    if dims is None or dims == ():
        return list(range(ndim))
    several = [dims] if isinstance(dims, int) else dims
    return sorted(saved_dim(dim, ndim) for dim in several)


def restored(y: Tensor, dims: list[int], keepdim: bool) -> Tensor:
    """Return a reduced tensor with the dimensions that it lost, of size 1."""
    if not keepdim:
        for dim in dims:
            y = y.unsqueeze(dim)
    return y


@register_rule("MeanBackward0", linear=True)
def mean(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``y = (1/N) Σ_n x_n``: ``h(x) = h(y)/N²``; the gradient's own map divides by N once."""
    return node(hess_out) / node._saved_self_sym_numel


@register_rule("MeanBackward1", linear=True, separate=True)
def mean_over_dimensions(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """The same for a mean over some dimensions; N is the number of entries in each mean."""
    return node(hess_out * (hess_out.numel() / node._saved_self_sym_numel))


def _extreme(x: Tensor, y: Tensor, hess_out: Tensor, dims: list[int]) -> Tensor:
    """Entries that tie for the extreme y share the slope: ``h(x) = h(y)/count²`` for each."""
    tie = (x == y).to(x.dtype)
    return tie * (hess_out / tie.sum(dims, keepdim=True).square())


@register_rule("MaxBackward1", "MinBackward1", linear=True)
def extreme(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """The largest or smallest of all entries."""
    x = node._saved_self
    return _extreme(x, node._saved_result, hess_out, reduced_dims(None, x.dim()))


@register_rule("AmaxBackward0", "AminBackward0", linear=True)
def extreme_over_dimensions(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """The largest or smallest entries over some dimensions."""
    x, keepdim = node._saved_self, node._saved_keepdim
    dims = reduced_dims(node._saved_dim, x.dim())
    y = restored(node._saved_result, dims, keepdim)
    return _extreme(x, y, restored(hess_out, dims, keepdim), dims)


@register_rule("AminmaxBackward0", linear=True)
def extremes(node: Any, grads_out: Any, hess_out: tuple[Tensor | None, ...]) -> Tensor:
    """Both the smallest and the largest entries."""
    x, keepdim = node._saved_self, node._saved_keepdim
    dims = reduced_dims(node._saved_dim, x.dim())
    hess = torch.zeros_like(x)
    for y, hess_y in zip((node._saved_min, node._saved_max), hess_out, strict=True):
        if hess_y is not None:
            y, hess_y = restored(y, dims, keepdim), restored(hess_y, dims, keepdim)
            hess = hess + _extreme(x, y, hess_y, dims)
    return hess


@register_rule("ProdBackward0", linear=True)
def product(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``y = Π_n x_n`` is linear in each entry; the slope is the product of all the others."""
    return node(torch.ones_like(hess_out)).square() * hess_out


@register_rule("ProdBackward1", linear=True)
def product_over_dimension(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """The same for the products along one dimension."""
    slope = node(torch.ones_like(hess_out))
    dims = reduced_dims(node._saved_dim, slope.dim())
    return slope.square() * restored(hess_out, dims, node._saved_keepdim)


@register_rule("CumprodBackward0", linear=True)
def cumprod(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``y_k = Π_{i ≤ k} x_i``: ``h(x)_j = Σ_{k ≥ j} h_k Π_{i ≤ k, i ≠ j} x_i²``.

    That is the gradient of the cumulative product of squares, zeros among them included.
    """
    x, y = node._saved_self, node._saved_result
    square, dim = x.to(y.dtype).square(), saved_dim(node._saved_dim, x.dim())
    hess = torch.ops.aten.cumprod_backward(hess_out, square, dim, y.square())
    return hess.to(x.dtype)


@register_rule("LogcumsumexpBackward0")
def logcumsumexp(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``y_k = log Σ_{j ≤ k} e^{x_j}``, with p_kj = e^{x_j − y_k} for k ≥ j.

    h(x)_j = Σ_{k ≥ j} p_kj² (h_k − g_k) + Σ_{k ≥ j} p_kj g_k
    """
    x, y = node._saved_self, node._saved_result
    dim = saved_dim(node._saved_dim, x.dim())

    def rest(values: Tensor, power: int) -> Tensor:
        """``Σ_{k ≥ j} p_kj^power v_k``, the positive and the negative ones apart for their logs."""
        total = torch.zeros_like(x)
        for sign in (1, -1):
            logs = (sign * values).clamp(min=0).log() - power * y
            total += sign * torch.exp(power * x + logs.flip(dim).logcumsumexp(dim).flip(dim))
        return total

    return rest(hess_out - grad_out, 2) + rest(grad_out, 1)
