"""Networks and forward passes of all kinds, against the same without their peculiarity."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hesrl.curvature import arm, disarm
from tests.curvature.nets import (
    TARGET,
    X,
    assert_equal,
    curvatures,
    fresh_curvatures,
    loss_of,
    make_net,
)


def test_frozen_layers_pass_the_curvature_on():
    net = make_net()
    net.second.requires_grad_(False)
    loss_of(net).backward()
    first_weight, first_bias, _, _, last_weight, last_bias = fresh_curvatures()
    assert net.second.weight.hess_diag is None
    actual = [p.hess_diag for p in (*net.first.parameters(), *net.last.parameters())]
    assert_equal(actual, [first_weight, first_bias, last_weight, last_bias])


def test_only_some_parameters_armed():
    net = make_net()
    disarm([net.second.weight, net.last.bias])
    loss_of(net).backward()
    have = [hasattr(p, "hess_diag") for p in net.parameters()]
    assert have == [True, True, False, True, True, False]
    assert_equal([net.first.weight.hess_diag], fresh_curvatures()[:1])


def test_a_module_used_twice_adds_its_uses():
    torch.manual_seed(2)
    layer = nn.Linear(3, 3)
    copies = [copy.deepcopy(layer), copy.deepcopy(layer)]
    for uses in ([layer, layer], copies):
        arm({p for use in uses for p in use.parameters()})
        uses[1](torch.tanh(uses[0](X))).exp().mean().backward()
    total = copies[0].weight.hess_diag + copies[1].weight.hess_diag
    torch.testing.assert_close(layer.weight.hess_diag, total)


def test_a_module_moved_to_float64_after_arming():
    net = make_net().double()
    loss = (net(X.double()) - TARGET).square().mean()
    loss.backward()
    assert {p.hess_diag.dtype for p in net.parameters()} == {torch.float64}
    torch.testing.assert_close([h.float() for h in curvatures(net)], fresh_curvatures())


def test_float64_targets_for_a_float32_network():
    net = make_net()
    y = net(X)
    ((y - TARGET.double()) * (y - TARGET.double())).mean().backward()
    assert {p.hess_diag.dtype for p in net.parameters()} == {torch.float32}
    torch.testing.assert_close(curvatures(net), fresh_curvatures())


def test_bfloat16_autocast():
    net = make_net()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(net)
    loss.backward()
    assert {p.hess_diag.dtype for p in net.parameters()} == {torch.float32}
    torch.testing.assert_close(curvatures(net), fresh_curvatures(), rtol=0.1, atol=0.02)


def test_operations_in_place():
    def in_place(x: Tensor, w: Tensor) -> Tensor:
        return (x @ w).mul_(2.0).add_(0.1).relu_().square().sum()

    def out_of_place(x: Tensor, w: Tensor) -> Tensor:
        return torch.relu(2.0 * (x @ w) + 0.1).square().sum()

    torch.manual_seed(3)
    w = torch.randn(3, 4)
    found = []
    for function in (in_place, out_of_place):
        param = w.clone().requires_grad_()
        arm([param])
        function(X, param).backward()
        found.append(param.hess_diag)
    assert found[0].count_nonzero() > 0
    torch.testing.assert_close(found[0], found[1])


def test_saved_tensors_hooks():
    net = make_net()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x.clone(), lambda x: x):
        loss = loss_of(net)
    loss.backward()
    assert_equal(curvatures(net), fresh_curvatures())


def test_checkpoints():
    net = make_net()
    checkpoint(loss_of, net, use_reentrant=False).backward()
    assert_equal(curvatures(net), fresh_curvatures())


def test_a_checkpointed_categorical_policy():
    """Its softmax, log-softmax, gather and maximum read their saved tensors once each."""

    def loss(net: nn.Module) -> Tensor:
        policy = torch.distributions.Categorical(logits=net(X))
        log_prob = policy.log_prob(torch.tensor([0, 1, 1, 0, 1]))
        return (log_prob - policy.entropy()).sum() + policy.logits.max(1).values.square().sum()

    nets = make_net(), make_net()
    loss(nets[0]).backward()
    checkpoint(loss, nets[1], use_reentrant=False).backward()
    assert_equal(curvatures(nets[1]), curvatures(nets[0]))
