"""Options: foreach, capturable, tensor lr, decay, lazy curvature, loss scaling."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

from hesrl.curvature import give_curvature, is_armed
from hesrl.optim import SGD, AdaHesScale, Adam, ScaledAdaHesScale
from tests.optim.problems import (
    CURVED,
    EACH,
    assert_same_parameters,
    groups,
    loss_of,
    network,
    train,
)

SETTINGS = {"lr": 1e-2, "weight_decay": 0.1}


@EACH
@pytest.mark.parametrize(
    "options",
    [
        {"foreach": True},
        {"foreach": False},
        {"capturable": True},
        {"lr": torch.tensor(1e-2, dtype=torch.float64)},
        {"lr": torch.tensor([1e-2], dtype=torch.float64), "capturable": True, "foreach": False},
    ],
    ids=["foreach", "for-loop", "capturable", "tensor-lr", "all"],
)
def test_the_ways_to_compute_a_step_agree(optimizer_class, options):
    model, other = network(), network()
    train(model, optimizer_class(groups(model), **SETTINGS), range(10))
    parts = groups(other)
    parts[0]["lr"] = options.get("lr", 1e-2)
    train(other, optimizer_class(parts, **{**SETTINGS, **options}), range(10))
    assert_same_parameters(model, other, 1e-12)


@EACH
def test_capturable_keeps_its_count_where_the_parameters_are_and_reads_no_number(optimizer_class):
    weight = nn.Parameter(torch.ones(3, device="meta"))
    optimizer = optimizer_class([weight], capturable=True, lr=torch.tensor(0.1))
    weight.grad = torch.ones(3, device="meta")
    if optimizer_class.curvature:
        give_curvature(weight, torch.ones(3, device="meta"))
    optimizer.step()  # a number that is read from a meta tensor is an error
    assert all(value.is_meta for value in optimizer.state[weight].values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("optimizer_class", [SGD, Adam, AdaHesScale, ScaledAdaHesScale])
def test_a_step_can_be_captured_in_a_cuda_graph(optimizer_class):
    model, other = (network().cuda() for _ in range(2))
    x = torch.randn(8, 3, dtype=torch.float64, device="cuda")
    optimizers = [
        optimizer_class(m.parameters(), lr=torch.tensor(1e-2, device="cuda"), capturable=True)
        for m in (model, other)
    ]

    def update(m, optimizer):
        optimizer.zero_grad()
        (m(x) - x[:, :2]).square().mean().backward()
        optimizer.step()

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        update(model, optimizers[0])
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        update(model, optimizers[0])
    for _ in range(5):
        graph.replay()
    for _ in range(6):
        update(other, optimizers[1])
    assert_same_parameters(model, other, 1e-10)


@EACH
def test_maximizing_is_minimizing_the_negative(optimizer_class):
    if optimizer_class.curvature == "ggn_mc":
        pytest.skip("the negative of a loss is that of no likelihood")
    model, other = network(), network()
    optimizer = optimizer_class(model.parameters(), lr=1e-2, maximize=True)
    opposite = optimizer_class(other.parameters(), lr=1e-2)
    for step in range(5):
        for m, opt, sign in ((model, optimizer, 1), (other, opposite, -1)):
            opt.zero_grad()
            torch.manual_seed(step)
            (sign * loss_of(m, step)).backward()
            opt.step()
    assert_same_parameters(model, other, 1e-12)


@EACH
def test_weight_decay_shrinks_parameters_apart_from_the_gradient(optimizer_class):
    weight = nn.Parameter(torch.tensor([2.0, -4.0]))
    optimizer = optimizer_class([weight], lr=0.1, weight_decay=0.5)
    weight.grad = torch.zeros(2)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([1.9, -3.8]))


@pytest.mark.parametrize("optimizer_class", [AdaHesScale, ScaledAdaHesScale])
def test_lazy_curvature_arms_for_every_kth_step_only(optimizer_class):
    model = network()
    optimizer = optimizer_class(model.parameters(), curvature_every=3)
    armed, averages = [], []
    for step in range(8):
        armed.append([is_armed(p) for p in model.parameters()])
        train(model, optimizer, [step])
        averages.append(optimizer.state[model[0].weight]["exp_hess_sq"].clone())
    assert armed == [[step % 3 == 0] * 4 for step in range(8)]
    changed = [not torch.equal(old, new) for old, new in itertools.pairwise(averages)]
    assert changed == [step % 3 == 0 for step in range(1, 8)]
    assert optimizer.state[model[0].weight]["hess_count"] == 3


@CURVED
def test_lazy_curvature_goes_through_a_state_dict_and_a_copy(optimizer_class):
    model = network()
    optimizer = optimizer_class(model.parameters(), lr=1e-2, curvature_every=3)
    train(model, optimizer, range(5))
    other = copy.deepcopy(model)
    fresh = optimizer_class(other.parameters())
    fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    third, third_optimizer = copy.deepcopy((model, optimizer))
    assert not any(is_armed(p) for m in (model, other, third) for p in m.parameters())
    for m, opt in ((model, optimizer), (other, fresh), (third, third_optimizer)):
        train(m, opt, range(5, 12))
    assert_same_parameters(model, other)
    assert_same_parameters(model, third)


def test_a_parameter_that_joins_late_has_its_first_curvature_at_its_first_step():
    model = network()
    optimizer = AdaHesScale(model.parameters(), lr=1e-2, curvature_every=4)
    model[0].requires_grad_(False)
    train(model, optimizer, range(2))
    model[0].requires_grad_(True)
    train(model, optimizer, range(2, 4))
    counts = [optimizer.state[p]["hess_count"] for p in model.parameters()]
    steps = [optimizer.state[p]["step"].item() for p in model.parameters()]
    assert (counts, steps) == ([1, 1, 1, 1], [2, 2, 4, 4])


def test_a_run_that_turns_lazy_counts_the_curvatures_it_has_seen():
    model = network()
    optimizer = AdaHesScale(model.parameters())
    train(model, optimizer, range(4))
    optimizer.param_groups[0]["curvature_every"] = 2
    train(model, optimizer, range(4, 9))
    assert all(optimizer.state[p]["hess_count"] == 4 + 3 for p in model.parameters())


def test_a_run_that_is_lazy_no_longer_takes_every_curvature_but_the_next():
    model = network()
    optimizer = AdaHesScale(model.parameters(), curvature_every=3)
    train(model, optimizer, range(5))
    optimizer.param_groups[0]["curvature_every"] = 1
    train(model, optimizer, range(5, 9))
    assert all(optimizer.state[p]["hess_count"] == 2 + 3 for p in model.parameters())


@EACH
@pytest.mark.parametrize("clip", [False, True])
def test_loss_scaling_changes_nothing(optimizer_class, clip):
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


@pytest.mark.parametrize("which", ["grad", "hess_diag"])
def test_loss_scaling_skips_a_step_whose_derivatives_overflow(which):
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


def test_a_disabled_scaler_leaves_curvature_alone():
    model, scaler = network(), GradScaler("cpu", enabled=False)
    optimizer = AdaHesScale(model.parameters())
    scaler.scale(loss_of(model, 0)).backward()
    before = [p.hess_diag.clone() for p in model.parameters()]
    scaler.unscale_(optimizer)
    assert all(torch.equal(p.hess_diag, h) for p, h in zip(model.parameters(), before, strict=True))
