"""Networks of dense layers follow HesScale's recursion over their operations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.curvature import losses_as_written as written
from tests.curvature.comparison import Params, assert_recursion, normal
from tests.curvature.recursion import Recursion


class Residual(nn.Module):
    """A policy and a value of residual blocks, pre-activation or post-activation."""

    def __init__(self, pre: bool) -> None:
        super().__init__()
        self.pre = pre
        self.stem = nn.Linear(3, 4)
        self.blocks = nn.ModuleList(
            nn.ModuleList([nn.Linear(4, 5), nn.Linear(5, 4)]) for _ in "abc"
        )
        self.mean, self.value = nn.Linear(4, written.K), nn.Linear(4, 1)
        self.log_std = nn.Parameter(torch.zeros(1, written.K))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(x)
        for first, second in self.blocks:
            if self.pre:
                x = x + second(torch.tanh(first(torch.tanh(x))))
            else:
                x = torch.tanh(x + second(torch.tanh(first(x))))
        return self.mean(x), self.log_std, self.value(x)


@pytest.mark.parametrize("pre", [True, False])
def test_residual_actor_critic(pre):
    """PPO's loss of a Gaussian policy, with entropy and a clipped value loss."""
    torch.manual_seed(0)
    net, x = Residual(pre).double(), normal(written.N, 3)

    def operations(step: Recursion, p: Params) -> Tensor:
        def dense(y: Tensor, name: str) -> Tensor:
            return step(F.linear, y, p[f"{name}.weight"], p[f"{name}.bias"])

        y = dense(x, "stem")
        for n in range(3):
            inner = dense(step(torch.tanh, y) if pre else y, f"blocks.{n}.0")
            z = dense(step(torch.tanh, inner), f"blocks.{n}.1")
            y = step(torch.add if pre else lambda a, b: torch.tanh(a + b), y, z)
        return step(written.ppo_cleanrl, dense(y, "mean"), p["log_std"], dense(y, "value"))

    actual = assert_recursion(net, lambda net: written.ppo_cleanrl(*net(x)), operations)
    assert min(hess.min() for hess in actual.values()) < 0


class Autoencoder(nn.Module):
    """The decoder's weights are the encoder's, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([normal(4, 3), normal(2, 4)])
        self.biases = nn.ParameterList([normal(4), normal(2), normal(4), normal(3)])

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.weights
        code = torch.tanh(F.linear(x, first, self.biases[0]))
        code = torch.tanh(F.linear(code, second, self.biases[1]))
        code = torch.tanh(F.linear(code, second.T, self.biases[2]))
        return F.linear(code, first.T, self.biases[3])


def test_an_autoencoder_with_tied_weights():
    torch.manual_seed(1)
    net, x = Autoencoder(), normal(4, 3)

    def loss(y: Tensor) -> Tensor:
        return F.mse_loss(y, x)

    def transposed(y: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return y @ weight + bias

    def operations(step: Recursion, p: Params) -> Tensor:
        y = x
        layers = [(F.linear, 0), (F.linear, 1), (transposed, 1), (transposed, 0)]
        for n, (function, weight) in enumerate(layers):
            y = step(torch.tanh, y) if n else y
            y = step(function, y, p[f"weights.{weight}"], p[f"biases.{n}"])
        return step(loss, y)

    assert_recursion(net, lambda net: loss(net(x)), operations)


def test_an_embedding_tied_to_the_logits():
    torch.manual_seed(2)
    words, following = torch.tensor([4, 1, 4, 0]), torch.tensor([1, 4, 0, 2])
    net = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 3)).double()

    def loss(y: Tensor) -> Tensor:
        return F.cross_entropy(y, following)

    def model(net: nn.Sequential) -> Tensor:
        embedding, hidden = net
        return loss(torch.tanh(hidden(embedding(words))) @ embedding.weight.T)

    def operations(step: Recursion, p: Params) -> Tensor:
        y = step(lambda table: table[words], p["0.weight"])
        y = step(torch.tanh, step(F.linear, y, p["1.weight"], p["1.bias"]))
        return step(loss, step(F.linear, y, p["0.weight"]))

    assert_recursion(net, model, operations)


@pytest.mark.parametrize("joined", [True, False], ids=["one batch", "two calls"])
def test_a_siamese_pair(joined):
    """Contrastive loss: like pairs attract, unlike ones repel up to a margin."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(3, 5), nn.Softplus(), nn.Linear(5, 3)).double()
    x, alike = normal(2, 4, 3), torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64)

    def loss(a: Tensor, b: Tensor) -> Tensor:
        distance = F.pairwise_distance(a, b)
        apart = F.relu(2 - distance)
        return (alike * distance**2 + (1 - alike) * apart**2).mean()

    def operations(step: Recursion, p: Params) -> Tensor:
        def encode(y: Tensor) -> Tensor:
            y = step(F.softplus, step(F.linear, y, p["0.weight"], p["0.bias"]))
            return step(F.linear, y, p["2.weight"], p["2.bias"])

        return step(loss, encode(x[0]), encode(x[1]))

    def model(net: nn.Module) -> Tensor:
        return loss(*net(x)) if joined else loss(net(x[0]), net(x[1]))

    actual = assert_recursion(net, model, operations)
    assert min(hess.min() for hess in actual.values()) < 0


class Gated(nn.Module):
    """A Swish written by hand, of which both the result and the gate go on to layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 3)
        self.of_result, self.of_gate = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        result, gate = swish(self.first(x))
        result, _ = swish(self.of_result(result) * self.of_gate(gate))
        return self.last(result)


def swish(x: Tensor) -> tuple[Tensor, Tensor]:
    gate = torch.sigmoid(x)
    return x * gate, gate


def test_an_activation_that_forks_is_one_operation():
    torch.manual_seed(4)
    net, x, target = Gated().double(), normal(4, 3), normal(4, 3)

    def loss(y: Tensor) -> Tensor:
        return F.smooth_l1_loss(y, target)

    def operations(step: Recursion, p: Params) -> Tensor:
        def dense(y: Tensor, name: str) -> Tensor:
            return step(F.linear, y, p[f"{name}.weight"], p[f"{name}.bias"])

        result, gate = step(swish, dense(x, "first"))
        result, gate = dense(result, "of_result"), dense(gate, "of_gate")
        result, _ = step(lambda a, b: swish(a * b), result, gate)
        return step(loss, dense(result, "last"))

    actual = assert_recursion(net, lambda net: loss(net(x)), operations)
    assert min(hess.min() for hess in actual.values()) < 0
