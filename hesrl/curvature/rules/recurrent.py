"""LSTM and GRU layers and cells that run as one operation.

A step of an LSTM takes the gates ``a = W x + U h⁻ + b`` to the new states, unit by unit:

    i, f, o = σ(a_i), σ(a_f), σ(a_o),  u = tanh(a_u)
    c = f c⁻ + i u,  h = o tanh(c)

Let g and h of a state count its later uses, and ``t = tanh(c)``. Then c has in all

    G = g(c) + o t' g(h),    H = h(c) + (o t')² h(h) + o t'' g(h)

and the inputs of the step have, as inputs of one elementwise operation,

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

from hesrl.curvature.rule_registry import register_adjoint, register_rule

Outputs: TypeAlias = "tuple[Tensor | None, ...]"
Steps: TypeAlias = "tuple[Sequence[Tensor], Sequence[Tensor]]"
"""For each step of an elementwise function its slope with the square, and its second derivative."""


# The steps of all sequences, without those that only fill the shorter ones up.
register_adjoint("PackPaddedSequenceBackward0")


@register_rule("MkldnnRnnLayerBackward0", layer=True)
def lstm_layer(node: Any, grads: Outputs, hessians: Outputs) -> Outputs:
    """One layer and direction of an LSTM, as oneDNN runs it on the CPU.

    Its outputs are all h, the last h and the last c; its inputs x, W, U, two b, the first h and c.
    """
    x, w, u, h_first = node._saved_input, node._saved_weight0, node._saved_weight1, node._saved_hx_
    h, reverse = node._saved_result0, node._saved_reverse
    of_h, of_h_later, of_c = _pairs(grads, hessians, (h, h[0], h[0]))
    if reverse:
        x, h, of_h = x.flip(0), h.flip(0), of_h.flip(1)
    h_before = torch.cat([h_first.unsqueeze(0), h[:-1]])
    biases = (node._saved_weight2, node._saved_weight3) if node._saved_has_biases else (None, None)
    gates = F.linear(x, w, biases[0]) + F.linear(h_before, u, biases[1])
    cell, to_h_before = _LSTMCell(gates, node._saved_cx_), torch.stack([u, u.square()])
    hessians_of_gates = []
    for step in range(len(h) - 1, -1, -1):
        of_gates, of_c = cell.back(step, of_h[:, step] + of_h_later, of_c)
        hessians_of_gates.append(of_gates[1])
        of_h_later = of_gates @ to_h_before
    hess_gates = torch.stack(hessians_of_gates[::-1])
    hess_x = hess_gates @ w.square()
    rows = hess_gates.flatten(0, 1)
    return _wanted(
        node,
        hess_x.flip(0) if reverse else hess_x,
        rows.t() @ x.flatten(0, 1).square(),
        rows.t() @ h_before.flatten(0, 1).square(),
        *(2 * [rows.sum(0)]),
        of_h_later[1],
        of_c[1],
    )


@register_rule("ThnnFusedLstmCellBackward0")
def lstm_cell(node: Any, grads: Outputs, hessians: Outputs) -> Outputs:
    """One step of an LSTM from the gates and c⁻ to h and c, as a GPU runs it without cuDNN."""
    c_before = node._saved_cx
    of_h, of_c = _pairs(grads, hessians, (c_before, c_before))
    of_input, of_state = _gates(node)
    cell = _LSTMCell((of_input + of_state).unsqueeze(0), c_before)
    of_gates, of_c = cell.back(0, of_h, of_c)
    of_bias = 2 * [of_gates[1].sum(0)]
    return _wanted(node, of_gates[1], of_gates[1], of_c[1], *of_bias)


@register_rule("ThnnFusedGruCellBackward0")
def gru_cell(node: Any, grad_out: Tensor, hess_out: Tensor) -> Outputs:
    """One step of a GRU from the gates to h, as a GPU runs it without cuDNN.

    h = (1 − z) n + z h⁻,    n = tanh(a_n + r b_n),    r, z = σ(a_r + b_r), σ(a_z + b_z)

    of the gates a by the input and b by the state:

    h(a_n) = f'² h + f'' g,    f' = (1 − z) (1 − n²),    f'' = −2 n f'
    h(b_n) = r² h(a_n),    h(a_r) = h(b_r) = (b_n r')² h(a_n) + f' b_n r'' g
    h(a_z) = h(b_z) = ((h⁻ − n) z')² h + (h⁻ − n) z'' g,    h(h⁻) = z² h
    """
    h_before = node._saved_hx
    of_input, of_state = _gates(node)
    (a_r, a_z, a_n), (b_r, b_z, b_n) = of_input.chunk(3, -1), of_state.chunk(3, -1)
    r, z = torch.sigmoid(a_r + b_r), torch.sigmoid(a_z + b_z)
    n = torch.tanh(a_n + r * b_n)
    dn, dr, dz = (1 - z) * (1 - n * n), r * (1 - r), (h_before - n) * z * (1 - z)
    d2n = -2 * n * dn
    hess_n = dn * dn * hess_out + d2n * grad_out
    hess_r = (b_n * dr).square() * hess_n + dn * b_n * dr * (1 - 2 * r) * grad_out
    hess_z = dz * dz * hess_out + dz * (1 - 2 * z) * grad_out
    hess_a = torch.cat([hess_r, hess_z, hess_n], -1)
    hess_b = torch.cat([hess_r, hess_z, r * r * hess_n], -1)
    return _wanted(node, hess_a, hess_b, z * z * hess_out, hess_a.sum(0), hess_b.sum(0))


def _pairs(grads: Outputs, hessians: Outputs, outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return g and h of each output, stacked; zeros for None."""
    return [
        torch.stack([torch.zeros_like(y) if t is None else t for t in of])
        for y, *of in zip(outputs, grads, hessians, strict=True)
    ]


def _gates(node: Any) -> tuple[Tensor, Tensor]:
    """Return what the input and what the state give to the gates, with their biases."""
    of_input, of_state = node._saved_input_gates, node._saved_hidden_gates
    bias = node._saved_input_bias
    if bias is None:
        return of_input, of_state
    return of_input + bias, of_state + node._saved_hidden_bias


def _wanted(node: Any, *hessians: Tensor) -> Outputs:
    """Return the curvature of the inputs, None for those that take no gradient."""
    sources = (source for source, _ in node.next_functions)
    return tuple(
        None if source is None else hess for source, hess in zip(sources, hessians, strict=True)
    )


class _LSTMCell:
    """The derivatives of the elementwise part of all steps.

    Args:
        gates: a (T, N, 4 H).
        c_first: The first c⁻ (N, H).
    """

    def __init__(self, gates: Tensor, c_first: Tensor) -> None:
        a_i, a_f, a_u, a_o = gates.chunk(4, -1)
        i, f, o, u = a_i.sigmoid(), a_f.sigmoid(), a_o.sigmoid(), a_u.tanh()
        states = [c_first]
        for kept, written in zip(f, i * u, strict=True):
            states.append(kept * states[-1] + written)
        every = torch.stack(states)
        before, t = every[:-1], every[1:].tanh()
        dh_dc = o * (1 - t * t)
        slopes = [u * i * (1 - i), before * f * (1 - f), i * (1 - u * u), t * o * (1 - o)]
        slope = torch.cat(slopes, -1)
        bend = torch.cat([1 - 2 * i, 1 - 2 * f, -2 * u, 1 - 2 * o], -1)
        self._to_c = _steps(dh_dc, -2 * t * dh_dc)
        self._to_gates = _steps(slope, bend * slope)
        self._to_c_before = torch.stack([f, f * f], 1).unbind()

    def back(self, step: int, of_h: Tensor, of_c: Tensor) -> tuple[Tensor, Tensor]:
        """Return g and h of the gates and of c⁻, each stacked, given g and h of h and c."""
        of_c = of_c + _back(self._to_c, step, of_h)
        of_gates = _back(self._to_gates, step, torch.cat([of_c, of_c, of_c, of_h], -1))
        return of_gates, self._to_c_before[step] * of_c


def _steps(slope: Tensor, second: Tensor) -> Steps:
    return torch.stack([slope, slope * slope], 1).unbind(), second.unbind()


def _back(steps: Steps, step: int, pair: Tensor) -> Tensor:
    """Return ``f' g`` and ``f'² h + f'' g`` for the g and h that a pair holds."""
    first, second = steps
    result = first[step] * pair
    result[1].addcmul_(second[step], pair[0])
    return result
