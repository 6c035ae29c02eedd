"""Hessians with respect to the outputs of linear layers, against `torch.func`."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import jacrev

from hesrl.curvature import hess_diag
from hesrl.curvature.estimators.preactivation import preactivation_hessians
from tests.curvature.comparison import normal

TARGET = torch.tensor([0, 2, 1, 1])


@pytest.fixture
def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)
    ).double()


def test_they_are_the_blocks_of_the_full_hessian(net):
    x = normal(4, 3)
    found = preactivation_hessians(net, lambda: F.cross_entropy(net(x), TARGET))
    assert list(found) == ["0", "2", "4"]
    for name, hessians in found.items():
        layers = int(name) + 1

        def rest(z: Tensor, layers: int = layers) -> Tensor:
            return F.cross_entropy(net[layers:](z), TARGET)

        full = jacrev(jacrev(rest))(net[:layers](x).detach())
        blocks = torch.stack([full[n, :, n] for n in range(4)])
        torch.testing.assert_close(hessians, blocks)


def test_they_give_the_exact_diagonal_of_the_weights(net):
    x = normal(4, 3)
    found = preactivation_hessians(net, lambda: F.cross_entropy(net(x), TARGET))
    exact = hess_diag(lambda: F.cross_entropy(net(x), TARGET), [net[2].weight], "hessian")
    diagonal = torch.diagonal(found["2"], dim1=1, dim2=2)
    torch.testing.assert_close(diagonal.T @ net[:2](x).square(), exact[0])


def test_a_layer_that_runs_twice_is_refused(net):
    with pytest.raises(ValueError, match="the layer '0' ran twice"):
        preactivation_hessians(net, lambda: (net(normal(4, 3)) + net(normal(4, 3))).sum())
