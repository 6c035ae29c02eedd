"""Softmax, log-softmax and logsumexp: one dimension mixed, in O(K) closed form.

Index legend: ``k`` the classes along the softmax dimension, ``p`` the softmax probabilities.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.registry import Local, Partials, Pointwise, register_rule


def saved_dim(dim: int, ndim: int) -> int:
    """Return a saved dimension as an index from 0 to ``ndim − 1``.

    Args:
        dim: The saved value; autograd hands negative dimensions out as unsigned 64-bit numbers.
        ndim: Number of dimensions of the tensor that the dimension belongs to.
    """
    signed = dim - (1 << 64) if dim >= 1 << 63 else dim
    return signed % max(1, ndim)


def _log_softmax(p: Tensor, dims: tuple[int, ...], grad_out: Tensor, hess_out: Tensor) -> Tensor:
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
    return _log_softmax(node._saved_result.exp(), (dim,), grad_out, hess_out)


def _log_softmax_by_logsumexp(node: Any, grad_out: Tensor, hess_out: Tensor) -> tuple[Tensor, None]:
    """``x − logsumexp(x)`` at the subtraction; the graph leaves the logsumexp node out."""
    logsumexp = node.next_functions[1][0]
    x = logsumexp._saved_self
    dims = tuple(saved_dim(dim, x.dim()) for dim in logsumexp._saved_dim)
    return _log_softmax((x - logsumexp._saved_result).exp(), dims, grad_out, hess_out), None


def _by_logsumexp_elementwise(node: Any) -> Partials:
    logsumexp = node.next_functions[1][0]
    p = (logsumexp._saved_self - logsumexp._saved_result).exp()
    return (1 - p, None), ((0, 0, p * p - p),)


LOG_SOFTMAX_BY_LOGSUMEXP = Local(
    _log_softmax_by_logsumexp, linear=False, elementwise=Pointwise(_by_logsumexp_elementwise)
)


def _exp_of_log_softmax(node: Any) -> Partials:
    """``softmax(y) = exp(y)`` where y is a log-softmax: elementwise."""
    p = node._saved_result
    return (p,), ((0, 0, p),)


def _exp_gradient_excess(node: Any, p: Tensor, grad_out: Tensor) -> Tensor:
    """``g_exp − g_softmax = g p − p (g − Σ_k g_k p_k) = p Σ_k g_k p_k``."""
    return p * (grad_out * p).sum(saved_dim(node._saved_dim, p.dim()), keepdim=True)


EXP_OF_LOG_SOFTMAX = Pointwise(_exp_of_log_softmax, gradient_excess=_exp_gradient_excess)


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


def softmax_curvature(p: Tensor, dim: int, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``p = softmax(z)``, with J_kj = p_k (δ_kj − p_j).

    Σ_k J_kj² h_k = p_j² [ (1 − 2p_j) h_j + Σ_k p_k² h_k ]
    Σ_k g_k ∂²p_k/∂z_j² = p_j (1 − 2p_j) (g_j − Σ_k p_k g_k)
    """
    square = p * p
    jacobian = square * (hess_out * (1 - 2 * p) + (square * hess_out).sum(dim, keepdim=True))
    return jacobian + p * (1 - 2 * p) * (grad_out - (p * grad_out).sum(dim, keepdim=True))


def _read_log_softmax(node: Any) -> tuple[Tensor, int]:
    result = node._saved_result
    return result.exp(), saved_dim(node._saved_dim, result.dim())


def _log_softmax_beside_softmax(
    state: tuple[Tensor, int], grad_out: Tensor, hess_out: Tensor
) -> Tensor:
    """`log_softmax` of logits of which a softmax is taken too, as ``p = exp(y)``."""
    p, dim = state
    return _log_softmax(p, (dim,), grad_out, hess_out)


LOG_SOFTMAX_BESIDE_SOFTMAX = Local(
    _log_softmax_beside_softmax,
    linear=False,
    elementwise=Pointwise(_log_softmax_elementwise),
    read=_read_log_softmax,
)
EXP_BESIDE_LOG_SOFTMAX = Pointwise(
    _exp_of_log_softmax, gradient_excess=lambda node, p, grad_out: p * grad_out
)
"""That softmax; its native gradient goes past the log-softmax, to the logits."""


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
