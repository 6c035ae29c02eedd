"""A few hundred steps on functions that are hard for a first-order method."""

import pytest
import torch
from torch import nn

from hesrl import optim


def rosenbrock(x, y):
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def beale(x, y):
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


FUNCTIONS = {
    "rosenbrock": (rosenbrock, (-1.5, 2.0), (1.0, 1.0)),
    "beale": (beale, (1.0, 1.0), (3.0, 0.5)),
}


def distance_after(name, optimizer, steps, **settings):
    """Distance to the minimum after some steps, relative to that at the start."""
    function, start, minimum = FUNCTIONS[name]
    point = [nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in start]
    optimizer = optim.get(optimizer)(point, **settings)
    for _ in range(steps):
        optimizer.zero_grad()
        function(*point).backward()
        optimizer.step()
    far = torch.tensor(start).dist(torch.tensor(minimum))
    return (torch.stack(point).detach().dist(torch.tensor(minimum).double()) / far).item()


@pytest.mark.parametrize("optimizer", ["adahesscale", "scaled-adahesscale", "adahessian"])
@pytest.mark.parametrize(
    ("name", "steps", "bound"), [("beale", 300, 1e-3), ("rosenbrock", 2000, 0.1)]
)
def test_it_finds_the_minimum_with_a_step_size_of_one(name, steps, bound, optimizer):
    settings = {"delta": 1.0} if optimizer.startswith("scaled") else {}
    torch.manual_seed(0)
    assert distance_after(name, optimizer, steps, lr=1.0, betas=(0.9, 0.9), **settings) < bound


def test_momentum_of_the_gradient_finds_it_with_a_step_size_of_its_own():
    assert distance_after("beale", "adam", 300, lr=0.3) < 1e-3
    assert distance_after("beale", "sgd", 300, lr=1e-2, momentum=0.9) < 0.05


def share_of_the_loss_left(optimizer, **settings):
    """½ Σ λ θ² with λ from 1 to 1e6 and noise in the gradient, after 300 steps."""
    torch.manual_seed(0)
    eigenvalues = torch.logspace(0, 6, 50, dtype=torch.float64)
    theta = nn.Parameter(eigenvalues.rsqrt())
    optimizer = optim.get(optimizer)([theta], **settings)
    loss = 25.0
    for _ in range(300):
        noise = 0.1 * torch.randn(50, dtype=torch.float64) * eigenvalues.sqrt()
        optimizer.zero_grad()
        (0.5 * eigenvalues * theta.square() + noise * theta).sum().backward()
        optimizer.step()
    return (0.5 * eigenvalues * theta.square()).sum().item() / loss


@pytest.mark.parametrize(
    "name", ["adahesscale", "adahesscalegn", "scaled-adahesscale", "adahessian"]
)
def test_a_condition_number_of_a_million_is_no_matter_to_curvature(name):
    settings = {"delta": 1.0} if name.startswith("scaled") else {}
    left = share_of_the_loss_left(name, lr=0.1, **settings)
    assert left < 1e-3
    assert left < 0.1 * min(share_of_the_loss_left("adam", lr=lr) for lr in (1e-3, 1e-2, 0.1))


def test_a_condition_number_of_a_million_is_too_much_for_sgd():
    assert share_of_the_loss_left("sgd", lr=1e-6) > 0.4  # of a step size below 2 / 1e6
