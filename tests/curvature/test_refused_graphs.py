"""Graphs that curvature refuses as a whole, and what it says then."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hesrl.curvature import (
    MissingRuleError,
    arm,
    disarm,
)
from hesrl.curvature.backward_sweep import Sweep
from tests.curvature.nets import assert_equal, curvatures


def test_a_constant_loss_is_refused_by_torch_and_spoils_nothing(net):
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.ones(()).backward()
    net(torch.ones(5, 3)).square().sum().backward()
    assert all(p.hess_diag is not None for p in net.parameters())


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_a_sparse_gradient_is_found_before_any_gradient_changes(net, kind):
    embedding = kind(5, 3, sparse=True)
    arm(embedding.parameters())
    loss = net(torch.tanh(embedding(torch.tensor([[0, 2, 2]])))).square().sum()
    with pytest.raises(
        MissingRuleError, match=r"weight \(5, 3\): with sparse=True its gradient is"
    ):
        loss.backward()
    assert all(p.grad is None for p in (*net.parameters(), *embedding.parameters()))
    dense = kind(5, 3)
    arm(dense.parameters())
    net(torch.tanh(dense(torch.tensor([[0, 2, 2]])))).square().sum().backward()
    assert dense.weight.hess_diag.count_nonzero() > 0


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.Softplus])
def test_a_loss_that_depends_on_a_gradient_is_refused(activation):
    """The gradient penalty of a critic."""
    net = nn.Sequential(nn.Linear(3, 4), activation(), nn.Linear(4, 1))
    arm(net.parameters())
    x = torch.ones(5, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    with pytest.raises(MissingRuleError, match=r"the loss depends on a gradient \(create_graph"):
        (grad.norm(dim=1) - 1).square().mean().backward()
    assert all(p.grad is None for p in net.parameters())


def test_a_gradient_of_operations_that_have_rules_is_not():
    """``L = Σ (d w³/dw)² = 9 Σ w⁴``."""
    w = nn.Parameter(torch.tensor([1.0, -2.0]))
    arm([w])
    (grad,) = torch.autograd.grad(w.pow(3).sum(), w, create_graph=True)
    grad.square().sum().backward()
    torch.testing.assert_close(w.hess_diag, 108 * w.detach().square())


@pytest.mark.parametrize("in_place", [False, True], ids=["freed", "changed"])
def test_a_graph_whose_tensors_are_gone(net, in_place, monkeypatch):
    """PyTorch's own error, after which curvature and graph are as before."""
    x = torch.ones(5, 3)
    hidden = torch.tanh(net[0](x))
    loss = net[2](hidden).exp().sum()
    loss.backward(retain_graph=in_place)
    before = curvatures(net)
    if in_place:
        with torch.no_grad():
            hidden.add_(1.0)
    message = "modified by an inplace operation" if in_place else "a second time"
    with pytest.raises(RuntimeError, match=message):
        loss.backward()
    assert_equal([p.hess_diag for p in net.parameters()], before)
    visited = []
    monkeypatch.setattr(Sweep, "_visit", lambda *args: visited.append(args))
    disarm(net.parameters())
    with pytest.raises(RuntimeError, match=message):
        loss.backward()
    assert visited == []


def test_a_reentrant_checkpoint_on_the_way_is_refused(net):
    hidden = checkpoint(net[1:], net[0](torch.ones(5, 3)), use_reentrant=True)
    with pytest.raises(MissingRuleError, match=r"\(4, 3\).*call checkpoint with use_reentrant=F"):
        hidden.square().sum().backward()
    assert all(p.grad is None for p in net.parameters())


def test_a_reentrant_checkpoint_that_hides_all_armed_parameters_is_refused(net):
    """Its own backward pass starts from a gradient, as if the loss were linear in its output."""
    y = checkpoint(net, torch.ones(5, 3, requires_grad=True), use_reentrant=True)
    with pytest.raises(MissingRuleError, match="CheckpointFunctionBackward hides the operations"):
        y.square().sum().backward()
    assert all(p.grad is None for p in net.parameters())
    disarm(net.parameters())
    y = checkpoint(net, torch.ones(5, 3, requires_grad=True), use_reentrant=True)
    y.square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_a_scripted_module_is_told_to_call_the_module_itself(net):
    """From its second run on it is one node."""
    scripted = torch.jit.script(net)
    scripted(torch.ones(5, 3)).sum().backward()
    with pytest.raises(MissingRuleError, match=r"torch.jit.script hides .* call the module or f"):
        scripted(torch.ones(5, 3)).sum().backward()
