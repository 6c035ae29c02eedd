"""LSTM layers that run as one operation.

A step takes the gates ``a = W x + U h⁻ + b`` to the new states, elementwise in the hidden units:

    i, f, o = σ(a_i), σ(a_f), σ(a_o),  u = tanh(a_u)
    c = f c⁻ + i u,  h = o tanh(c)

Let g and h of a state be those from its later uses, and ``t = tanh(c)``. Then c has in all

    G = g(c) + o t' g(h),    H = h(c) + (o t')² h(h) + o t'' g(h)

and the inputs of the step, as those of one elementwise operation,

    h(a_i) = (u i')² H + u i'' G,    h(a_f) and h(a_u) likewise,    h(c⁻) = f² H
    h(a_o) = (t o')² h(h) + t o'' g(h)

The products have their own rule, ``h(W) = Σ h(a) (x∘x)ᵀ`` and ``h(h⁻) = (U∘U)ᵀ h(a)``. This is
what the operations give one by one, without the fusion, and as exact. The gates and the gradients
at them are computed again, which the fused gradient keeps to itself. Shapes: x (T, N, F),
h (T, N, H), a (T, N, 4 H).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from hesrl.curvature.registry import register_rule

Steps: TypeAlias = "tuple[Sequence[Tensor], Sequence[Tensor]]"
"""For each step of an elementwise function its slope with the square, and its second derivative."""


@register_rule("MkldnnRnnLayerBackward0", layer=True)
def lstm_layer(node: Any, grads: Any, hessians: Any) -> tuple[Tensor | None, ...]:
    """One layer and direction of an LSTM, as oneDNN runs it on the CPU.

    Its outputs are all h, the last h and the last c; its inputs x, W, U, two b, the first h and c.
    """
    x, w, u, h_first = node._saved_input, node._saved_weight0, node._saved_weight1, node._saved_hx_
    h, reverse = node._saved_result0, node._saved_reverse
    of_h, of_h_later, of_c = (
        torch.stack([torch.zeros_like(y) if t is None else t for t in of])
        for y, of in zip((h, h[0], h[0]), zip(grads, hessians, strict=True), strict=True)
    )
    if reverse:
        x, h, of_h = x.flip(0), h.flip(0), of_h.flip(1)
    h_before = torch.cat([h_first.unsqueeze(0), h[:-1]])
    biases = (node._saved_weight2, node._saved_weight3) if node._saved_has_biases else (None, None)
    gates = F.linear(x, w, biases[0]) + F.linear(h_before, u, biases[1])
    to_c, to_gates, to_c_before = _derivatives(gates, node._saved_cx_)
    to_h_before = torch.stack([u, u.square()])
    hessians_of_gates = []
    for step in range(len(h) - 1, -1, -1):
        of_h_here = of_h[:, step] + of_h_later
        of_c = of_c + _back(to_c, step, of_h_here)
        of_gates = _back(to_gates, step, torch.cat([of_c, of_c, of_c, of_h_here], -1))
        hessians_of_gates.append(of_gates[1])
        of_h_later = of_gates @ to_h_before
        of_c = to_c_before[step] * of_c
    hess_gates = torch.stack(hessians_of_gates[::-1])
    hess_x = hess_gates @ w.square()
    rows = hess_gates.flatten(0, 1)
    hess_in = (
        hess_x.flip(0) if reverse else hess_x,
        rows.t() @ x.flatten(0, 1).square(),
        rows.t() @ h_before.flatten(0, 1).square(),
        *(2 * [rows.sum(0)]),
        of_h_later[1],
        of_c[1],
    )
    sources = (source for source, _ in node.next_functions)
    return tuple(
        None if source is None else hess for source, hess in zip(sources, hess_in, strict=True)
    )


def _derivatives(gates: Tensor, c_first: Tensor) -> tuple[Steps, Steps, Sequence[Tensor]]:
    """Return what leads from h to c, from both to the gates, and from c to the c before it.

    Args:
        gates: a (T, N, 4 H).
        c_first: The first c⁻ (N, H).
    """
    a_i, a_f, a_u, a_o = gates.chunk(4, -1)
    i, f, o, u = a_i.sigmoid(), a_f.sigmoid(), a_o.sigmoid(), a_u.tanh()
    states = [c_first]
    for kept, written in zip(f, i * u, strict=True):
        states.append(kept * states[-1] + written)
    every = torch.stack(states)
    before, t = every[:-1], every[1:].tanh()
    dh_dc = o * (1 - t * t)
    slope = torch.cat([u * i * (1 - i), before * f * (1 - f), i * (1 - u * u), t * o * (1 - o)], -1)
    bend = torch.cat([1 - 2 * i, 1 - 2 * f, -2 * u, 1 - 2 * o], -1)
    return (
        _steps(dh_dc, -2 * t * dh_dc),
        _steps(slope, bend * slope),
        torch.stack([f, f * f], 1).unbind(),
    )


def _steps(slope: Tensor, second: Tensor) -> Steps:
    return torch.stack([slope, slope * slope], 1).unbind(), second.unbind()


def _back(steps: Steps, step: int, pair: Tensor) -> Tensor:
    """Return ``f' g`` and ``f'² h + f'' g`` for the g and h that a pair holds."""
    first, second = steps
    result = first[step] * pair
    result[1].addcmul_(second[step], pair[0])
    return result
