"""``backward()`` with armed parameters: the native pass, and the curvature that it leaves."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hesrl.curvature import (
    arm,
    backward,
    clear_curvature,
    disarm,
    give_curvature,
    is_armed,
    take_curvature,
)
from hesrl.optim import AdaHesScale
from tests.curvature.nets import (
    TARGET,
    X,
    assert_equal,
    curvatures,
    fresh_curvatures,
    loss_of,
    make_net,
    plain_net,
)


def test_the_gradient_is_the_same_bit_for_bit():
    plain = plain_net()
    armed = make_net()
    loss_of(plain).backward()
    loss_of(armed).backward()
    assert all(
        torch.equal(p.grad, q.grad)
        for p, q in zip(plain.parameters(), armed.parameters(), strict=True)
    )
    assert not any(is_armed(p) for p in plain.parameters())


def test_a_forward_without_grad_leaves_no_trace():
    net = make_net()
    with torch.no_grad():
        y = net(X)
    assert y.grad_fn is None and not y.requires_grad
    assert all(p.hess_diag is None for p in net.parameters())


def test_create_graph_gives_the_same_curvature_without_recording_it():
    net = make_net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns once per process
        loss_of(net).backward(create_graph=True)
    assert_equal(curvatures(net), fresh_curvatures())
    assert all(p.grad.requires_grad and not p.hess_diag.requires_grad for p in net.parameters())
    for p in net.parameters():
        p.grad = None


def test_retain_graph_gives_the_same_curvature_again():
    net = make_net()
    loss = loss_of(net)
    loss.backward(retain_graph=True)
    net.zero_grad()
    loss.backward()
    assert_equal(curvatures(net), fresh_curvatures())


@pytest.mark.parametrize("factor", [-3.0, 0.5])
def test_curvature_scales_with_the_loss(factor):
    net = make_net()
    (factor * loss_of(net)).backward()
    expected = [factor * h for h in fresh_curvatures()]
    torch.testing.assert_close(curvatures(net), expected)


def test_backward_passes_accumulate():
    net = make_net()
    loss_of(net).backward()
    loss_of(net).backward()
    assert_equal(curvatures(net), [2 * h for h in fresh_curvatures()])


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("owner", ["module", "optimizer"])
def test_zero_grad_clears(owner, set_to_none):
    net = make_net()
    optimizer = AdaHesScale(net.parameters())
    loss_of(net).backward()
    (net if owner == "module" else optimizer).zero_grad(set_to_none=set_to_none)
    assert all(p.hess_diag is None for p in net.parameters())
    loss_of(net).backward()
    assert_equal(curvatures(net), fresh_curvatures())


def test_clipping_scales_the_gradient_and_keeps_the_curvature():
    net = make_net()
    loss_of(net).backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1e-3)
    assert_equal(curvatures(net), fresh_curvatures())
    loss_of(net).backward()
    assert_equal(curvatures(net), [2 * h for h in fresh_curvatures()])


def test_clipping_keeps_the_curvature_of_a_dead_unit():
    """Its gradient is zero before and after, so that only its version tells that it was clipped."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    nn.init.constant_(net[0].bias, -100.0)
    optimizer = AdaHesScale(net.parameters())
    net(torch.randn(8, 3)).square().mean().backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1e-3)
    assert torch.equal(net[0].weight.hess_diag, torch.zeros(4, 3))
    optimizer.zero_grad(set_to_none=False)
    assert all(p.hess_diag is None for p in net.parameters())


def test_a_gradient_from_elsewhere_has_no_curvature():
    net = make_net()
    loss_of(net).backward()
    params = list(net.parameters())
    for p, grad in zip(params, torch.autograd.grad(loss_of(net), params), strict=True):
        p.grad = grad
    assert all(p.hess_diag is None and take_curvature(p) is None for p in net.parameters())
    loss_of(net).backward()
    assert all(p.hess_diag is None for p in net.parameters())


def test_a_linear_parameter_has_zeros():
    net = make_net()
    net(X).sum().backward()
    assert torch.equal(net.last.weight.hess_diag, torch.zeros(2, 8))
    assert net.first.weight.hess_diag.count_nonzero() > 0


def test_give_and_clear():
    param = nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match=r"shape \(2,\) has no gradient"):
        give_curvature(param, torch.full((2,), 3.0))
    param.grad = torch.ones(2)
    give_curvature(param, torch.full((2,), 3.0))
    param.square().sum().backward()
    assert param.hess_diag.tolist() == [5.0, 5.0]
    clear_curvature([param])
    assert param.hess_diag is None


def test_inputs_restrict_the_curvature():
    net = make_net()
    loss_of(net).backward(inputs=[net.second.weight, net.last.bias])
    have = {name for name, p in net.named_parameters() if p.hess_diag is not None}
    assert have == {"second.weight", "last.bias"}
    assert_equal(
        [net.second.weight.hess_diag, net.last.bias.hess_diag],
        [
            fresh_curvatures()[2],
            fresh_curvatures()[5],
        ],
    )


def test_inputs_leave_the_curvature_of_the_others():
    net = make_net()
    disarm([net.last.weight])
    loss_of(net).backward()
    net.last.weight.grad = None
    loss_of(net).backward(inputs=[net.first.weight, net.last.weight])
    once = fresh_curvatures()
    assert_equal([net.first.weight.hess_diag, net.first.bias.hess_diag], [2 * once[0], once[1]])
    assert take_curvature(net.last.weight) is None


def test_several_roots_add_up():
    net = make_net()
    y = net(X)
    torch.autograd.backward([y.square().sum(), (y - TARGET).exp().mean()])
    one = curvatures(net)
    net.zero_grad()
    y = net(X)
    (y.square().sum() + (y - TARGET).exp().mean()).backward()
    torch.testing.assert_close(curvatures(net), one)


def test_a_gradient_weights_the_entries_of_a_root():
    net = make_net()
    backward((net(X) - TARGET).square(), torch.full((5, 2), 0.1), hess=0)
    torch.testing.assert_close(curvatures(net), fresh_curvatures())


def as_generator(loss: Tensor) -> Any:
    return (root for root in [loss])


@pytest.mark.parametrize(
    "roots", [lambda loss: (loss,), as_generator, torch.autograd.graph.get_gradient_edge]
)
def test_every_form_of_roots_is_understood(roots):
    net = make_net()
    backward(roots(loss_of(net)), torch.ones(()), hess=0)
    assert_equal(curvatures(net), fresh_curvatures())
    net.zero_grad()
    torch.autograd.backward(roots(loss_of(net)))
    assert_equal(curvatures(net), fresh_curvatures())


@pytest.mark.parametrize("form", [lambda p: p, lambda p: iter([p]), lambda p: {"weight": p}])
def test_every_form_of_inputs_is_understood(form):
    net = make_net()
    loss_of(net).backward(inputs=form(net.first.weight))
    assert_equal([net.first.weight.hess_diag], fresh_curvatures()[:1])
    assert net.last.weight.hess_diag is None


def test_a_parameter_can_be_the_loss():
    param = nn.Parameter(torch.ones(()))
    arm([param])
    param.backward()
    assert (param.grad, param.hess_diag) == (1.0, 0.0)
