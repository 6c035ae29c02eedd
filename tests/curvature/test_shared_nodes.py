"""Graphs of a known structure in which a tensor is shared; diamonds of constant slopes."""

from __future__ import annotations

import pytest
import torch

from hesrl.curvature import arm


def test_a_graph_that_shares_a_leaf_where_a_graph_before_had_two():
    a, b = (torch.tensor([x], requires_grad=True) for x in (3.0, 2.0))
    arm([a, b])
    (a * b).sum().backward()
    a.grad = None
    (a * a).sum().backward()
    assert a.hess_diag.item() == 2


def test_a_graph_that_shares_a_node_where_a_graph_before_had_two():
    x = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    arm([x])
    (x.tanh() * x.tanh()).sum().backward()
    twice, x.grad = x.hess_diag, None
    t = x.tanh()
    (t * t).sum().backward()
    torch.testing.assert_close(x.hess_diag, twice)


@pytest.mark.parametrize("double", [lambda x: x + x, lambda x: x - 3 * x, lambda x: x - (-x)])
def test_a_fork_of_constant_slopes_that_leaves_for_a_layer(double):
    """``L = Σ (x c + D W)²`` with D = ±2 x: its outside curvature is all that D has."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    c, w = torch.randn(3).double(), torch.randn(3, 3).double()
    arm([x])
    (x * c + double(x) @ w).square().sum().backward()
    expected = 2 * c**2 + 8 * w.square().sum(1)
    torch.testing.assert_close(x.hess_diag, expected.expand(2, 3))
