"""Roots with a gradient: their curvature is given, or the pass is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hesrl.curvature import MissingRuleError, arm, backward, disarm, hess_diag
from hesrl.optim import AdaHesScale
from tests.curvature.nets import (
    TARGET,
    X,
    assert_equal,
    curvatures,
    fresh_curvatures,
    loss_of,
    make_net,
)


def split(net: nn.Module) -> tuple[Tensor, Tensor]:
    """The output of a network, and a leaf with the gradient and curvature of the loss there."""
    out = net(X)
    d = out.detach().requires_grad_()
    arm([d])
    (d - TARGET).square().mean().backward()
    return out, d


@pytest.mark.parametrize("method", ["hesscale", "hesscale_gn", "bl89"])
def test_a_split_pass_goes_on_with_the_curvature(method):
    net = make_net()
    disarm(net.parameters())
    arm(net.parameters(), method)
    expected = hess_diag(loss_of(net), list(net.parameters()), method)
    out, d = split(net)
    backward(out, d.grad, hess=d.hess_diag)
    torch.testing.assert_close(curvatures(net), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("call", ["method", "function"])
def test_a_split_pass_without_it_is_refused(call, rows):
    net = make_net()
    out = net(X[:rows])[:, :1].sum(1) if rows == 1 else net(X)
    d = out.detach().requires_grad_()
    d.exp().sum().backward()
    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(RuntimeError, match=r"^the root of shape .* hess=0 if the root is a loss"):
        out.backward(d.grad) if call == "method" else torch.autograd.backward(out, d.grad)
    assert all(p.grad is None for p in net.parameters())
    assert_equal([p.detach() for p in net.parameters()], before)
    with pytest.raises(RuntimeError, match="nobody knows its curvature"):
        backward(out, d.grad, hess=None)


def test_losses_of_samples_have_no_curvature_of_their_own():
    net = make_net()
    losses = (net(X) - TARGET).square().mean(1)
    with pytest.raises(RuntimeError, match="nobody knows its curvature"):
        losses.backward(torch.full((5,), 0.2))
    backward(losses, torch.full((5,), 0.2), hess=0)
    torch.testing.assert_close(curvatures(net), fresh_curvatures())


def test_several_roots():
    net = make_net()
    out, d = split(net)
    backward([out, loss_of(net)], [d.grad, None], hess=[d.hess_diag, 0])
    torch.testing.assert_close(curvatures(net), [2 * h for h in fresh_curvatures()])
    net.zero_grad()
    backward([loss_of(net), loss_of(net)])
    torch.testing.assert_close(curvatures(net), [2 * h for h in fresh_curvatures()])
    net.zero_grad()
    with pytest.raises(RuntimeError, match="nobody knows its curvature"):
        torch.autograd.backward([out, loss_of(net)], [d.grad, None])


def test_a_leaf_and_a_root_with_several_outputs():
    x = torch.linspace(-1, 1, 6, dtype=torch.float64).view(2, 3).requires_grad_()
    arm([x])
    grad, hess = torch.arange(6.0).double().view(2, 3), torch.full((2, 3), 0.5).double()
    backward(x, grad, hess=hess)
    assert_equal([x.grad, x.hess_diag], [grad, hess])
    x.grad = None
    first, second = x.exp().unbind()
    backward((first, second), (grad[0], grad[1]), hess=(hess[0], 0))
    e = x.detach().exp()
    expected = e * grad
    expected[0] += e[0] ** 2 * hess[0]
    torch.testing.assert_close(x.hess_diag, expected)


def test_a_diamond_below_a_root():
    """``y = x eˣ``: exact, as it is where the loss goes on."""
    x = torch.linspace(-1, 1, 4, dtype=torch.float64).requires_grad_()
    arm([x])
    y = x * x.exp()
    d = y.detach().requires_grad_()
    arm([d])
    d.square().sum().backward()
    backward(y, d.grad, hess=d.hess_diag)
    slope = torch.func.jacrev(lambda x: 2 * x * x.exp() * (1 + x) * x.exp())
    exact = slope(x.detach()).diagonal()
    torch.testing.assert_close(x.hess_diag, exact)


@pytest.mark.parametrize(
    ("hess", "message"),
    [
        (torch.ones(5, 1), r"root's shape \(5, 2\) or the number 0, not \(5, 1\)"),
        (1.0, r"root's shape \(5, 2\) or the number 0, not 1.0"),
        ((0, 0), "1 roots need as many .*, not 1 gradients and 2 curvatures"),
    ],
)
def test_a_curvature_that_does_not_fit_is_refused(hess, message):
    net = make_net()
    with pytest.raises(ValueError, match=message):
        backward(net(X), torch.ones(5, 2), hess=hess)
    assert all(p.grad is None for p in net.parameters())


def test_a_root_below_another_one_takes_no_curvature():
    net = make_net()
    out = net(X)
    with pytest.raises(ValueError, match="another root depends on it"):
        backward([out, out.sum()], [torch.ones(5, 2), None], hess=[torch.ones(5, 2), 0])


@pytest.mark.parametrize("method", ["ggn_mc", "hutchinson"])
def test_random_estimators_take_no_curvature_at_the_roots(method):
    net = nn.Linear(3, 2)
    arm(net.parameters(), method)
    with pytest.raises(ValueError, match=f"does not go with {method!r}"):
        backward(net(X), torch.ones(5, 2), hess=torch.ones(5, 2))
    backward(nn.functional.mse_loss(net(X), TARGET, reduction="none"), torch.ones(5, 2), hess=0)
    assert net.weight.hess_diag is not None


def test_nothing_armed_takes_any_gradient():
    x = torch.ones(3, requires_grad=True)
    make_net()
    (2 * x).backward(torch.ones(3))
    backward(2 * x, torch.ones(3))
    assert x.grad.tolist() == [4.0] * 3


def test_the_function_refuses_what_the_method_refuses():
    x = torch.ones(3, requires_grad=True)
    arm([x])
    with pytest.raises(MissingRuleError, match="Frexp"):
        backward(torch.frexp(x).mantissa.sum())
    assert x.grad is None


def test_a_step_after_a_split_pass_is_that_of_the_whole():
    nets = [make_net() for _ in range(2)]
    optimizers = [AdaHesScale(net.parameters(), lr=0.1) for net in nets]
    out, d = split(nets[0])
    backward(out, d.grad, hess=d.hess_diag)
    loss_of(nets[1]).backward()
    for optimizer in optimizers:
        optimizer.step()
    torch.testing.assert_close(list(nets[0].parameters()), list(nets[1].parameters()))


class Marked(Tensor):
    """A tensor to which PyTorch hands functions on, the backward pass among them."""


@pytest.mark.parametrize("is_split", [False, True])
def test_a_root_of_a_subclass_counts_once(is_split):
    net = make_net()
    if is_split:
        out, d = split(net)
        backward(out.as_subclass(Marked), d.grad, hess=d.hess_diag)
    else:
        backward(loss_of(net).as_subclass(Marked))
    torch.testing.assert_close(curvatures(net), fresh_curvatures(), rtol=1e-5, atol=1e-7)
