"""What torch asks of an optimizer, of all of them: state, groups, schedulers, closures, copies."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, LinearLR, OneCycleLR, SequentialLR

from hesrl.optim import SGD, AdaHesScale, Adam, Adaptive, ScaledAdaHesScale, ScaledAdam
from tests.optim.problems import EACH, assert_same_parameters, groups, loss_of, network, train

COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda pair: pickle.loads(pickle.dumps(pair))}


@EACH
def test_parameters_without_gradient_are_skipped(optimizer_class):
    model = network()
    unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
    model[0].bias.requires_grad_(False)
    frozen = model[0].bias.clone()
    optimizer = optimizer_class([*model.parameters(), unused], lr=0.1)
    train(model, optimizer, range(3))
    assert torch.equal(unused, torch.ones_like(unused))
    assert torch.equal(model[0].bias, frozen)
    assert set(optimizer.state) == {p for p in model.parameters() if p.requires_grad}


@EACH
def test_state_goes_through_a_file_to_a_fresh_optimizer_in_the_middle_of_a_run(optimizer_class):
    model = network()
    optimizer = optimizer_class(groups(model), lr=1e-3)
    train(model, optimizer, range(5))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    other = copy.deepcopy(model)
    fresh = optimizer_class(other.parameters(), lr=1.0)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        fresh.load_state_dict(optimizer.state_dict())
    fresh = optimizer_class(groups(other, weight_decay=0.3), lr=1.0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    train(model, optimizer, range(5, 10))
    train(other, fresh, range(5, 10))
    assert_same_parameters(model, other)
    assert fresh.param_groups[1]["lr"] == 1e-3
    assert fresh.param_groups[1]["weight_decay"] == 0.1


@EACH
@pytest.mark.parametrize("way", COPIES)
def test_a_copy_of_model_and_optimizer_goes_on_by_itself(optimizer_class, way):
    model = network()
    optimizer = optimizer_class(groups(model), lr=1e-3)
    train(model, optimizer, range(5))
    before = copy.deepcopy(model)
    other, other_optimizer = COPIES[way]((model, optimizer))
    train(other, other_optimizer, range(5, 10))
    assert_same_parameters(model, before)
    train(model, optimizer, range(5, 10))
    assert_same_parameters(model, other)
    assert not torch.equal(other[0].weight, before[0].weight)


@EACH
def test_a_scheduler_sets_the_step_size(optimizer_class):
    model, other = network(), network()
    optimizer = optimizer_class(model.parameters(), lr=1e-2)
    train(model, optimizer, range(5), LinearLR(optimizer, 1.0, 0.2, total_iters=4))
    by_hand = optimizer_class(other.parameters(), lr=1e-2)
    for step, factor in enumerate([1.0, 0.8, 0.6, 0.4, 0.2]):
        by_hand.param_groups[0]["lr"] = 1e-2 * factor
        train(other, by_hand, [step])
    assert_same_parameters(model, other, 1e-12)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(2e-3)


@EACH
def test_schedulers_may_cycle_momentum_and_follow_each_other(optimizer_class):
    model = network()
    optimizer = optimizer_class(model.parameters(), lr=1e-2)
    cycles = issubclass(optimizer_class, Adaptive)
    cycle = OneCycleLR(optimizer, 0.1, total_steps=9, cycle_momentum=cycles)
    train(model, optimizer, range(8), cycle)
    if cycles:
        assert optimizer.param_groups[0]["betas"][0] != 0.9
    decay = SequentialLR(optimizer, [ExponentialLR(optimizer, 0.5) for _ in range(2)], [2])
    train(model, optimizer, range(4), decay)
    assert all(p.isfinite().all() for p in model.parameters())


@EACH
def test_step_calls_the_closure_and_returns_its_loss(optimizer_class):
    model, other = network(), network()
    optimizer = optimizer_class(model.parameters(), lr=1e-2)

    def closure():
        optimizer.zero_grad()
        torch.manual_seed(0)
        loss = loss_of(model, 0)
        loss.backward()
        return loss

    with torch.no_grad():
        returned = optimizer.step(closure)
    assert torch.equal(returned, loss_of(other, 0))
    train(other, optimizer_class(other.parameters(), lr=1e-2), [0])
    assert_same_parameters(model, other)
    optimizer.zero_grad()
    assert optimizer.step() is None


@EACH
def test_zero_grad_clears_and_a_gradient_of_zeros_lets_the_averages_decay(optimizer_class):
    model = network()
    optimizer = optimizer_class(model.parameters())
    train(model, optimizer, [0])
    before = copy.deepcopy([optimizer.state[p] for p in model.parameters()])
    optimizer.zero_grad(set_to_none=False)
    assert all((p.grad == 0).all() for p in model.parameters())
    optimizer.step()
    decays = {"exp_avg": 0.9, "exp_avg_sq": 0.999, "exp_hess_sq": 0.999}
    for p, old in zip(model.parameters(), before, strict=True):
        for name in old.keys() & decays:
            torch.testing.assert_close(optimizer.state[p][name], decays[name] * old[name])
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


@EACH
def test_a_group_that_is_added_later_takes_the_defaults(optimizer_class):
    model, other = network(), network()
    optimizer = optimizer_class(model[0].parameters(), lr=1e-2, maximize=True)
    optimizer.add_param_group({"params": model[2].parameters(), "weight_decay": 0.1})
    train(model, optimizer, range(5))
    parts = [
        {"params": other[0].parameters()},
        {"params": other[2].parameters(), "weight_decay": 0.1},
    ]
    train(other, optimizer_class(parts, lr=1e-2, maximize=True), range(5))
    assert_same_parameters(model, other)
    assert optimizer.param_groups[1]["maximize"] is True


@EACH
def test_parameters_may_be_named(optimizer_class):
    model, other = network(), network()
    optimizer = optimizer_class(model.named_parameters(), lr=1e-2)
    train(model, optimizer, range(3))
    train(other, optimizer_class(other.parameters(), lr=1e-2), range(3))
    assert_same_parameters(model, other)
    assert optimizer.param_groups[0]["param_names"] == ["0.weight", "0.bias", "2.weight", "2.bias"]


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (Adam, AdaHesScale, "it has step, exp_avg, exp_avg_sq, but no exp_hess_sq"),
        (AdaHesScale, Adam, "it has step, exp_avg, exp_hess_sq, exp_grad_sq, but no exp_avg_sq"),
        (Adam, ScaledAdam, "it has step, exp_avg, exp_avg_sq, but no exp_hess_sq"),
        (SGD, Adam, "it has momentum_buffer, but no step"),
    ],
)
def test_the_state_of_another_optimizer_is_refused(source, target, message):
    model, other = network(), network()
    optimizer = source(model.parameters(), lr=0.5, **({"momentum": 0.9} if source is SGD else {}))
    train(model, optimizer, range(2))
    fresh = target(other.parameters(), lr=1e-3)
    with pytest.raises(ValueError, match=message):
        fresh.load_state_dict(optimizer.state_dict())
    assert not fresh.state
    assert fresh.param_groups[0]["lr"] == 1e-3


OLD_OPTIONS = ("weight_decay", "maximize", "foreach", "capturable", "curvature_every")


@pytest.mark.parametrize("optimizer_class", [Adam, AdaHesScale])
def test_a_state_from_before_there_were_options_loads(optimizer_class):
    model, other = network(), network()
    optimizer = optimizer_class(model.parameters(), lr=1e-2)
    train(model, optimizer, range(5))
    other.load_state_dict(model.state_dict())
    old = copy.deepcopy(optimizer.state_dict())
    for name in OLD_OPTIONS:
        del old["param_groups"][0][name]
    fresh = optimizer_class(other.parameters(), capturable=True)
    fresh.load_state_dict(old)
    train(model, optimizer, range(5, 10))
    train(other, fresh, range(5, 10))
    assert_same_parameters(model, other, 1e-12)
    assert fresh.param_groups[0]["capturable"] is True


def test_plain_and_scaled_share_their_state():
    model, other = network(), network()
    optimizer = AdaHesScale(model.parameters(), lr=1e-2)
    train(model, optimizer, range(5))
    other.load_state_dict(model.state_dict())
    scaled = ScaledAdaHesScale(other.parameters(), delta=1e9)
    scaled.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, range(5, 10))
    train(other, scaled, range(5, 10))
    assert_same_parameters(model, other, 1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs", "settings"),
    [
        (Adam, torch.optim.Adam, {}),
        (Adam, torch.optim.AdamW, {"weight_decay": 0.1}),
        (SGD, torch.optim.SGD, {"momentum": 0.9}),
    ],
)
def test_the_state_of_torchs_optimizer_goes_both_ways(ours, theirs, settings):
    model, other = network(), network()
    optimizer = theirs(other.parameters(), lr=1e-2, **settings)
    train(other, optimizer, range(5))
    model.load_state_dict(other.state_dict())
    fresh = ours(model.parameters())
    fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(other, optimizer, range(5, 10))
    train(model, fresh, range(5, 10))
    assert_same_parameters(model, other, 1e-12)
    back = theirs(other.parameters())
    back.load_state_dict(copy.deepcopy(fresh.state_dict()))
    train(other, back, range(10, 15))
    train(model, fresh, range(10, 15))
    assert_same_parameters(model, other, 1e-12)


@EACH
def test_a_training_loop_learns_with_one_line_changed(optimizer_class):
    model = network()
    rate = 1e-2 if issubclass(optimizer_class, Adaptive) else 0.3
    options = {"delta": 1e-2} if "Scaled" in optimizer_class.__name__ else {}
    before = sum(loss_of(model, step).item() for step in range(1000, 1010))
    train(model, optimizer_class(model.parameters(), lr=rate, **options), range(300))
    assert sum(loss_of(model, step).item() for step in range(1000, 1010)) < before / 5


@EACH
def test_a_state_that_is_made_before_the_first_step_changes_no_step(optimizer_class):
    model, other = network(), network()
    settings = {"momentum": 0.9} if issubclass(optimizer_class, SGD) else {}
    optimizer = optimizer_class(other.parameters(), **settings)
    optimizer.init_state()
    assert all(p in optimizer.state for p in other.parameters())
    train(model, optimizer_class(model.parameters(), **settings), range(3))
    train(other, optimizer, range(3))
    assert_same_parameters(model, other)


def test_a_dampening_needs_a_first_step():
    optimizer = SGD(network().parameters(), momentum=0.9, dampening=0.5)
    with pytest.raises(ValueError, match=r"^SGD with a dampening must take a step before one is "):
        optimizer.init_state()
