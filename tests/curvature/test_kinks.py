"""Piecewise operations at their kinks and ties, and with random slopes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hesrl.curvature import arm
from tests.curvature.rows.row import WITHOUT_GRADIENT
from tests.curvature.seeding import grad_and_hess

BENDS = torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.5, 0.5, 1.0, 3.0], dtype=torch.float64)
"""Where the functions below have kinks; an entry 0.5 twice, for ties."""
PIECEWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "hardsigmoid": F.hardsigmoid,
    "hardshrink": F.hardshrink,
    "softshrink": F.softshrink,
    "threshold": lambda x: F.threshold(x, 0.5, 7.0),
    "threshold_": lambda x: F.threshold_(x.clone(), 0.5, 7.0),
    "leaky_relu_": lambda x: F.leaky_relu_(x.clone(), 0.3),
    "rrelu": lambda x: F.rrelu(x, training=True),
    "rrelu_": lambda x: F.rrelu_(x.clone(), training=True),
    "native_dropout": lambda x: torch.native_dropout(x, 0.3, True)[0],
    "dropout": lambda x: F.dropout(x, 0.3),
    "alpha_dropout": lambda x: F.alpha_dropout(x, 0.3, training=True),
    "feature_alpha_dropout": lambda x: F.feature_alpha_dropout(x[None, :, None], 0.3, True),
    "clamp": lambda x: torch.clamp(x, BENDS.flip(0), BENDS + 1),
    "clamp_min": lambda x: torch.clamp_min(x, BENDS),
    "clamp_max": lambda x: torch.clamp_max(x, BENDS),
    "fmax": lambda x: torch.fmax(x, BENDS),
    "fmin": lambda x: torch.fmin(x, BENDS),
    "copysign": lambda x: torch.copysign(x, -BENDS),
    "copysign number": lambda x: torch.copysign(x, -2.0),
    "amax": lambda x: torch.amax(x.clamp(max=0.5), 0),
    "amin": lambda x: torch.amin(x.clamp(min=0.5), 0, keepdim=True),
    "max": lambda x: torch.max(x.clamp(max=0.5)),
    "aminmax": lambda x: torch.cat(torch.aminmax(x.clamp(-0.5, 0.5), dim=0, keepdim=True)),
    "norm 1": lambda x: torch.linalg.vector_norm(x, 1),
    "norm inf": lambda x: torch.linalg.vector_norm(x, math.inf),
    "norm of zeros": lambda x: torch.linalg.vector_norm(0 * x),
    "std of equals": lambda x: torch.std(0 * x),
    **{
        f"cdist {p}": lambda x, p=p: torch.cdist(x[:, None], BENDS[:, None], p)
        for p in (0.5, 1, 2, 3, math.inf)
    },
    "pdist": lambda x: F.pdist(x[:, None]),
    "renorm": lambda x: torch.renorm(x[:, None].clamp(-0.5, 0.5), 2, 0, 0.5),
    "dist of equals": lambda x: torch.dist(0 * x, 0 * x, 1),
    "scatter_reduce": lambda x: x.new_zeros(3).scatter_reduce(
        0, torch.tensor([0, 0, 1, 1, 2, 2, 2, 0]), x.clamp(-0.5, 0.5), "amax", include_self=True
    ),
    "multi margin": lambda x: F.multi_margin_loss(x, torch.tensor(3)),
    "multilabel margin": lambda x: F.multilabel_margin_loss(x, torch.tensor([1, 0, -1] + 5 * [0])),
}


@pytest.mark.parametrize("name", PIECEWISE)
def test_at_a_kink_the_slope_is_the_gradients_and_the_curvature_zero(name):
    """Also where the slopes are random; hardsigmoid's native one is 1/6 in single precision."""
    if name == "aminmax" and "AminmaxBackward0" in WITHOUT_GRADIENT:
        pytest.skip("this PyTorch has no gradient of aminmax")
    torch.manual_seed(1)
    x = BENDS.clone().requires_grad_()
    arm([x])
    y = PIECEWISE[name](x)
    outputs = y.flatten()
    slopes = [torch.autograd.grad(out, x, retain_graph=True)[0] for out in outputs]
    _, hess_out = grad_and_hess(y)
    expected = hess_out @ torch.stack(slopes).square()
    torch.testing.assert_close(x.hess_diag, expected, rtol=1e-6, atol=0)


