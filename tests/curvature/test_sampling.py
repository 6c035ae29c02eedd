"""The random methods in ``loss.backward()``: what they leave, beside the other methods."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hesrl.curvature import arm, disarm, hess_diag

SAMPLED = pytest.mark.parametrize("method", ["hutchinson", "ggn_mc"])
X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TARGET = torch.tensor([0, 1, 1, 0, 2, 2])


def make_net(method: str | None) -> nn.Sequential:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    if method is not None:
        arm(net.parameters(), method)
    return net


def loss_of(net: nn.Module) -> Tensor:
    return F.cross_entropy(net(X), TARGET)


@SAMPLED
def test_the_mean_over_backward_passes_is_the_exact_diagonal(method):
    net = make_net(method)
    exact = hess_diag(
        loss_of(net), net.parameters(), "hessian" if method == "hutchinson" else "ggn"
    )
    for _ in range(2000):
        loss_of(net).backward()
    for p, expected in zip(net.parameters(), exact, strict=True):
        assert ((p.hess_diag / 2000 - expected).norm() < 0.15 * expected.norm()).item()


@SAMPLED
def test_the_gradient_is_the_native_one_and_not_recorded(method):
    net, plain = make_net(method), make_net(None)
    for _ in range(2):
        loss_of(net).backward()
        loss_of(plain).backward()
    for p, q in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)
        assert not p.grad.requires_grad and not p.hess_diag.requires_grad


@SAMPLED
def test_unarmed_parameters_get_a_plain_gradient(method):
    net = make_net(method)
    disarm([net[2].weight])
    loss_of(net).backward()
    assert not net[2].weight.grad.requires_grad
    assert [hasattr(p, "hess_diag") for p in net.parameters()] == [True, True, False, True]


@SAMPLED
def test_a_graph_is_kept_on_demand_only(method):
    net = make_net(method)
    loss = loss_of(net)
    loss.backward(retain_graph=True)
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_a_linear_loss_has_zeros():
    net = make_net("hutchinson")
    net[2](X.new_ones(2, 4)).sum().backward()
    assert net[2].weight.hess_diag.count_nonzero() == 0


def test_beside_hesscale_in_one_graph():
    net = make_net(None)
    arm(net[0].parameters(), "hutchinson")
    arm(net[2].parameters())
    loss_of(net).backward()
    expected = hess_diag(loss_of(net), net[2].parameters())
    torch.testing.assert_close([p.hess_diag for p in net[2].parameters()], expected)
    assert net[0].weight.hess_diag.shape == (4, 3)


def test_targets_cannot_be_drawn_for_any_loss():
    net = make_net("ggn_mc")
    with pytest.raises(ValueError, match=r"known for cross-entropy, .*mse_loss"):
        net(X).exp().sum().backward()
    assert all(p.grad is None for p in net.parameters())


@SAMPLED
def test_a_graph_that_is_freed_explicitly(method):
    net = make_net(method)
    loss_of(net).backward(retain_graph=False)
    assert all(p.hess_diag is not None for p in net.parameters())
