"""One step of a fused LSTM layer, where the rule is the definition for all but x and the first h.

What the rule gives for these, and for more steps, is that of the operations the layer stands for:
see test_fused_lstm.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

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


ROWS = [Row("lstm step", "MkldnnRnnLayerBackward0", fused, draw, by_operations, rtol=1e-4)]
