"""Whole losses and whole networks: where the curvature is exact, where it is the recursion."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hesrl.curvature import arm
from tests import reference
from tests.curvature import losses_as_written as written

each_loss = pytest.mark.parametrize("loss", written.CASES, ids=lambda loss: loss.__name__)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def computed(function: Callable[..., Tensor], *values: Tensor) -> list[Tensor]:
    """The curvature of the inputs of a scalar function, by hesrl."""
    inputs = [x.clone().requires_grad_() for x in values]
    arm(inputs)
    function(*inputs).backward()
    return [x.hess_diag for x in inputs]


def assert_exact(function: Callable[..., Tensor], *values: Tensor) -> None:
    torch.testing.assert_close(
        computed(function, *values),
        reference.hess_diag(function, *values),
        rtol=1e-12,
        atol=1e-12,
    )


@each_loss
def test_losses_are_exact_at_the_outputs(loss):
    assert_exact(loss, *written.CASES[loss])


def test_the_surrogate_cases_lie_on_both_sides_of_the_clip():
    ratios = written.LOG_RATIOS.exp()
    sides = {
        (bool(a > 0), bool(r > 1 + written.CLIP), bool(r < 1 - written.CLIP))
        for a, r in zip(written.ADVANTAGES, ratios, strict=True)
    }
    assert len(sides) == 6
    clipped = (written.VALUES.view(-1) - written.OLD_VALUES).abs() > written.CLIP
    assert 0 < clipped.sum() < len(clipped)


@pytest.mark.parametrize(
    "log_density",
    [
        lambda s: -((written.ACTIONS / s.exp()) ** 2) / 2 - s.exp().log(),
        lambda s: -((written.ACTIONS / s.exp()) ** 2) / 2 - s,
        lambda s: -(written.ACTIONS**2) / (2 * (s.exp() ** 2)) - s.exp().log(),
    ],
    ids=["σ and log σ", "σ and s", "σ² and log σ"],
)
def test_log_std_reached_by_two_paths(log_density):
    assert_exact(lambda s: (log_density(s).sum(1) - 1).exp().mean(), written.LOG_STD)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * x * x / (1 + x * x),
        lambda x: (x + x) ** 2,
        lambda x: x - x * x,
        lambda x: torch.tanh(x) * torch.exp(-x),
        lambda x: torch.maximum(x, x * x),
        lambda x: torch.where(x > 0, x * x * x, x.exp()),
        lambda x: torch.addcmul(x, x, x),
        lambda x: torch.lerp(x * x, x.sin(), 0.3),
        lambda x: (x + torch.tanh(x)) ** 2,
        lambda x: (x * x + 2).pow(x),
        lambda x: (x.exp() + 1).reciprocal() * x.exp(),
        lambda x: torch.exp(x + 0.1 * x.relu()),
        lambda x: torch.where(x > 0, x, 0.3 * x) * torch.maximum(x, 0.1 * x).exp(),
        lambda x: x.cos() * ((x.sin() * x.exp() + x.tanh()) * x.sigmoid()),
        lambda x: (x.sin().cos() * ((x.sin() * x.exp() + x.tanh()) * x.sigmoid())).exp() * x.tanh(),
    ],
)
def test_paths_that_rejoin_elementwise_are_exact(function):
    torch.manual_seed(0)
    assert_exact(lambda x: function(x).sum(), normal(3, 4))


def test_a_tensor_that_enters_two_regions_gets_the_curvature_of_both():
    torch.manual_seed(0)
    assert_exact(lambda x: (x * x.exp()).sum() + (x.sin() * x.tanh()).sum().exp(), normal(1))


COEFFICIENTS = torch.tensor([[0.5, -1.0, 2.0], [1.5, 0.3, -0.7], [-0.2, 1.1, 0.9]]).double()


@pytest.mark.parametrize(
    "function",
    [
        lambda x, z: x - x.logsumexp(1, keepdim=True),
        lambda x, z: x - z.logsumexp(1, keepdim=True),
        lambda x, z: torch.sub(x, x.logsumexp(1, keepdim=True), alpha=0.3),
        lambda x, z: x - x.logsumexp(1),
        lambda x, z: x - x.logsumexp((0, 1), keepdim=True),
    ],
    ids=["log-softmax", "of another tensor", "scaled", "along the other dimension", "of all"],
)
def test_what_looks_like_a_log_softmax(function):
    """A loss that is linear in it has the curvature of logsumexp alone, by every rule."""
    torch.manual_seed(3)
    assert_exact(
        lambda x, z: (COEFFICIENTS * function(x, z)).sum() + z.square().sum(),
        normal(3, 3),
        normal(3, 3),
    )


def test_a_log_softmax_whose_logsumexp_is_used_again():
    def loss(x: Tensor) -> Tensor:
        lse = x.logsumexp(1, keepdim=True)
        return (COEFFICIENTS * (x - lse)).sum() + lse.square().sum()

    torch.manual_seed(4)
    assert_exact(loss, normal(3, 3))


@pytest.mark.parametrize("by_logsumexp", [False, True])
def test_softmax_of_a_log_softmax_over_another_dimension_is_not_its_exponential(by_logsumexp):
    def log_softmax(x: Tensor) -> Tensor:
        return x - x.logsumexp(0, keepdim=True) if by_logsumexp else x.log_softmax(0)

    def softmax(y: Tensor) -> Tensor:
        return y.softmax(1)

    torch.manual_seed(5)
    x = normal(3, 3)
    y = log_softmax(x)
    p = softmax(y)
    (actual,) = computed(lambda x: softmax(log_softmax(x)).square().sum(), x)
    grad_out, hess_out = (2 * p).flatten(), torch.full((9,), 2.0, dtype=torch.float64)
    hess_y = reference.hesscale(softmax, [y], 0, grad_out, hess_out)
    grad_y = torch.func.grad(lambda y: softmax(y).square().sum())(y)
    expected = reference.hesscale(log_softmax, [x], 0, grad_y.flatten(), hess_y.flatten())
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_a_region_that_is_left_and_entered_again_composes():
    """``Σ (x p)²`` with p = softmax(x): two operations, so the cross term of x and p is dropped."""
    torch.manual_seed(1)
    x = normal(2, 3)
    p = x.softmax(1)
    (actual,) = computed(lambda x: (x * x.softmax(1)).square().sum(), x)
    through_p = reference.hesscale(
        lambda x: x.softmax(1), [x], 0, (2 * x**2 * p).flatten(), (2 * x**2).flatten()
    )
    torch.testing.assert_close(actual, 2 * p**2 + through_p, rtol=1e-12, atol=1e-12)


def test_regions_nested_through_other_operations_compose():
    """``Σ tanh(t s)``, t = tanh(x), s the sum of t over a row: t enters a region at two depths."""
    torch.manual_seed(2)
    x = normal(2, 3)
    t, s = x.tanh(), x.tanh().sum(1, keepdim=True)
    (actual,) = computed(lambda x: (x.tanh() * x.tanh().sum(1, keepdim=True)).tanh().sum(), x)
    y = (t * s).tanh()
    first, second = 1 - y**2, -2 * y * (1 - y**2)
    hess_t = second * s**2 + (second * t**2).sum(1, keepdim=True)
    grad_t = first * s + (first * t).sum(1, keepdim=True)
    expected = (1 - t**2) ** 2 * hess_t - 2 * t * (1 - t**2) * grad_t
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


BATCH, ACTION_DIM = 5, 3
