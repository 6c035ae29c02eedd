"""Scaled dot-product attention: the product, softmax and product that it stands for.

    s = c q kᵀ + mask,    p = softmax(s),    z = p v

Written as these operations, each has its own rule. A fused kernel runs them as one, of which the
definition has no closed form of the same cost, so its rule recomputes p and applies the three
rules in turn:

    g(p) = g(z) vᵀ,    h(p) = h(z) (v∘v)ᵀ,    h(v) = (p∘p)ᵀ h(z)
    h(q) = c² h(s) (k∘k),    h(k) = c² h(s)ᵀ (q∘q),    h(s) by the rule of softmax

The estimate is the same whichever kernel PyTorch picks. It needs the memory of p, which the fused
gradient does without. Index legend: q (batch, heads, L, E), k (batch, groups, S, E) and
v (batch, groups, S, E), with as many groups as heads or a divisor of that (grouped queries).
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import register_rule

Hessians: TypeAlias = "tuple[Tensor | None, ...]"


@register_rule("ScaledDotProductFlashAttentionForCpuBackward0", layer=True)
def fused_attention(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """The fused kernel of the CPU, which PyTorch picks without dropout and learned mask."""
    q, k, v = node._saved_query, node._saved_key, node._saved_value
    to_q, to_k, to_v = (source is not None for source, _ in node.next_functions)
    # The heads that share a key and a value are further rows of the same matrix products.
    stacks, shape = q.shape[0] * k.shape[1], (*q.shape[:-1], k.shape[-2])
    rows, keys, values, grad_out, hess_out = (
        x.reshape(stacks, -1, x.shape[-1]) for x in (q, k, v, grad_out, hess_out)
    )
    scale = 1 / math.sqrt(q.shape[-1]) if node._saved_scale is None else node._saved_scale
    p = _softmax(node, _scaled(rows, keys.mT, scale).view(shape)).view(stacks, -1, shape[-1])
    p_square = p * p
    hess_q = hess_k = hess_v = None
    if to_q or to_k:
        hess = _of_scores(p, p_square, grad_out.bmm(values.mT), hess_out.bmm(values.square().mT))
        hess_q = _scaled(hess, keys.square(), scale**2).view(q.shape) if to_q else None
        hess_k = _scaled(hess.mT, rows.square(), scale**2).view(k.shape) if to_k else None
    if to_v:
        hess_v = p_square.mT.bmm(hess_out).view(v.shape)
    return hess_q, hess_k, hess_v


def _scaled(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Return ``c a b`` for stacks of matrices."""
    return torch.baddbmm(a.new_empty(()), a, b, beta=0, alpha=scale)


def _of_scores(p: Tensor, p_square: Tensor, grad_p: Tensor, hess_p: Tensor) -> Tensor:
    """The rule of softmax in place of h(p): ``e + p (p Σ p² h − 2e)``, ``e = p² h + g(s)``.

    ``g(s) = p (g − Σ p g)`` is the native gradient.
    """
    hess = hess_p.mul_(p_square)
    along = hess.sum(-1, keepdim=True)
    hess.add_(torch.ops.aten._softmax_backward_data(grad_p, p, -1, p.dtype))
    return hess.addcmul_(p, torch.mul(p, along, out=grad_p).sub_(hess, alpha=2))


def _softmax(node: Any, scores: Tensor) -> Tensor:
    """Return p of scores (batch, heads, L, S), with the mask added; −∞ is never attended to."""
    mask = node._saved_attn_mask
    if node._saved_is_causal:
        future = scores.new_full(scores.shape[-2:], -math.inf).triu(1)
        scores.add_(future)
    if mask is None:
        return scores.softmax(-1)
    # Zero for a row of −∞, a query without any key.
    return torch._safe_softmax(scores + mask, -1)
