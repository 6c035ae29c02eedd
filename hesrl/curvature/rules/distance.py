"""Distances between all pairs of points, and slices brought down to a largest norm.

For the distance ``y = (Σ_d |u_d|^p)^{1/p}`` of two points, u = a − b:

    h(a)_d = Σ [ f_d² h(y) + f_dd g(y) ],   f_d = ∂y/∂u_d,   f_dd = ∂²y/∂u_d²

over the pairs that a point belongs to; so for b. Where two points are equal, and where a power of
zero is infinite, PyTorch's own gradient gives the slopes, and the curvature is zero. All are
exact by the definition.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import register_rule
from hesrl.curvature.rules.moment import inverse, norm_slopes
from hesrl.curvature.rules.softmax import saved_dim

_AT_ONCE = 1 << 20
"""How many differences of coordinates are held at a time."""


@register_rule("CdistBackward0")
def distances(node: Any, grad_out: Tensor, hess_out: Tensor) -> tuple[Tensor, Tensor]:
    """Of every point of one set (…, n, d) to every point of another (…, m, d)."""
    y, p = node._saved_result, node._saved_p
    return _between(node._saved_x1, node._saved_x2, p, y, grad_out, hess_out)


@register_rule("PdistBackward0")
def distances_within(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """Of every pair of points of one set (n, d), as a vector without repetitions."""
    x = node._saved_self
    first, second = torch.triu_indices(len(x), len(x), 1, device=x.device)

    def of_all(pairs: Tensor) -> Tensor:
        matrix = x.new_zeros(len(x), len(x)).index_put((first, second), pairs)
        return matrix + matrix.t()

    values = (of_all(pairs) for pairs in (node._saved_result, grad_out, hess_out))
    return _between(x, x, node._saved_p, *values)[0]


def _between(
    a: Tensor, b: Tensor, p: float, y: Tensor, grad_out: Tensor, hess_out: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ``h`` of both sets of points, some of the first set's at a time.

    Args:
        a: (…, n, d); may have size 1 where the distances have batch dimensions, or lack them.
        b: (…, m, d), likewise.
        p: Order of the norm.
        y: Distances (…, n, m).
        grad_out: g(y), likewise.
        hess_out: h(y), likewise.
    """
    size = y[..., :1, :].numel() * a.shape[-1]
    count = max(1, _AT_ONCE // max(1, size))
    parts = zip(*(v.split(count, -2) for v in (a, y, grad_out, hess_out)), strict=True)
    hess_a, hess_b = [], torch.zeros((), dtype=b.dtype, device=b.device)
    for points, *of_pairs in parts:
        u = points.unsqueeze(-2) - b.unsqueeze(-3)
        hess = _of_differences(u, p, *(v.unsqueeze(-1) for v in of_pairs))
        hess_a.append(hess.sum(-2))
        hess_b = hess_b + hess.sum(-3)
    return torch.cat(hess_a, -2), hess_b


def _of_differences(u: Tensor, p: float, y: Tensor, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """Return ``f_d² h(y) + f_dd g(y)`` for the coordinates u_d of every pair."""
    if math.isinf(p):
        return torch.where((u.abs() == y) & (y > 0), hess_out, 0.0)
    first, bend = norm_slopes(u, y, p, [])
    square = first.square()
    hess = square * hess_out
    return hess if bend is None else hess + (p - 1) * (bend - square) * inverse(y) * grad_out


@register_rule("EuclideanDistBackward0")
def euclidean_distances(node: Any, grad_out: Tensor, hess_out: Tensor) -> tuple[Tensor, Tensor]:
    """``y = |a − b|`` of many points, which PyTorch computes by a matrix product, as this does.

    With ``w = h(y)/y² − g(y)/y³`` for every pair, ``h(a)_d = Σ w (a_d − b_d)² + Σ g(y)/y``.
    """
    a, b, inverse_y = node._saved_x1, node._saved_x2, inverse(node._saved_result)
    bend = grad_out * inverse_y
    w = (hess_out - bend) * inverse_y.square()

    def of(points: Tensor, others: Tensor, w: Tensor, bend: Tensor) -> Tensor:
        squares = points.square() * w.sum(-1, keepdim=True) + w @ others.square()
        return squares - 2 * points * (w @ others) + bend.sum(-1, keepdim=True)

    return of(a, b, w, bend), of(b, a, w.mT, bend.mT)


_SMALL = 1e-7
"""What PyTorch adds to a norm before it divides by it."""


@register_rule("RenormBackward0")
def renorm(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``y = s(n) x``: ``s = M/(n + ε)`` for slices of a norm n above M, and 1 for the others.

    With f = ∂n/∂x:  h(x) = s² h + 2 s s' x f h + (s' f)² Σ x² h
                            + 2 s' f g + (s'' f² + s' f_x) Σ x g
    """
    x, p, largest = node._saved_self, node._saved_p, node._saved_maxnorm
    kept = saved_dim(node._saved_dim, x.dim())
    dims = [dim for dim in range(x.dim()) if dim != kept]
    n = torch.linalg.vector_norm(x, p, dims, keepdim=True)
    above, divisor = n > largest, n + _SMALL
    s = torch.where(above, largest / divisor, 1.0)
    ds = torch.where(above, -s / divisor, 0.0)
    f, bend = norm_slopes(x, n, p, dims)
    mixed = (x * grad_out).sum(dims, keepdim=True)
    hess = s.square() * hess_out + 2 * ds * f * (s * x * hess_out + grad_out)
    hess = hess + (ds * f).square() * (x.square() * hess_out).sum(dims, keepdim=True)
    hess = hess - 2 * ds / divisor * f.square() * mixed
    if bend is not None:
        hess = hess + ds * (p - 1) * (bend - f.square()) * inverse(n) * mixed
    return hess
