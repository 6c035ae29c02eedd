"""Softmax, log-softmax and logsumexp: one dimension mixed, in O(K) closed form.

Index legend: ``k`` the classes along the softmax dimension, ``p`` the softmax probabilities.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import Partials, register_rule


def saved_dim(dim: int, ndim: int) -> int:
    """Return a saved dimension as an index from 0 to ``ndim − 1``.

    Args:
        dim: The saved value; autograd hands negative dimensions out as unsigned 64-bit numbers.
        ndim: Number of dimensions of the tensor that the dimension belongs to.
    """
    signed = dim - (1 << 64) if dim >= 1 << 63 else dim
    return signed % max(1, ndim)


def log_softmax_curvature(
    p: Tensor, dims: tuple[int, ...], grad_out: Tensor, hess_out: Tensor
) -> Tensor:
    """``y = log_softmax(z)``: ``h(z)_j = h_j (1−2p_j) + p_j² Σ_k h_k − (Σ_k g_k) p_j (1−p_j)``."""
    square = p * p
    hess_sum = hess_out.sum(dims, keepdim=True)
    grad_sum = grad_out.sum(dims, keepdim=True)
    return hess_out * (1 - 2 * p) + square * hess_sum - grad_sum * (p - square)


def _log_softmax_elementwise(node: Any) -> Partials:
    """``∂y_j/∂z_j = 1 − p_j``, ``∂²y_j/∂z_j² = −p_j (1 − p_j)``."""
    p = node._saved_result.exp()
    return (1 - p,), ((0, 0, p * p - p),)


@register_rule("LogSoftmaxBackward0", elementwise=_log_softmax_elementwise)
def log_softmax(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """Log-softmax over one dimension; exact if the Hessian at the output is diagonal."""
    dim = saved_dim(node._saved_dim, grad_out.dim())
    return log_softmax_curvature(node._saved_result.exp(), (dim,), grad_out, hess_out)


def _softmax_elementwise(node: Any) -> Partials:
    """``∂p_j/∂z_j = p_j (1 − p_j)``, ``∂²p_j/∂z_j² = p_j (1 − p_j) (1 − 2p_j)``."""
    p = node._saved_result
    df = p - p * p
    return (df,), ((0, 0, df * (1 - 2 * p)),)


# Safe: zero for a row of −∞, where ``p = 0``, as attention has it for a query without any key.
@register_rule("SoftmaxBackward0", "SafeSoftmaxBackward0", elementwise=_softmax_elementwise)
def softmax(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """Softmax over one dimension; exact if the Hessian at the output is diagonal."""
    p = node._saved_result
    return softmax_curvature(p, saved_dim(node._saved_dim, p.dim()), grad_out, hess_out)


def softmax_curvature(
    p: Tensor, dim: int | tuple[int, ...], grad_out: Tensor, hess_out: Tensor
) -> Tensor:
    """``p = softmax(z)``, with J_kj = p_k (δ_kj − p_j).

    Σ_k J_kj² h_k = p_j² [ (1 − 2p_j) h_j + Σ_k p_k² h_k ]
    Σ_k g_k ∂²p_k/∂z_j² = p_j (1 − 2p_j) (g_j − Σ_k p_k g_k)
    """
    square = p * p
    jacobian = square * (hess_out * (1 - 2 * p) + (square * hess_out).sum(dim, keepdim=True))
    return jacobian + p * (1 - 2 * p) * (grad_out - (p * grad_out).sum(dim, keepdim=True))


@register_rule("LogsumexpBackward0")
def logsumexp(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``y = log Σ_k e^{x_k}``: ``h(x)_j = p_j² h + p_j (1 − p_j) g``."""
    x, result = node._saved_self, node._saved_result
    if not node._saved_keepdim:
        for dim in sorted(saved_dim(dim, x.dim()) for dim in node._saved_dim):
            grad_out, hess_out = grad_out.unsqueeze(dim), hess_out.unsqueeze(dim)
            result = result.unsqueeze(dim)
    p = torch.exp(x - result)
    return p * p * hess_out + (p - p * p) * grad_out
