"""Copies and files of armed parameters, and what a backward pass leaves behind: nothing."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from hesrl.curvature import arm, disarm, is_armed, register_adjoint, take_curvature
from hesrl.curvature.graph import Graph
from hesrl.curvature.plan import plan_for
from hesrl.curvature.sweep import Sweep
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


def test_a_copy_is_not_armed():
    net = make_net()
    loss_of(net).backward()
    clone = copy.deepcopy(net)
    assert not any(is_armed(p) for p in clone.parameters())
    assert_equal(curvatures(net), fresh_curvatures())


def test_files_hold_nothing_of_hesrl():
    net = make_net()
    loss_of(net).backward()
    assert b"hesrl.curvature" not in pickle.dumps(net)
    for state in (net.state_dict(), dict(net.named_parameters())):
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=True)
        assert all(torch.equal(loaded[name], p) for name, p in net.named_parameters())


def test_a_loaded_network_can_be_armed():
    net = pickle.loads(pickle.dumps(make_net()))
    arm(net.parameters())
    loss_of(net).backward()
    assert_equal(curvatures(net), fresh_curvatures())


def test_disarming():
    net = make_net()
    loss_of(net).backward()
    disarm(net.parameters())
    assert all(p.hess_diag is None and not is_armed(p) for p in net.parameters())
    loss_of(net).backward()
    assert all(p.hess_diag is None and take_curvature(p) is None for p in net.parameters())


class Tag:
    """Lives as long as what it is attached to; nodes themselves take no weak references."""


def test_the_graph_dies_with_the_loss():
    net = make_net()
    gc.collect()
    gc.disable()
    try:
        y = net(X)
        hidden = y.exp()
        loss = (y * hidden).sum()
        tags = []
        for node in (y.grad_fn, hidden.grad_fn, loss.grad_fn):
            node.metadata["tag"] = Tag()
            tags.append(weakref.ref(node.metadata["tag"]))
        activation = weakref.ref(hidden)
        loss.backward()
        del node, y, hidden, loss
        assert [tag() for tag in (*tags, activation)] == [None] * 4
    finally:
        gc.enable()


def test_a_diamond_forgets_its_tensors_once_they_were_used():
    x = torch.ones(3, requires_grad=True)
    loss = (x * x.exp()).sum()
    graph = Graph([loss.grad_fn])
    plan = plan_for(graph, frozenset(graph.structure.leaves), "hesscale")
    (diamond,) = plan.diamonds
    assert len(diamond.members) == 2
    with Sweep(graph, plan) as sweep:
        loss.backward()
    hess = sweep.curvature(graph.structure.leaves[0])
    torch.testing.assert_close(hess, torch.full((3,), 3.0).mul(torch.e))
    crossing = sweep._crossings[diamond.entry]
    assert crossing._records == {} and crossing._outside == {}


def test_the_number_of_tensors_stays_the_same():
    def count() -> int:
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    net = make_net()
    optimizer = AdaHesScale(net.parameters())
    counts = []
    gc.collect()
    gc.disable()
    try:
        for step in range(200):
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()
            if step in (1, 199):
                counts.append(count())
    finally:
        gc.enable()
    assert counts[0] == counts[1]


class Fails(torch.autograd.Function):
    """The identity, whose gradient raises while ``broken`` is set."""

    broken = False

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> Tensor:
        if Fails.broken:
            raise ArithmeticError("broken on purpose")
        return grad_out


register_adjoint(Fails)


def test_an_error_in_the_native_pass_leaves_the_curvature_and_no_hooks(monkeypatch):
    net = make_net()
    loss_of(net).backward()
    loss = (net.last(Fails.apply(torch.tanh(net.first(X)))) - TARGET).square().mean()
    with monkeypatch.context() as patch:
        patch.setattr(Fails, "broken", True)
        with pytest.raises(ArithmeticError, match="broken on purpose"):
            loss.backward(retain_graph=True)
    assert_equal(curvatures(net), fresh_curvatures())

    disarm(net.parameters())
    visited = []
    monkeypatch.setattr("hesrl.curvature.sweep.Sweep._visit", lambda *args: visited.append(args))
    loss.backward()
    assert visited == []
