"""Fused cells, and one step of a fused LSTM layer.

Of the layer the rule is the definition for all but x and the first h. For these, and for more
steps, it is that of the operations which the layer stands for: see test_fused_lstm.py.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from tests.curvature.rows.row import Row, normal

N, FEATURES, HIDDEN = 3, 2, 4
X = torch.arange(N * FEATURES, dtype=torch.float64).sin().view(1, N, FEATURES)
FIRST = torch.arange(N * HIDDEN, dtype=torch.float64).cos().view(N, HIDDEN)


def fused(w: Tensor, u: Tensor, b: Tensor, b_h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    inputs = (t.float() for t in (X, w, u, b, b_h, FIRST, c))
    lstm, sizes, options = 2, [], (True, False, False, True)
    result = torch.ops.aten.mkldnn_rnn_layer(*inputs, False, sizes, lstm, HIDDEN, 1, *options)
    return result[0].double(), result[2].double()


def by_operations(w: Tensor, u: Tensor, b: Tensor, b_h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = (F.linear(X[0], w, b) + F.linear(FIRST, u, b_h)).chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def draw() -> tuple[Tensor, ...]:
    return (
        normal(4 * HIDDEN, FEATURES),
        normal(4 * HIDDEN, HIDDEN),
        normal(4 * HIDDEN),
        normal(4 * HIDDEN),
        normal(N, HIDDEN),
    )


def lstm_cell(a: Tensor, b: Tensor, c: Tensor, *biases: Tensor) -> tuple[Tensor, Tensor]:
    i, f, u, o = sum(biases, a + b).chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * u.tanh()
    return o.sigmoid() * c.tanh(), c


def gru_cell(a: Tensor, b: Tensor, h: Tensor, *biases: Tensor) -> Tensor:
    if biases:
        a, b = a + biases[0], b + biases[1]
    (a_r, a_z, a_n), (b_r, b_z, b_n) = a.chunk(3, 1), b.chunk(3, 1)
    z = torch.sigmoid(a_z + b_z)
    return (1 - z) * torch.tanh(a_n + torch.sigmoid(a_r + b_r) * b_n) + z * h


KERNELS = torch.library.Library("aten", "IMPL")
"""Stand-ins that let a CPU run, and so record, the operations of a GPU."""


def _biases(biases: tuple[Tensor | None, ...]) -> list[Tensor]:
    return [bias for bias in biases if bias is not None]


def _lstm_cell(a: Tensor, b: Tensor, c: Tensor, *biases: Tensor | None) -> tuple[Tensor, ...]:
    gates = sum(_biases(biases), a + b)
    return *lstm_cell(gates, torch.zeros_like(gates), c), gates


def _lstm_cell_backward(
    grad_h: Tensor | None, grad_c: Tensor | None, c: Tensor, _: Tensor, gates: Tensor, bias: bool
) -> tuple[Tensor, ...]:
    grads = [torch.zeros_like(c) if grad is None else grad for grad in (grad_h, grad_c)]
    _, pull = torch.func.vjp(lambda a, c: lstm_cell(a, torch.zeros_like(a), c), gates, c)
    grad_gates, grad_before = pull(tuple(grads))
    return grad_gates, grad_before, grad_gates.sum(0)


def _gru_cell(a: Tensor, b: Tensor, h: Tensor, *biases: Tensor | None) -> tuple[Tensor, Tensor]:
    added = _biases(biases) or [torch.zeros_like(a[0])] * 2
    return gru_cell(a, b, h, *added), torch.cat([a + added[0], b + added[1], h], 1)


def _gru_cell_backward(grad: Tensor, workspace: Tensor, bias: bool) -> tuple[Tensor, ...]:
    gates = 3 * grad.shape[1]
    _, pull = torch.func.vjp(gru_cell, *workspace.split([gates, gates, grad.shape[1]], 1))
    grad_a, grad_b, grad_h = pull(grad)
    return grad_a, grad_b, grad_h, grad_a.sum(0), grad_b.sum(0)


KERNELS.impl("_thnn_fused_lstm_cell", _lstm_cell, "CPU")
KERNELS.impl("_thnn_fused_lstm_cell_backward_impl", _lstm_cell_backward, "CPU")
KERNELS.impl("_thnn_fused_gru_cell", _gru_cell, "CPU")
KERNELS.impl("_thnn_fused_gru_cell_backward", _gru_cell_backward, "CPU")


def of_gates(count: int, *, biased: bool) -> Callable[[], tuple[Tensor, ...]]:
    gates = count * HIDDEN
    return lambda: (
        normal(N, gates),
        normal(N, gates),
        normal(N, HIDDEN),
        *(normal(gates) for _ in range(2 * biased)),
    )


PACKED = [0, 0, 0, 1, 1, 2, 3], [1, 0, 2, 1, 0, 1, 1]
"""Steps and sequences in the order in which sequences of 2, 4 and 1 steps are packed."""

aten = torch.ops.aten
LSTM, GRU = "ThnnFusedLstmCellBackward0", "ThnnFusedGruCellBackward0"
ROWS = [
    *(
        Row(
            f"pack_padded_sequence batch_first={first}",
            "PackPaddedSequenceBackward0",
            lambda x, first=first: pack_padded_sequence(x, [2, 4, 1], first, False).data,
            lambda first=first: (normal(3, 4, 2) if first else normal(4, 3, 2),),
            lambda x, first=first: x[PACKED[::-1]] if first else x[PACKED],
        )
        for first in (False, True)
    ),
    Row("lstm step", "MkldnnRnnLayerBackward0", fused, draw, by_operations, rtol=1e-4),
    *(
        row
        for biased in (False, True)
        for row in (
            Row(
                f"lstm cell biased={biased}",
                LSTM,
                lambda *inputs: aten._thnn_fused_lstm_cell(*inputs)[:2],
                of_gates(4, biased=biased),
                lstm_cell,
            ),
            Row(
                f"gru cell biased={biased}",
                GRU,
                lambda *inputs: aten._thnn_fused_gru_cell(*inputs)[0],
                of_gates(3, biased=biased),
                gru_cell,
            ),
        )
    ),
    Row(
        "lstm cell of c",
        LSTM,
        lambda *inputs: aten._thnn_fused_lstm_cell(*inputs)[1],
        of_gates(4, biased=True),
        lambda *inputs: lstm_cell(*inputs)[1],
    ),
]
