"""Whole networks: the parameters where HesScale is exact, and how it composes where it is not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hesrl.curvature import arm
from tests import reference
from tests.curvature import losses_as_written as written
from tests.curvature.comparison import computed, normal


def mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.Tanh()]
    return nn.Sequential(*layers[:-1]).double()


def assert_close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_one_hidden_layer_with_mse_is_exact_in_all_parameters():
    torch.manual_seed(0)
    net, x, target = mlp(3, 4, 2), normal(5, 3), normal(5, 2)

    def loss(net: Callable[..., Any]) -> Tensor:
        return (net(x) - target).square().mean()

    assert_close(computed(net, loss), reference.module_hess_diag(net, loss))


@pytest.mark.parametrize("loss", written.CASES, ids=lambda loss: loss.__name__)
def test_the_last_layer_is_exact_for_every_loss(loss):
    torch.manual_seed(1)
    first, *others = written.CASES[loss]
    net, x = mlp(3, 4, first.shape[1]), normal(len(first), 3)

    def of_net(net: Callable[..., Any]) -> Tensor:
        return loss(net(x), *others)

    exact = reference.module_hess_diag(net, of_net)
    actual = computed(net, of_net)
    for name in ("2.weight", "2.bias"):
        assert_close(actual[name], exact[name])


def test_a_chain_of_width_one_is_exact_at_any_depth():
    torch.manual_seed(2)
    net, x = mlp(1, 1, 1, 1, 1), normal(4, 1)

    def loss(net: Callable[..., Any]) -> Tensor:
        return net(x).exp().sum()

    assert_close(computed(net, loss), reference.module_hess_diag(net, loss))


def test_the_first_of_two_hidden_layers_is_not_exact():
    """HesScale drops the off-diagonal curvature between the units of the second hidden layer."""
    torch.manual_seed(3)
    net, x, target = mlp(3, 8, 8, 2), normal(5, 3), normal(5, 2)

    def loss(net: Callable[..., Any]) -> Tensor:
        return (2 * net(x) - target).square().sum()

    exact, actual = reference.module_hess_diag(net, loss), computed(net, loss)
    error = (actual["0.weight"] - exact["0.weight"]).norm() / exact["0.weight"].norm()
    assert error > 0.1
    assert_close(actual["2.weight"], exact["2.weight"])


def test_a_residual_block_adds_the_curvature_of_its_branches():
    """``y = a + tanh(W a)``: ``h(a) = h(y) + (W∘W)ᵀ h(W a)``."""
    torch.manual_seed(6)
    w_in, w, w_out = normal(4, 3), normal(4, 4), normal(2, 4)
    x, target = normal(5, 3), normal(5, 2)
    params = [p.clone().requires_grad_() for p in (w_in, w, w_out)]
    arm(params)
    a = torch.tanh(x @ params[0].T)
    z = a @ params[1].T
    y = a + torch.tanh(z)
    loss = (y @ params[2].T - target).square().sum()
    grad_a, grad_y = torch.autograd.grad(loss, (a, y), retain_graph=True)
    loss.backward()

    hess_y = torch.full((5, 2), 2.0, dtype=torch.float64) @ w_out.square()
    t = torch.tanh(z.detach())
    hess_z = (1 - t**2) ** 2 * hess_y - 2 * t * (1 - t**2) * grad_y
    hess_a = hess_y + hess_z @ w.square()
    slope = 1 - a.detach() ** 2
    hess_in = slope**2 * hess_a - 2 * a.detach() * slope * grad_a
    assert_close(params[1].hess_diag, hess_z.T @ a.detach().square())
    assert_close(params[0].hess_diag, hess_in.T @ x.square())


def test_tied_weights_add_the_curvature_of_their_uses():
    """The second layer's weights are the first's; a copy for each use tells the parts apart."""
    torch.manual_seed(7)
    weight, bias, x = normal(3, 3), normal(3), normal(5, 3)

    def curvatures(*uses: Tensor) -> list[Tensor]:
        params = [p.clone().requires_grad_() for p in uses]
        arm(params)
        hidden = torch.tanh(x @ params[0].T + bias)
        (hidden @ params[-1].T).exp().mean().backward()
        return [p.hess_diag for p in params]

    (tied,) = curvatures(weight)
    assert_close(tied, sum(curvatures(weight, weight)))