def test_prelu_and_hardswish_bend_where_their_gradients_do():
    x = torch.tensor([-3.0, 0.0, 3.0], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    arm([x, weight])
    y = F.hardswish(x) + F.prelu(x, weight)
    (slope,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    (0.5 * y.square()).sum().backward()
    second = torch.tensor([0.0, 1 / 3, 0.0], dtype=torch.float64)
    torch.testing.assert_close(x.hess_diag, slope**2 + second * y.detach())
    torch.testing.assert_close(weight.hess_diag, torch.tensor([9.0], dtype=torch.float64))


BEHIND_A_MASK: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: x.relu().sqrt(),
    "relu ** 0.5": lambda x: x.relu() ** 0.5,
    "relu ** 1.5": lambda x: x.relu() ** 1.5,
    "clamp": lambda x: x.clamp(min=0).sqrt(),
    "clamp on both sides": lambda x: x.clamp(-1, 1).acos(),
    "where": lambda x: torch.where(x > 0, x, 0.0).sqrt(),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)).sqrt(),
    "masked_fill": lambda x: x.masked_fill(x < 0, 0.0).sqrt(),
    "hardtanh": lambda x: F.hardtanh(x, 0, 2).sqrt(),
    "hardshrink": lambda x: F.hardshrink(x, 0.1).abs().sqrt(),
    "hardswish": lambda x: F.hardswish(x - 3).abs().sqrt(),
    "in a diamond": lambda x: x.relu().sqrt() * x.sin() * x.relu(),
    "of two masks": lambda x: torch.where(x > 0, x, 0.0).sqrt() * torch.maximum(x, -x),
    "a masked row": lambda x: torch.nan_to_num(
        torch.stack([x, x]).masked_fill(torch.tensor([[True], [False]]), -math.inf).softmax(1)
    ),
}


@pytest.mark.parametrize("name", BEHIND_A_MASK)
def test_what_is_masked_out_may_be_infinite(name):
    """The native gradient selects: 0 times infinity leaves nothing behind."""
    function = BEHIND_A_MASK[name]
    x = torch.tensor([-1.7, 0.6, -0.3, 0.8], dtype=torch.float64, requires_grad=True)
    arm([x])
    function(x).sum().backward()
    kept = torch.func.grad(lambda x: function(x).sum())
    second = torch.stack([(kept(x + d) - kept(x - d)).detach() / 2e-6 for d in 1e-6 * torch.eye(4)])
    assert x.grad.isfinite().all()
    torch.testing.assert_close(x.hess_diag, second.diagonal(), rtol=1e-6, atol=1e-8)


BOUNDED = {
    "clamp": torch.clamp,
    "clamp from below": lambda x, low: torch.clamp(x, low),
    "clamp from above": lambda x, high: torch.clamp(x, max=high),
    "clamp_min": torch.clamp_min,
    "clamp_max": torch.clamp_max,
    "fmax": torch.fmax,
    "fmin": torch.fmin,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}


@pytest.mark.parametrize("name", BOUNDED)
def test_ties_count_as_the_gradient_counts_them(name):
    """For every order of two or three tensors, equal ones and crossed bounds among them."""
    count = 3 if name == "clamp" else 2
    orders = torch.tensor(list(itertools.product([0.0, 1.0, 2.0], repeat=count))).double()
    inputs = [column.clone().requires_grad_() for column in orders.unbind(1)]
    arm(inputs)
    y = BOUNDED[name](*inputs)
    slopes = torch.autograd.grad(y.sum(), inputs, retain_graph=True)
    _, hess_out = grad_and_hess(y)
    for x, slope in zip(inputs, slopes, strict=True):
        torch.testing.assert_close(x.hess_diag, slope**2 * hess_out, rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.clamp(0.0, 1.0),
        lambda x: x.clamp(1.0, 1.0),
        lambda x: x.clamp(1.0, 0.0),
        lambda x: x.clamp(max=1.0),
        lambda x: x.clamp_min(0.0),
        lambda x: x.clamp_max(1.0),
    ],
)
def test_the_slope_at_a_number_is_the_gradients_within_a_region_too(function):
    """Joined with another branch, the rule gives the slope and not the native node."""
    x = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    arm([x])
    (slope,) = torch.autograd.grad(function(x).sum(), x)
    (function(x).exp() * torch.sin(x)).sum().backward()
    with torch.no_grad():
        y = function(x)
        expected = y.exp() * (slope**2 * x.sin() + 2 * slope * x.cos() - x.sin())
    torch.testing.assert_close(x.hess_diag, expected, rtol=1e-13, atol=1e-15)
