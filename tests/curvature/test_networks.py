"""Whole networks: the parameters where HesScale is exact, and the recursion where it is not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hesrl.curvature import arm
from tests import reference
from tests.curvature import losses_as_written as written


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.Tanh()]
    return nn.Sequential(*layers[:-1]).double()


def computed(module: nn.Module, loss: Callable[[Callable[..., Any]], Tensor]) -> dict[str, Tensor]:
    """The curvature of every parameter of a module, by hesrl."""
    arm(module.parameters())
    loss(module).backward()
    return {name: p.hess_diag for name, p in module.named_parameters()}


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


Layer = tuple[Callable[..., Tensor], Sequence[Tensor]]


def recursion(layers: Sequence[Layer], x: Tensor, loss: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """HesScale of the parameters, layer by layer as the paper writes it.

    Args:
        layers: The function of each layer, of its input and its parameters, and those.
        x: Input of the first layer.
        loss: Scalar function of the last layer's output.

    Returns:
        The curvature of all parameters, first layer first.
    """
    values = [x.clone().requires_grad_()]
    for function, params in layers:
        values.append(function(values[-1], *params))
    grads = torch.autograd.grad(loss(values[-1]), values)
    (hess,) = reference.hess_diag(loss, values[-1].detach())
    found: list[Tensor] = []
    for (function, params), value, grad in reversed(
        list(zip(layers, values[:-1], grads[1:], strict=True))
    ):
        inputs = [value.detach(), *params]
        hess, *of_params = (
            reference.hesscale(function, inputs, n, grad.flatten(), hess.flatten())
            for n in range(len(inputs))
        )
        found = [*of_params, *found]
    return found


def test_an_mlp_follows_the_recursion():
    torch.manual_seed(4)
    net, x, target = mlp(3, 4, 5, 4, 2), normal(5, 3), normal(5, 2)
    layers: list[Layer] = []
    for module in net:
        params = [p.detach().clone() for p in module.parameters()]
        layers.append((torch.tanh, []) if not params else (nn.functional.linear, params))

    def loss(y: Tensor) -> Tensor:
        return nn.functional.huber_loss(y, target)

    actual = computed(net, lambda net: loss(net(x)))
    assert_close(list(actual.values()), recursion(layers, x, loss))


def test_a_softmax_policy_follows_the_recursion():
    torch.manual_seed(5)
    net, x = mlp(3, 4, 4, written.K), normal(written.N, 3)
    params = [p.detach().clone() for p in net.parameters()]
    layers: list[Layer] = []
    for weight, bias in zip(params[::2], params[1::2], strict=True):
        layers += [(nn.functional.linear, [weight, bias]), (torch.tanh, [])]
    loss = written.ppo_cleanrl_discrete
    assert_close(
        list(computed(net, lambda net: loss(net(x))).values()), recursion(layers[:-1], x, loss)
    )


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
