"""Variances, standard deviations and norms over dimensions, exact by the definition.

Of an entry x_j among the N that are reduced to y:

    h(x_j) = f_j² h(y) + f_jj g(y),   f_j = ∂y/∂x_j,   f_jj = ∂²y/∂x_j²

Where y = 0 a standard deviation or norm has a kink: PyTorch's own gradient takes slope 0 there.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import register_rule
from hesrl.curvature.rules.reduce import reduced_dims, restored


def inverse(y: Tensor) -> Tensor:
    """Return 1/y, and 0 at the kink."""
    return torch.where(y == 0, 0.0, y.reciprocal())


def _spread(
    node: Any,
    y: Tensor | None,
    grad_out: Tensor | None,
    hess_out: Tensor | None,
    mean: Tensor | None,
) -> Tensor:
    """Return the curvature of the variance, or of the standard deviation y, and of the mean.

    With u = x − x̄ and D = N − correction:

        v = Σ u²/D:   f_j = 2u_j/D,     f_jj = 2 (1 − 1/N)/D
        y = √v:       f_j = u_j/(D y),  f_jj = ((1 − 1/N)/D − f_j²)/y
        x̄:            f_j = 1/N
    """
    x, keepdim, correction = node._saved_self, node._saved_keepdim, node._saved_correction
    dims = reduced_dims(node._saved_dim, x.dim())
    count = math.prod(x.shape[dim] for dim in dims)
    divisor = count - (1 if correction is None else correction)
    factor = 1 / divisor if divisor > 0 else math.inf
    deviation = factor * (x - x.mean(dims, keepdim=True))
    second = (1 - 1 / count) * factor
    if y is None:
        first, bend = 2 * deviation, 2 * second
    else:
        inverse_y = inverse(restored(y, dims, keepdim))
        first = deviation * inverse_y
        bend = (second - first.square()) * inverse_y
    hess = torch.zeros_like(x)
    if hess_out is not None:
        hess = first.square() * restored(hess_out, dims, keepdim)
    if grad_out is not None:
        hess = hess + bend * restored(grad_out, dims, keepdim)
    if mean is not None:
        hess = hess + restored(mean, dims, keepdim) / count**2
    return hess


@register_rule("VarBackward0")
def variance(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """The variance."""
    return _spread(node, None, grad_out, hess_out, None)


@register_rule("StdBackward0")
def standard_deviation(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """The standard deviation."""
    return _spread(node, node._saved_result, grad_out, hess_out, None)


@register_rule("VarMeanBackward0")
def variance_and_mean(node: Any, grads_out: Any, hess_out: Any) -> Tensor:
    """The variance and the mean, whose curvatures add."""
    return _spread(node, None, grads_out[0], *hess_out)


@register_rule("StdMeanBackward0")
def standard_deviation_and_mean(node: Any, grads_out: Any, hess_out: Any) -> Tensor:
    """The standard deviation and the mean, whose curvatures add."""
    return _spread(node, node._saved_result0, grads_out[0], *hess_out)


def norm_slopes(u: Tensor, y: Tensor, p: float, dims: list[int]) -> tuple[Tensor, Tensor | None]:
    """Return ``f_j`` of ``y = (Σ |u_j|^p)^{1/p}`` and ``b_j``, None if there is no curvature.

    With r = |u|/y: ``f_j = sign u r^{p−1}``, ``f_jj = (p − 1) (b_j − f_j²)/y``, ``b_j = r^{p−2}``.
    """
    sign = torch.sgn(u)
    if p == 0:
        return torch.zeros_like(u), None
    if p == 1:
        return sign, None
    if math.isinf(p):
        tie = u.abs() == y
        return sign * tie / tie.sum(dims, keepdim=True), None
    if p == 2:
        return u * inverse(y), torch.ones_like(u)
    r = u.abs() * inverse(y)
    first, bend = sign * r ** (p - 1), r ** (p - 2)
    if p < 2:  # Powers of zero are infinite: another kink.
        first, bend = torch.where(u == 0, 0.0, first), torch.where(u == 0, 0.0, bend)
    return first, bend


def _norm(
    first: Tensor, bend: Tensor | None, y: Tensor, p: float, grad_out: Tensor, hess_out: Tensor
) -> Tensor:
    square = first.square()
    hess = square * hess_out
    if bend is not None:
        hess = hess + (p - 1) * (bend - square) * inverse(y) * grad_out
    return hess


@register_rule(
    "LinalgVectorNormBackward0",
    # Over all dimensions or some, in the dtype of x or in another one.
    "NormBackward0",
    "NormBackward1",
    "NormBackward2",
    "NormBackward3",
)
def norm(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``y = (Σ_j |x_j|^p)^{1/p}`` over all dimensions or some."""
    x = node._saved_self
    p = getattr(node, "_saved_ord", getattr(node, "_saved_p", None))
    p = 2 if p is None else p
    dims = reduced_dims(getattr(node, "_saved_dim", None), x.dim())
    keepdim = getattr(node, "_saved_keepdim", False)
    y, grad_out, hess_out = (
        restored(v, dims, keepdim) for v in (node._saved_result, grad_out, hess_out)
    )
    return _norm(*norm_slopes(x, y, p, dims), y, p, grad_out, hess_out).to(x.dtype)


@register_rule("DistBackward0")
def distance(node: Any, grad_out: Tensor, hess_out: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The norm of ``a − b``; an entry that is broadcast moves all of its copies at once."""
    a, b, y, p = node._saved_self, node._saved_other, node._saved_result, node._saved_p
    u = a - b
    first, bend = norm_slopes(u, y, p, list(range(u.dim())))

    def of(x: Tensor) -> Tensor:
        copies = None if bend is None else bend.sum_to_size(x.shape)
        return _norm(first.sum_to_size(x.shape), copies, y, p, grad_out, hess_out)

    to_a, to_b = (source is not None for source, _ in node.next_functions)
    return of(a) if to_a else None, of(b) if to_b else None
