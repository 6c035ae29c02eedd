"""Copies and files of armed parameters, and what a backward pass leaves behind: nothing."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import threading
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hesrl.curvature import arm, disarm, is_armed, register_adjoint, take_curvature
from hesrl.curvature import graph as graphs
from hesrl.curvature.backward_sweep import Sweep
from hesrl.curvature.graph import Graph
from hesrl.curvature.plan import plan_for
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
    assert not any(hasattr(p, "hess_diag") or is_armed(p) for p in net.parameters())
    loss_of(net).backward()
    assert all(take_curvature(p) is None for p in net.parameters())


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


def tensors() -> list[Tensor]:
    return [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]


def test_neither_tensors_nor_other_objects_accumulate():
    net = make_net()
    optimizer = AdaHesScale(net.parameters())
    of_tensors, of_all = [], []
    gc.collect()
    gc.disable()
    try:
        for step in range(1000):
            optimizer.zero_grad()
            loss_of(net).backward()
            optimizer.step()
            if step in (9, 999):
                of_tensors.append(len(tensors()))
                of_all.append(len(gc.get_objects()))
    finally:
        gc.enable()
    assert of_tensors[0] == of_tensors[1]
    assert of_all[1] - of_all[0] < 99


def chain(length: int) -> tuple[Tensor, Tensor]:
    """A parameter through as many layers, as a sequence of that length makes them."""
    x = torch.ones(1, requires_grad=True)
    arm([x])
    y = x
    for _ in range(length):
        y = torch.tanh(y * x)
    return x, y.sum()


def test_plans_are_kept_for_a_bounded_number_of_structures_and_hold_no_tensors():
    chain(1)[1].backward()  # the places of a gradient's entries are kept by its size
    gc.collect()
    before = {id(tensor) for tensor in tensors()}
    for length in range(1, 101):
        x, loss = chain(length)
        loss.backward()
        hess = x.hess_diag.item()
    del x, loss
    assert len(graphs._cache) == graphs._MAX_CACHED
    assert all(len(structure.plans) == 1 for structure in list(graphs._cache.values())[-10:])
    assert [tensor for tensor in tensors() if id(tensor) not in before] == []
    x, loss = chain(100)
    loss.backward()
    assert x.hess_diag.item() == hess
    x, loss = chain(1)
    loss.backward()
    torch.testing.assert_close(x.hess_diag, second_derivative(lambda x: torch.tanh(x * x)))


def second_derivative(function: Any) -> Tensor:
    return torch.func.jacrev(torch.func.jacrev(function))(torch.ones(())).view(1)


def test_another_thread_may_train_at_any_time(monkeypatch):
    """It keeps a new structure while this thread looks for its own among the kept ones."""
    native, lengths = graphs._same_again, iter(range(70, 74))

    def interrupted(root: Any, structure: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            (_, loss) = chain(next(lengths))
            other = threading.Thread(target=loss.backward)
            other.start()
            other.join()
        return native(root, structure)

    for length in (81, 82, 83):
        chain(length)[1].backward()
    monkeypatch.setattr(graphs, "_same_again", interrupted)
    monkeypatch.setattr(graphs, "_MAX_CACHED", 1000)
    x, loss = chain(81)
    loss.backward()
    assert x.hess_diag is not None
    assert next(lengths) == 73


def test_threads_that_train_beside_each_other():
    def train(net: nn.Module) -> None:
        optimizer = AdaHesScale(net.parameters(), lr=0.1)
        for _ in range(50):
            optimizer.zero_grad()
            (net(X) * weight_of[net]).exp().mean().backward()
            optimizer.step()

    nets = [make_net() for _ in range(6)]
    weight_of = {net: 1.0 + number % 3 for number, net in enumerate(nets)}
    threads = [threading.Thread(target=train, args=(net,)) for net in nets[:3]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for together, alone in zip(nets[:3], nets[3:], strict=True):
        train(alone)
        assert_equal(list(together.parameters()), list(alone.parameters()))


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


def test_an_error_in_the_sweep_leaves_the_curvature_and_no_hooks(monkeypatch):
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
    monkeypatch.setattr(Sweep, "_visit", lambda *args: visited.append(args))
    loss.backward()
    assert visited == []


def test_an_error_in_the_native_pass_leaves_no_curvature_beside_a_gradient_that_has_changed():
    net = make_net()
    loss_of(net).backward()
    before = {p: (p.grad.clone(), p.hess_diag) for p in net.parameters()}
    hidden = torch.tanh(net.first(X))
    hidden.register_hook(lambda grad: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        (net.last(hidden) - TARGET).square().mean().backward()
    changed = {p for p, (grad, _) in before.items() if not torch.equal(p.grad, grad)}
    assert changed == set(net.last.parameters())
    for p, (_, hess) in before.items():
        assert p.hess_diag is (None if p in changed else hess)
    with pytest.raises(RuntimeError, match="has a gradient but no curvature"):
        AdaHesScale(net.parameters()).step()
