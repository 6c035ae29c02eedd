"""Exact diagonals by factors: in pieces, for some parameters, and where they are given up."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hesrl.curvature import arm, hess_diag
from hesrl.curvature.estimators import factored, layers
from tests import reference
from tests.curvature.both_ways import METHODS, assert_both_ways
from tests.curvature.comparison import normal

X, CLASSES = normal(4, 3, 6), torch.tensor([0, 2, 1, 1])
each_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture
def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv1d(3, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(20, 5)),
        *(nn.BatchNorm1d(5).eval(), nn.Sigmoid(), nn.Linear(5, 3)),
    ).double()


def loss_of(net: nn.Module) -> Tensor:
    return F.cross_entropy(net(X), CLASSES)


def test_the_hessian_is_that_of_torch_func(net, left):
    found = hess_diag(loss_of(net), dict(net.named_parameters()), "hessian")
    expected = reference.module_hess_diag(net, lambda net: F.cross_entropy(net(X), CLASSES))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)
    assert left == []


@each_method
def test_in_pieces(net, method, left, monkeypatch):
    monkeypatch.setattr(factored, "_CHUNK", 2)
    monkeypatch.setattr(layers, "_MAX_ENTRIES", 1)
    assert assert_both_ways(loss_of(net), list(net.parameters()), method, left) == []


@each_method
@pytest.mark.parametrize("kind", ["weight", "bias"])
def test_only_some_parameters(net, kind, method, left):
    for name, p in net.named_parameters():
        p.requires_grad_(kind in name)
    params = [p for p in net.parameters() if p.requires_grad]
    assert assert_both_ways(loss_of(net), params, method, left) == []
    few_entries = kind == "bias" and method == "hessian"
    assert assert_both_ways(loss_of(net), params[1:2], method, left) == [0] * few_entries


@each_method
def test_an_armed_network_under_a_checkpoint(net, method, left):
    arm(net.parameters())
    loss = F.cross_entropy(net[3:](checkpoint(net[:3], X, use_reentrant=False)), CLASSES)
    assert assert_both_ways(loss, list(net.parameters()), method, left) == []


@each_method
def test_single_precision(net, method):
    expected = hess_diag(loss_of(net), net.parameters(), method)
    net.float()
    found = hess_diag(F.cross_entropy(net(X.float()), CLASSES), net.parameters(), method)
    assert all(h.dtype == torch.float32 for h in found)
    torch.testing.assert_close([h.double() for h in found], expected, rtol=1e-3, atol=1e-6)


def test_more_vectors_than_entries_are_left_to_the_general_way(left):
    """A filter of 2 entries has 5 outputs in a row, each with a second derivative."""
    net = nn.Sequential(nn.Conv1d(3, 1, 1, bias=False), nn.Tanh(), nn.Conv1d(1, 1, 1), nn.Tanh())
    loss = F.cross_entropy(net.double()(X).flatten(1), CLASSES)
    assert assert_both_ways(loss, list(net.parameters()), "hessian", left) == [0, 1, 2]


def test_what_is_not_finite_is_left_to_the_general_way(left):
    """PyTorch's second derivative takes 0 times infinity at a root of zero."""
    x = torch.tensor([[0.0], [4.0]], dtype=torch.float64)
    layer = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(layer.weight)
    (found,) = hess_diag(layer(x).sqrt().sum(), layer.parameters(), "hessian")
    assert not found.isfinite() and left[0] is layer.weight


@each_method
def test_rows_without_any(net, method):
    loss = F.mse_loss(net[:4](X[:0]), X[:0, 0, :5], reduction="sum")
    assert not any(h.any() for h in hess_diag(loss, net[:4].parameters(), method))


@each_method
def test_classes_without_rows(net, method, left):
    loss = F.cross_entropy(net(X[:1])[0], CLASSES[0])
    assert assert_both_ways(loss, list(net.parameters()), method, left) == [*range(8)]
