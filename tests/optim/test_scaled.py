"""Step scaling: the trust region, its cap, and what counts in the sum."""

import pytest
import torch
from torch import nn

from hesrl import optim
from hesrl.curvature import give_curvature
from hesrl.optim import SGD, AdaHesScale, Adam, ScaledAdaHesScale, ScaledAdam, ScaledSGD
from tests.optim.problems import TABLE, assert_same_parameters, loss_of, network, train

SCALED = pytest.mark.parametrize("name", [name for name in TABLE if name.startswith("scaled-")])
CURVATURES = torch.tensor([3.0, -0.5, 20.0], dtype=torch.float64)


def quadratic(**settings):
    """A parameter of ½ Σ h θ² after its backward pass, and an optimizer of some class for it."""
    cls = settings.pop("cls", ScaledAdaHesScale)
    theta = nn.Parameter(torch.tensor([1.0, 2.0, -0.1], dtype=torch.float64))
    optimizer = cls([theta], **settings)
    (0.5 * CURVATURES * theta.square()).sum().backward()
    return theta, optimizer


@SCALED
def test_without_a_bound_it_is_the_plain_optimizer(name):
    model, other = network(), network()
    scaled = optim.get(name)(model.parameters(), lr=1e-2, weight_decay=0.1, delta=1e9)
    plain = optim.get(name.removeprefix("scaled-"))(other.parameters(), lr=1e-2, weight_decay=0.1)
    train(model, scaled, range(5))
    train(other, plain, range(5))
    assert_same_parameters(model, other, 1e-12)


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("cls", [ScaledSGD, ScaledAdam, ScaledAdaHesScale])
def test_a_step_on_a_quadratic_ends_on_the_edge_of_the_trust_region(cls, capturable):
    beta2 = 0.99
    betas = {"curvature_beta": beta2} if cls is ScaledSGD else {"betas": (0.9, beta2)}
    settings = {"lr": 1.0, "delta": 1e-4, "weight_decay": 0.1, "capturable": capturable}
    theta, optimizer = quadratic(cls=cls, **settings, **betas)
    before = theta.detach().clone()
    optimizer.step()
    roots = (1 - beta2) ** 0.5 * CURVATURES.abs()  # of the average, not bias-corrected
    moved = 0.5 * (roots * (theta.detach() - before).square()).sum()
    torch.testing.assert_close(moved, torch.tensor(1e-4, dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize("max_scale", [1.0, 0.25, 2.0])
def test_the_scale_is_capped(max_scale):
    theta, optimizer = quadratic(lr=1e-3, delta=1.0, max_scale=max_scale)
    twin, plain = quadratic(cls=AdaHesScale, lr=1e-3)
    start = theta.detach().clone()
    optimizer.step()
    plain.step()
    torch.testing.assert_close(theta - start, max_scale * (twin - start), rtol=1e-9, atol=0)


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize(("cls", "plain"), [(ScaledAdam, Adam), (ScaledSGD, SGD)])
def test_without_curvature_the_scale_is_the_cap(cls, plain, capturable):
    moves = []
    for choice, settings in ((cls, dict(max_scale=0.5, capturable=capturable)), (plain, {})):
        theta = nn.Parameter(torch.tensor([1.0, -2.0]))
        optimizer = choice([theta], lr=0.1, **settings)
        (theta * torch.tensor([3.0, 4.0])).sum().backward()
        optimizer.step()
        moves.append(theta.detach() - torch.tensor([1.0, -2.0]))
    torch.testing.assert_close(moves[0], 0.5 * moves[1])


def test_groups_are_scaled_apart():
    model, other = network(), network()
    parts = [{"params": layer.parameters()} for layer in (model[0], model[2])]
    train(model, ScaledAdaHesScale(parts, lr=1.0, delta=1e-4), range(3))
    layers = other[0], other[2]
    twins = [ScaledAdaHesScale(layer.parameters(), lr=1.0, delta=1e-4) for layer in layers]
    for step in range(3):
        other.zero_grad()
        loss_of(other, step).backward()
        for twin in twins:
            twin.step()
    assert_same_parameters(model, other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_squares_that_underflow_in_low_precision_still_count(dtype):
    """Σ H u² = 4 · 2 · (1e-4)² = 8e-8, a term of which is zero in half precision."""
    theta = nn.Parameter(torch.zeros(4, dtype=dtype))
    optimizer = ScaledSGD([theta], lr=1e-4, delta=1e-8, max_scale=10.0, curvature_beta=0.0)
    theta.grad = torch.ones_like(theta)
    give_curvature(theta, torch.full_like(theta, 2.0))
    optimizer.step()
    expected = torch.full_like(theta, -1e-4 * (2e-8 / 8e-8) ** 0.5)
    torch.testing.assert_close(theta.detach(), expected, rtol=2e-2, atol=0)


@SCALED
def test_its_state_says_what_it_holds(name):
    model = network()
    optimizer = optim.get(name)(model.parameters())
    train(model, optimizer, range(1))
    kept = {"scaled-sgd": ["step", "exp_hess_sq"]}
    kept["scaled-adam"] = ["step", "exp_avg", "exp_avg_sq", "exp_hess_sq"]
    expected = kept.get(name, ["step", "exp_avg", "exp_hess_sq", "exp_grad_sq"])
    assert all(list(optimizer.state[p]) == expected for p in model.parameters())
