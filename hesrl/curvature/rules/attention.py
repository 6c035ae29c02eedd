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
    groups = k.shape[1]
    rows_of_q = _by_group(q, groups)
    scale = 1 / math.sqrt(q.shape[-1]) if node._saved_scale is None else node._saved_scale
    scores = (scale * rows_of_q @ k.mT).view(*q.shape[:-1], k.shape[-2])
    p = _by_group(_softmax(node, scores), groups)
    grad_out, hess_out = _by_group(grad_out, groups), _by_group(hess_out, groups)
    hess_q = hess_k = None
    if to_q or to_k:
        hess_p, grad_p = hess_out @ v.square().mT, grad_out @ v.mT
        hess_scores = _of_scores(p, grad_p, hess_p)
        hess_q = (hess_scores @ (scale * k).square()).view(q.shape) if to_q else None
        hess_k = hess_scores.mT @ (scale * rows_of_q).square() if to_k else None
    return hess_q, hess_k, p.mul_(p).mT @ hess_out if to_v else None


def _of_scores(p: Tensor, grad_p: Tensor, hess_p: Tensor) -> Tensor:
    """The rule of softmax in place of h(p): ``p [ (1 − 2p) (p h + g − Σ p g) + p Σ p² h ]``."""
    hess = hess_p.mul_(p)
    product = hess * p
    hess_along = product.sum(-1, keepdim=True)
    grad_along = torch.mul(p, grad_p, out=product).sum(-1, keepdim=True)
    hess.add_(grad_p).sub_(grad_along)
    return hess.mul_(torch.mul(p, -2, out=product).add_(1)).addcmul_(p, hess_along).mul_(p)


def _by_group(x: Tensor, groups: int) -> Tensor:
    """Return (batch, heads, L, …) as (batch, groups, heads/groups · L, …).

    The heads that share a key and a value are further rows of the same matrix products.
    """
    return x if x.shape[1] == groups else x.reshape(x.shape[0], groups, -1, x.shape[-1])


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
