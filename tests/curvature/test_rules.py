"""Every rule against the definition of HesScale, evaluated by automatic differentiation.

h(x)_j = Σ_k (∂y_k/∂x_j)² h(y)_k + Σ_k g(y)_k ∂²y_k/∂x_j²
"""

from __future__ import annotations

import functools
import itertools

import pytest
import torch
import torch.nn.functional as F

from hesrl.curvature import arm
from hesrl.curvature.rule_registry import _RULES, _class_name
from tests import reference
from tests.curvature.rows import ALL, TABLE
from tests.curvature.rows.row import pair
from tests.curvature.seeding import assert_defined, grad_and_hess, node_names

each_row = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.id)


def assert_close(actual, expected, row):
    torch.testing.assert_close(actual, expected, rtol=row.rtol, atol=row.rtol / 100)


def test_every_rule_has_a_row():
    assert {_class_name(row.node) for row in ALL} == set(_RULES)


@each_row
def test_the_row_leaves_the_node_it_names(row):
    torch.manual_seed(0)
    inputs = [x.requires_grad_() for x in row.inputs()]
    assert row.node in node_names(row.function(*inputs))


def seeded(row, inputs, *, apart=False):
    """Run ``backward`` with the gradient and the curvature that all tests of a row share."""
    output = row.function(*inputs)
    torch.manual_seed(2)
    return grad_and_hess(output, apart=apart)


@functools.lru_cache(maxsize=4)
def defined(row):
    """The inputs of a row, and what the definition gives for each."""
    torch.manual_seed(1)
    values = row.inputs()
    grad_out, hess_out = seeded(row, [x.clone().requires_grad_() for x in values])
    function = row.reference or row.function
    return values, [
        reference.hesscale(function, values, n, grad_out, hess_out) for n in range(len(values))
    ]


@pytest.mark.parametrize("apart", [False, True], ids=["joined", "apart"])
@each_row
def test_the_rule_is_the_definition(row, apart):
    """For every set of inputs that take a gradient; the others are constants."""
    values, expected = defined(row)
    numbers = range(len(values))
    for count in range(1, len(values) + 1):
        for wanted in itertools.combinations(numbers, count):
            inputs = [x.clone().requires_grad_(n in wanted) for n, x in enumerate(values)]
            arm(inputs[n] for n in wanted)
            seeded(row, inputs, apart=apart)
            for n in wanted:
                assert_close(inputs[n].hess_diag, expected[n], row)


@pytest.mark.parametrize("row", [row for row in TABLE if len(row.inputs()) > 1], ids=lambda r: r.id)
def test_an_unarmed_input_changes_nothing(row):
    """It takes a gradient, so the graph has a path to it, which the curvature does not follow."""
    values, expected = defined(row)
    for n in range(len(values)):
        inputs = [x.clone().requires_grad_() for x in values]
        arm([inputs[n]])
        seeded(row, inputs)
        assert_close(inputs[n].hess_diag, expected[n], row)
        assert [hasattr(x, "hess_diag") for x in inputs] == [m == n for m in range(len(values))]


TIES = torch.tensor([-2.0, 0.5, 2.0], dtype=torch.float64)
KINKS = {
    "relu": (torch.relu, [0.0]),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.3), [0.0]),
    "hardtanh": (lambda x: F.hardtanh(x, -0.5, 0.8), [-0.5, 0.8]),
    "abs": (torch.abs, [0.0]),
    "clamp": (lambda x: x.clamp(-0.5, 0.8), [-0.5, 0.8]),
    "clamp_min": (lambda x: torch.clamp_min(x, -0.5), [-0.5]),
    "clamp_max": (lambda x: torch.clamp_max(x, 0.8), [0.8]),
    "maximum": (lambda x: torch.maximum(x, TIES), TIES.tolist()),
    "minimum": (lambda x: torch.minimum(x, TIES), TIES.tolist()),
    "max dim": (lambda x: x.max(0).values, [0.5, 0.5]),
    "min dim": (lambda x: x.min(0).values, [0.5, 0.5]),
    "median": (torch.median, [-1.0, 0.5, 0.5, 0.5, 2.0]),
    "huber": (lambda x: F.huber_loss(x, 0 * x, reduction="none", delta=0.7), [-0.7, 0.7]),
    "smooth_l1": (lambda x: F.smooth_l1_loss(x, 0 * x, reduction="none", beta=0.7), [-0.7, 0.7]),
}


@pytest.mark.parametrize("name", KINKS)
def test_at_a_kink_the_slope_is_the_gradients_and_the_curvature_zero(name):
    function, points = KINKS[name]
    torch.manual_seed(3)
    x = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    arm([x])
    y = function(x)
    (slopes,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    _, hess_out = grad_and_hess(y)
    torch.testing.assert_close(x.hess_diag, slopes**2 * hess_out, rtol=1e-14, atol=0)


def test_a_power_of_zero_has_the_derivatives_of_its_neighbourhood():
    base = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    exponent = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    arm([base, exponent])
    (base**exponent).sum().backward()
    torch.testing.assert_close(base.hess_diag, torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(exponent.hess_diag, torch.zeros(3, dtype=torch.float64))


def test_smooth_l1_with_beta_zero_is_l1():
    """PyTorch's own second derivative divides by β there."""
    torch.manual_seed(4)
    native = torch.ops.aten.smooth_l1_loss
    assert_defined(lambda x, y: native(x, y, 1, 0.0), *pair(), definition=F.l1_loss)
