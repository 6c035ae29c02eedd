"""`torch.amp.GradScaler`: curvature is unscaled with the gradient, overflow skips the step."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

from hesrl.curvature import give_curvature, is_armed
from hesrl.optim import AdaBL89, AdaHesScale, Adam
from tests.optim.problems import CURVED, EACH, assert_same_parameters, groups, loss_of, network


@EACH
@pytest.mark.parametrize("clip", [False, True])
def test_it_changes_nothing(optimizer_class, clip):
    """With and without a call of unscale_ by the user, who clips the gradient after it."""
    model, other = network(), network()
    scaler = GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    optimizer, plain = (optimizer_class(groups(m), lr=1e-2) for m in (model, other))
    for step in range(6):
        torch.manual_seed(step)
        scaler.scale(loss_of(model, step)).backward()
        torch.manual_seed(step)
        loss_of(other, step).backward()
        if clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1e-2)
            nn.utils.clip_grad_norm_(other.parameters(), 1e-2)
        scaler.step(optimizer)
        scaler.update()
        plain.step()
        optimizer.zero_grad()
        plain.zero_grad()
    assert scaler.get_scale() > 1024
    assert_same_parameters(model, other, 1e-9)


@EACH
def test_a_scale_that_overflows_falls_until_a_step_is_taken(optimizer_class):
    model, other = network().float(), network().float()
    scaler = GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-20)
    optimizer, plain = (optimizer_class(m.parameters(), lr=1e-2) for m in (model, other))
    x, taken = torch.linspace(-1, 1, 24).view(8, 3), 0
    for step in range(6):
        before = model[0].weight.clone()
        torch.manual_seed(step)
        loss = nn.functional.mse_loss(model(x), 100 * x[:, :2])
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scale = scaler.get_scale()
        scaler.update()
        optimizer.zero_grad()
        if scaler.get_scale() < scale:
            assert torch.equal(model[0].weight, before)
            continue
        taken += 1
        torch.manual_seed(step)
        nn.functional.mse_loss(other(x), 100 * x[:, :2]).backward()
        plain.step()
        plain.zero_grad()
    assert 0 < taken < 6
    assert_same_parameters(model, other, 1e-5)
    assert all(state["step"] == taken for state in optimizer.state.values() if "step" in state)


@pytest.mark.parametrize("which", ["grad", "hess_diag"])
def test_a_step_whose_derivatives_overflow_is_skipped(which):
    model = network()
    before = copy.deepcopy(model)
    optimizer, scaler = AdaHesScale(model.parameters()), GradScaler("cpu", init_scale=1024.0)
    scaler.scale(loss_of(model, 0)).backward()
    getattr(model[2].bias, which)[0] = math.inf
    scaler.step(optimizer)
    scaler.update()
    assert_same_parameters(model, before)
    assert not optimizer.state
    assert scaler.get_scale() == 512
    optimizer.zero_grad()
    assert all(p.hess_diag is None for p in model.parameters())


@CURVED
def test_the_optimizer_is_left_as_it_was_even_by_an_error(optimizer_class):
    model = network()
    optimizer, scaler = optimizer_class(groups(model)), GradScaler("cpu", init_scale=1024.0)
    scaler.scale(loss_of(model, 0)).backward()
    scaled = [p.hess_diag.clone() for p in model.parameters()]
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.unscale_(optimizer)
    for p, hess in zip(model.parameters(), scaled, strict=True):
        torch.testing.assert_close(p.hess_diag, hess / 1024, rtol=1e-12, atol=0)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2]


def test_curvature_that_shares_the_memory_of_the_gradient_is_unscaled_once():
    weight = nn.Parameter(torch.ones(3))
    optimizer, scaler = AdaHesScale([weight]), GradScaler("cpu", init_scale=1024.0)
    scaler.scale(weight.sum()).backward()
    give_curvature(weight, weight.grad)
    scaler.unscale_(optimizer)
    assert torch.equal(weight.grad, torch.ones(3))
    assert torch.equal(weight.hess_diag, torch.ones(3))


def test_gradients_that_accumulate_are_unscaled_together():
    model, scaler = network(), GradScaler("cpu", init_scale=1024.0)
    optimizer = AdaHesScale(model.parameters())
    (loss_of(model, 0) + loss_of(model, 1)).backward()
    expected = [p.hess_diag.clone() for p in model.parameters()]
    optimizer.zero_grad()
    for step in range(2):
        scaler.scale(loss_of(model, step)).backward()
    scaler.unscale_(optimizer)
    for p, hess in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.hess_diag, hess, rtol=1e-12, atol=1e-14)


def test_optimizers_that_share_a_scaler_are_unscaled_apart():
    model, scaler = network(), GradScaler("cpu", init_scale=1024.0)
    first, second = AdaHesScale(model[0].parameters()), Adam(model[2].parameters())
    scaler.scale(loss_of(model, 0)).backward()
    before = model[0].weight.hess_diag.clone()
    scaler.unscale_(second)
    assert torch.equal(model[0].weight.hess_diag, before)
    scaler.unscale_(first)
    torch.testing.assert_close(model[0].weight.hess_diag, before / 1024, rtol=1e-12, atol=0)


def test_a_lazy_run_stays_disarmed():
    model, scaler = network(), GradScaler("cpu", init_scale=1024.0)
    optimizer = AdaBL89(model.parameters(), curvature_every=2)
    for step in range(4):
        scaler.scale(loss_of(model, step)).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert is_armed(model[0].weight) == (step % 2 == 1)
    assert all(state["hess_count"] == 2 for state in optimizer.state.values())


def test_a_disabled_scaler_leaves_curvature_alone():
    model, scaler = network(), GradScaler("cpu", enabled=False)
    optimizer = AdaHesScale(model.parameters())
    scaler.scale(loss_of(model, 0)).backward()
    before = [p.hess_diag.clone() for p in model.parameters()]
    scaler.unscale_(optimizer)
    assert all(torch.equal(p.hess_diag, h) for p, h in zip(model.parameters(), before, strict=True))


def test_optimizers_of_torch_are_scaled_as_ever():
    model, other = network(), network()
    Adam(network().parameters())  # from here on unscale_ is ours
    scaler = GradScaler("cpu", init_scale=1024.0)
    optimizer, plain = (torch.optim.Adam(m.parameters(), lr=1e-2) for m in (model, other))
    scaler.scale(loss_of(model, 0)).backward()
    scaler.step(optimizer)
    loss_of(other, 0).backward()
    plain.step()
    assert_same_parameters(model, other, 1e-9)
