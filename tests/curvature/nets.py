"""A small network, its loss, and the curvature that one backward pass gives it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hesrl.curvature import arm


class Net(nn.Module):
    """Two hidden layers, the second with a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.tanh(self.first(x))
        return self.last(a + torch.tanh(self.second(a)))


X, TARGET = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.ones(5, 2)


def plain_net() -> Net:
    """The network of `make_net`, not armed."""
    torch.manual_seed(1)
    return Net()


def make_net() -> Net:
    net = plain_net()
    arm(net.parameters())
    return net


def loss_of(net: nn.Module) -> Tensor:
    return (net(X) - TARGET).square().mean()


def curvatures(net: nn.Module) -> list[Tensor]:
    """Copies of what every parameter has, which must be something."""
    return [p.hess_diag.clone() for p in net.parameters()]


def fresh_curvatures() -> list[Tensor]:
    """The curvature of one backward pass."""
    net = make_net()
    loss_of(net).backward()
    return curvatures(net)


def assert_equal(actual: list[Tensor], expected: list[Tensor]) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
