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

from hesrl.curvature.registry import register_rule
from hesrl.curvature.rules.softmax import softmax_curvature

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
    p = _by_group(torch._safe_softmax(_masked(node, scores), -1), groups)
    grad_out, hess_out = _by_group(grad_out, groups), _by_group(hess_out, groups)
    hess_q = hess_k = None
    if to_q or to_k:
        hess_p, grad_p = hess_out @ v.square().mT, grad_out @ v.mT
        hess_scores = scale**2 * softmax_curvature(p, -1, grad_p, hess_p)
        hess_q = (hess_scores @ k.square()).view(q.shape) if to_q else None
        hess_k = hess_scores.mT @ rows_of_q.square() if to_k else None
    return hess_q, hess_k, p.square().mT @ hess_out if to_v else None


def _by_group(x: Tensor, groups: int) -> Tensor:
    """Return (batch, heads, L, …) as (batch, groups, heads/groups · L, …).

    The heads that share a key and a value are further rows of the same matrix products.
    """
    return x if x.shape[1] == groups else x.reshape(x.shape[0], groups, -1, x.shape[-1])


def _masked(node: Any, scores: Tensor) -> Tensor:
    """Return the scores (batch, heads, L, S) with the mask added; −∞ is never attended to."""
    mask = node._saved_attn_mask
    if mask is not None:
        scores = scores + mask
    if node._saved_is_causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(future, -math.inf)
    return scores
