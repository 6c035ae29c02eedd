"""Every optimizer, step by step, against its equations and against those of torch."""

import math

import pytest
import torch
from torch import nn

from hesrl import optim
from hesrl.curvature import give_curvature
from hesrl.optim import SGD, AdaHesScale, Adam
from tests.optim.problems import TABLE, assert_same_parameters, network, train
from tests.optim.reference_steps import reference_step

FORMS = {
    "adaptive": {"lr": 1e-2, "betas": (0.8, 0.95), "eps": 1e-3},
    "momentum": {"lr": 1e-2, "momentum": 0.9},
}
OTHERS = {
    "adaptive": {"lr": 3e-3, "betas": (0.5, 0.9), "eps": 1e-2},
    "momentum": {"lr": 3e-3, "momentum": 0.5, "nesterov": True},
}


def convolution(seed=0):
    torch.manual_seed(seed)
    layers = nn.Conv2d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(12, 4), nn.Tanh()
    return nn.Sequential(*layers, nn.Linear(4, 2)).double()


def loss_of(model, step):
    random = torch.Generator().manual_seed(step)
    x = torch.randn(6, 2, 3, 3, generator=random, dtype=torch.float64)
    return nn.functional.mse_loss(model(x), x[:, :, 1, 1].sin())


def settings_of(name, choice, **options):
    """What an optimizer gets, and what its reference gets in addition."""
    how = dict(TABLE[name])
    given = {**choice[how["form"]], **options}
    extra = {"form": how.pop("form")}
    if "divide_by" in how:
        extra["divide_by"] = how.pop("divide_by")
        if extra["divide_by"] == "curvature":
            given["adam_bound"] = 0.5 if choice is FORMS else math.inf
    if name.startswith("scaled-") and extra["form"] == "momentum":
        how["curvature_beta"] = 0.9
    if "adahessian" in name:
        how["hessian_power"] = 0.75
    return {**given, **how}, extra


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "maximize": True}], ids=str)
@pytest.mark.parametrize("name", TABLE)
def test_40_steps_are_those_of_the_equations(name, options):
    cls = optim.get(name)
    if options and cls.curvature:
        options = {**options, "curvature_every": 3}
    model = convolution()
    layers = [model[0], model[3:]]
    chosen = [settings_of(name, choice, **options) for choice in (FORMS, OTHERS)]
    optimizer = cls(
        [{"params": x.parameters(), **given} for x, (given, _) in zip(layers, chosen, strict=True)]
    )
    thetas = [[p.detach().clone() for p in layer.parameters()] for layer in layers]
    states = [[{} for _ in part] for part in thetas]
    for step in range(40):
        optimizer.zero_grad()
        torch.manual_seed(step)
        loss_of(model, step).backward()
        for layer, part, state, (given, extra) in zip(layers, thetas, states, chosen, strict=True):
            grads = [p.grad.clone() for p in layer.parameters()]
            hessians = [getattr(p, "hess_diag", None) for p in layer.parameters()]
            if cls.curvature is None or step % options.get("curvature_every", 1):
                assert all(h is None for h in hessians)
            reference_step(part, grads, hessians, state, **given, **extra)
        optimizer.step()
        for layer, part in zip(layers, thetas, strict=True):
            for p, theta in zip(layer.parameters(), part, strict=True):
                torch.testing.assert_close(p.detach(), theta, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "other"),
    [
        ({}, torch.optim.Adam),
        ({"maximize": True}, torch.optim.Adam),
        ({"weight_decay": 0.1}, torch.optim.AdamW),
        ({"weight_decay": 0.1, "maximize": True, "foreach": False}, torch.optim.AdamW),
    ],
)
@pytest.mark.parametrize("ours", [Adam, AdaHesScale])
def test_with_the_gradient_for_curvature_it_is_adam_of_torch(ours, settings, other):
    model, twin = network(), network()
    arguments = dict(lr=1e-3, betas=(0.8, 0.99), eps=1e-6, **settings)
    optimizer = ours(model.parameters(), **arguments)
    if ours is AdaHesScale:
        optimizer.register_step_pre_hook(
            lambda *_: [give_curvature(p, p.grad) for p in model.parameters()] and None
        )
    settings = {"weight_decay": 0.0, **settings}
    train(model, optimizer, range(100))
    train(twin, other(twin.parameters(), **{**arguments, **settings}), range(100))
    assert_same_parameters(model, twin, 1e-12)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"weight_decay": 0.1},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.5, "maximize": True},
        {"momentum": 0.9, "nesterov": True, "foreach": False},
    ],
)
def test_sgd_is_that_of_torch(settings):
    model, twin = network(), network()
    train(model, SGD(model.parameters(), lr=1e-2, **settings), range(100))
    train(twin, torch.optim.SGD(twin.parameters(), lr=1e-2, **settings), range(100))
    assert_same_parameters(model, twin, 1e-12)


def test_adahessian_averages_over_kernels_of_a_convolution_only():
    shapes = [(2, 3, 2, 2), (3, 4), (5,), (2, 2, 3), (1, 2, 2, 2, 2)]
    params = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    optimizer = optim.AdaHessian(params, betas=(0.9, 0.0))
    torch.manual_seed(0)
    hessians = [torch.randn(shape) for shape in shapes]
    for p, hess in zip(params, hessians, strict=True):
        p.grad = torch.ones_like(p)
        give_curvature(p, hess)
    optimizer.step()
    kernels, *others = [optimizer.state[p]["exp_hess_sq"] for p in params]
    torch.testing.assert_close(kernels[1, 2], hessians[0][1, 2].abs().mean().square().expand(2, 2))
    for other, hess in zip(others, hessians[1:], strict=True):
        torch.testing.assert_close(other, hess.square())
    off = optim.AdaHessian(params[:1], betas=(0.9, 0.0), spatial_averaging=False)
    off.step()
    torch.testing.assert_close(off.state[params[0]]["exp_hess_sq"], hessians[0].square())
