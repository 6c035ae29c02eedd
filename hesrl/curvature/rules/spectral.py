"""Fourier transforms, between real tensors and complex ones.

A complex entry is two real coordinates, so the curvature of ``x = a + i b`` is carried as
``h(a) + i h(b)``. Every transform is linear in these coordinates, with coefficients ``cos θ_kj``
and ``sin θ_kj``, ``θ_kj = 2π Σ_d k_d j_d / n_d``. Their squares are ``(1 ± cos 2θ_kj)/2``, so that

    Σ_k (cos² θ_kj u_k + sin² θ_kj v_k) = ½ [ Σ_k (u_k + v_k) + Re F(u − v)_{2j mod n} ]

for the transform F itself: ``h`` costs one more transform. All are exact.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import register_rule
from hesrl.curvature.rules.softmax import saved_dim

_BY_ROOT, _BY_SIZE = 1, 2
"""Values of the saved normalization: division by √n and by n; 0 is none."""


def _squares(u: Tensor, v: Tensor | None, dims: list[int]) -> tuple[Tensor, Tensor]:
    """Return ``Σ_k (cos² θ_kj u_k + sin² θ_kj v_k)``, and with cos² and sin² exchanged.

    Args:
        u: Real, of the size of the transform along its dimensions.
        v: Likewise; None for zero.
        dims: The dimensions, which are summed over.
    """
    total, difference = (u, u) if v is None else (u + v, u - v)
    total = total.sum(dims, keepdim=True)
    double = torch.fft.fftn(difference, dim=tuple(dims)).real
    for dim in dims:
        size = double.shape[dim]
        index = 2 * torch.arange(size, device=double.device) % size
        double = double.index_select(dim, index)
    return 0.5 * (total + double), 0.5 * (total - double)


def _dims(node: Any, x: Tensor) -> list[int]:
    return [saved_dim(dim, x.dim()) for dim in node._saved_dim]


def _scale(node: Any, x: Tensor, dims: list[int]) -> float:
    """Return the square of what the transform of x is scaled by."""
    size = math.prod(x.shape[dim] for dim in dims)
    return {_BY_ROOT: 1 / size, _BY_SIZE: 1 / size**2}.get(node._saved_normalization, 1.0)


@register_rule("FftC2CBackward0", linear=True)
def complex_to_complex(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``y = F x``, forward or backward, which differ in the sign of the sines only."""
    dims = _dims(node, hess_out)
    hess = torch.complex(*_squares(hess_out.real, hess_out.imag, dims))
    return _scale(node, hess, dims) * hess


@register_rule("FftR2CBackward0", linear=True)
def real_to_complex(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """The same of a real x; only about half of the y along the last dimension if onesided."""
    x, dims = node._saved_self, _dims(node, hess_out)
    missing = x.shape[dims[-1]] - hess_out.shape[dims[-1]]
    whole = _extended(hess_out, dims[-1], missing)
    hess, _ = _squares(whole.real, whole.imag, dims)
    return _scale(node, x, dims) * hess


def _extended(x: Tensor, dim: int, by: int) -> Tensor:
    """Return a tensor with zeros at the end of a dimension."""
    shape = list(x.shape)
    shape[dim] = by
    return torch.cat([x, x.new_zeros(shape)], dim)


@register_rule("FftC2RBackward0", linear=True)
def complex_to_real(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``y_j = Σ_k c_k (a_k cos θ_kj − b_k sin θ_kj)``: ``c_k = 2`` but for the first and last k.

    x is the first half of a spectrum, of which the other half is the conjugate: what is not its
    own conjugate counts twice.
    """
    dims = _dims(node, hess_out)
    size = hess_out.shape[dims[-1]]
    hess = torch.complex(*_squares(hess_out, None, dims)).narrow(dims[-1], 0, size // 2 + 1)
    counts = torch.full((size // 2 + 1,), 4.0, dtype=hess_out.dtype, device=hess_out.device)
    counts[0] = 1
    if size % 2 == 0:
        counts[-1] = 1
    counts = counts.view(-1, *[1] * (hess.dim() - dims[-1] - 1))
    return _scale(node, hess_out, dims) * counts * hess
