"""Recurrent networks, unrolled, follow HesScale's recursion over their products and gates.

The elementwise part of a cell, from the products to the new state, is one operation.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.curvature.comparison import Params, assert_recursion, computed, normal
from tests.curvature.recursion import Recursion

N, STEPS, FEATURES, HIDDEN, K = 3, 4, 2, 3, 2


def rnn(of_x: Tensor, of_h: Tensor, h: Tensor) -> tuple[Tensor]:
    return (torch.tanh(of_x + of_h),)


def gru(of_x: Tensor, of_h: Tensor, h: Tensor) -> tuple[Tensor]:
    """``h' = (1 − z) n + z h``."""
    (r_x, z_x, n_x), (r_h, z_h, n_h) = of_x.chunk(3, 1), of_h.chunk(3, 1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    return ((1 - z) * n + z * h,)


def lstm(of_x: Tensor, of_h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """``c' = f c + i g``, ``h' = o tanh(c')``."""
    i, f, g, o = (of_x + of_h).chunk(4, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


CELLS = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}
MODULES = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
GATES = {"rnn": rnn, "gru": gru, "lstm": lstm}


class Unrolled(nn.Module):
    """A cell over the time steps of (STEPS, N, FEATURES), and a linear layer on every state."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.cell = CELLS[name](FEATURES, HIDDEN)
        self.head = nn.Linear(HIDDEN, K)

    def forward(self, x: Tensor) -> Tensor:
        state, states = None, []
        for x_t in x:
            state = self.cell(x_t, state)
            states.append(state[0] if isinstance(state, tuple) else state)
        return self.head(torch.stack(states))


class Whole(nn.Module):
    """The same by PyTorch's module, which can have several layers."""

    def __init__(self, name: str, layers: int = 1) -> None:
        super().__init__()
        self.layers = MODULES[name](FEATURES, HIDDEN, layers)
        self.head = nn.Linear(HIDDEN, K)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x)[0])


def unroll(
    step: Recursion,
    gates: Callable[..., tuple[Tensor, ...]],
    xs: list[Tensor],
    params: list[Tensor],
) -> list[Tensor]:
    """The states of a cell with parameters W_x, W_h, b_x and b_h."""
    w_x, w_h, b_x, b_h = params
    h, *c = [torch.zeros(N, HIDDEN, dtype=torch.float64) for _ in range(1 + (gates is lstm))]
    states = []
    for x in xs:
        of_x, of_h = step(F.linear, x, w_x, b_x), step(F.linear, h, w_h, b_h)
        h, *c = step(gates, of_x, of_h, *(c or [h]))
        states.append(h)
    return states


def stack(*states: Tensor) -> Tensor:
    return torch.stack(states)


def draw(net: nn.Module) -> tuple[nn.Module, Tensor, Callable[[Tensor], Tensor]]:
    """The net in float64, an input of it, and a loss of its outputs."""
    target = normal(STEPS, N, K)
    return net.double(), normal(STEPS, N, FEATURES), lambda y: F.mse_loss(y.tanh(), target)


@pytest.mark.parametrize("name", CELLS)
def test_unrolled_cell(name):
    torch.manual_seed(0)
    net, x, loss = draw(Unrolled(name))

    def operations(step: Recursion, p: Params) -> Tensor:
        params = [p[f"cell.{which}"] for which in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        states = step(stack, *unroll(step, GATES[name], list(x), params))
        return step(loss, step(F.linear, states, p["head.weight"], p["head.bias"]))

    actual = assert_recursion(net, lambda net: loss(net(x)), operations)
    assert min(hess.min() for hess in actual.values()) < 0


@pytest.mark.parametrize("name", MODULES)
def test_two_layers_of_the_whole_module(name):
    """In float64 all three run as their operations."""
    torch.manual_seed(1)
    net, x, loss = draw(Whole(name, layers=2))

    def operations(step: Recursion, p: Params) -> Tensor:
        states = list(x)
        for layer in range(2):
            which = (
                f"{kind}_l{layer}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            states = unroll(step, GATES[name], states, [p[f"layers.{w}"] for w in which])
        joined = step(stack, *states)
        return step(loss, step(F.linear, joined, p["head.weight"], p["head.bias"]))

    assert_recursion(net, lambda net: loss(net(x)), operations)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # `flags` sets that as well
@pytest.mark.parametrize("fused", [True, False])
def test_lstm_in_float32_with_and_without_mkldnn(fused):
    torch.manual_seed(2)
    net, x, loss = draw(Whole("lstm"))
    expected = computed(net, lambda net: loss(net(x)))
    net.zero_grad()
    net.float()
    with torch.backends.mkldnn.flags(enabled=fused):
        actual = computed(net, lambda net: loss(net(x.float()).double()))
    for name, hess in actual.items():
        torch.testing.assert_close(hess, expected[name].float(), rtol=1e-3, atol=1e-5)


class Scan(nn.Module):
    """``h_t = a h_{t−1} + W x_t`` with a diagonal a, and a linear layer on every state."""

    def __init__(self) -> None:
        super().__init__()
        self.decay = nn.Parameter(normal(HIDDEN))
        self.inner, self.head = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, K)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.stack(scan(self.decay, *self.inner(x))))


def scan(decay: Tensor, *xs: Tensor) -> list[Tensor]:
    a, states = torch.sigmoid(decay), [xs[0]]
    for x in xs[1:]:
        states.append(a * states[-1] + x)
    return states


def test_a_diagonal_recurrence_is_one_operation():
    """The paths of a fork at every step, where the state also leaves for the linear layer."""
    torch.manual_seed(3)
    net, x, loss = draw(Scan())

    def operations(step: Recursion, p: Params) -> Tensor:
        xs = step(lambda y: y.unbind(), step(F.linear, x, p["inner.weight"], p["inner.bias"]))
        states = step(stack, *step(scan, p["decay"], *xs))
        return step(loss, step(F.linear, states, p["head.weight"], p["head.bias"]))

    assert_recursion(net, lambda net: loss(net(x)), operations)
