"""What all optimizers share: the step against torch's Adam, state, groups, errors."""

import copy
import io
import math
import pickle
import re

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LinearLR

from hesrl.curvature import give_curvature
from hesrl.optim import AdaHesScale, Adam

BOTH = pytest.mark.parametrize("optimizer_class", [Adam, AdaHesScale])


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def loss_of(model, step):
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    return (model(x) - x[:, :2].sin()).square().mean()


def groups(model):
    first, last = model[0], model[2]
    return [
        {"params": first.parameters(), "lr": 1e-2},
        {"params": last.parameters(), "betas": (0.5, 0.9), "eps": 1e-4},
    ]


def train(model, optimizer, steps, scheduler=None):
    """Take the steps with the given numbers; a plain torch training loop."""
    for step in steps:
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def assert_same_parameters(model, other, tolerance=0.0):
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=tolerance, atol=tolerance)


def test_adam_equals_that_of_torch():
    ours, theirs = network(), network()
    train(ours, Adam(groups(ours), lr=1e-3), range(100))
    train(theirs, torch.optim.Adam(groups(theirs), lr=1e-3), range(100))
    assert_same_parameters(ours, theirs, 1e-12)


def test_adahesscale_with_the_gradient_for_curvature_equals_adam_of_torch():
    ours, theirs = network(), network()
    optimizer = AdaHesScale(groups(ours), lr=1e-3)
    for step in range(100):
        optimizer.zero_grad()
        loss_of(ours, step).backward()
        for p in ours.parameters():
            give_curvature(p, p.grad)
        optimizer.step()
    train(theirs, torch.optim.Adam(groups(theirs), lr=1e-3), range(100))
    assert_same_parameters(ours, theirs, 1e-12)


@BOTH
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


@BOTH
def test_state_goes_through_a_file_to_a_fresh_optimizer(optimizer_class):
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
    fresh = optimizer_class(groups(other), lr=1.0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    train(model, optimizer, range(5, 10))
    train(other, fresh, range(5, 10))
    assert_same_parameters(model, other)
    assert fresh.param_groups[1]["lr"] == 1e-3


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda pair: pickle.loads(pickle.dumps(pair))}


@BOTH
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


@BOTH
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


@BOTH
def test_step_calls_the_closure_and_returns_its_loss(optimizer_class):
    model, other = network(), network()
    optimizer = optimizer_class(model.parameters(), lr=1e-2)

    def closure():
        optimizer.zero_grad()
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


@BOTH
def test_zero_grad_clears_and_a_gradient_of_zeros_lets_the_averages_decay(optimizer_class):
    model = network()
    optimizer = optimizer_class(model.parameters(), betas=(0.5, 0.25))
    train(model, optimizer, [0])
    before = copy.deepcopy([optimizer.state[p] for p in model.parameters()])
    optimizer.zero_grad(set_to_none=False)
    assert all((p.grad == 0).all() for p in model.parameters())
    optimizer.step()
    for p, (_, m, v) in zip(model.parameters(), (old.values() for old in before), strict=True):
        _, new_m, new_v = optimizer.state[p].values()
        torch.testing.assert_close(new_m, 0.5 * m)
        torch.testing.assert_close(new_v, 0.25 * v)
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


@BOTH
def test_a_group_that_is_added_later_takes_the_defaults(optimizer_class):
    model, other = network(), network()
    optimizer = optimizer_class(model[0].parameters(), lr=1e-2, betas=(0.8, 0.9))
    optimizer.add_param_group({"params": model[2].parameters(), "eps": 1e-3})
    train(model, optimizer, range(5))
    whole = optimizer_class(
        [{"params": other[0].parameters()}, {"params": other[2].parameters(), "eps": 1e-3}],
        lr=1e-2,
        betas=(0.8, 0.9),
    )
    train(other, whole, range(5))
    assert_same_parameters(model, other)
    assert optimizer.param_groups[1]["betas"] == (0.8, 0.9)


@BOTH
def test_parameters_may_be_named(optimizer_class):
    model, other = network(), network()
    optimizer = optimizer_class(model.named_parameters(), lr=1e-2)
    train(model, optimizer, range(3))
    train(other, optimizer_class(other.parameters(), lr=1e-2), range(3))
    assert_same_parameters(model, other)
    assert optimizer.param_groups[0]["param_names"] == ["0.weight", "0.bias", "2.weight", "2.bias"]


BAD = [
    ("lr", -1e-3),
    ("lr", math.nan),
    ("lr", math.inf),
    ("lr", "1e-3"),
    ("lr", None),
    ("betas", (-0.1, 0.9)),
    ("betas", (0.9, 1.0)),
    ("betas", (0.9,)),
    ("betas", (0.9, "0.9")),
    ("betas", 0.9),
    ("eps", -1e-8),
    ("eps", math.nan),
    ("eps", "1e-8"),
]


@BOTH
@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_hyperparameter_is_named_with_its_value(optimizer_class, name, value):
    params = list(network().parameters())
    message = f"^{optimizer_class.__name__}: {name} must be .*, not {re.escape(repr(value))}$"
    with pytest.raises(ValueError, match=message):
        optimizer_class(params, **{name: value})
    with pytest.raises(ValueError, match=message):
        optimizer_class([{"params": params[:2]}, {"params": params[2:], name: value}])
    optimizer = optimizer_class(params[:2])
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": params[2:], name: value})
    assert len(optimizer.param_groups) == 1


@BOTH
def test_sparse_gradients_are_refused(optimizer_class):
    weight = nn.Parameter(torch.ones(4, 2))
    optimizer = optimizer_class([weight])
    weight.grad = torch.sparse_coo_tensor([[1]], [[1.0, 2.0]], (4, 2), check_invariants=True)
    with pytest.raises(RuntimeError, match=f"^{optimizer_class.__name__} does not take sparse"):
        optimizer.step()
    assert torch.equal(weight, torch.ones(4, 2))


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (Adam, AdaHesScale, "it has step, exp_avg, exp_avg_sq, but no exp_hess_sq"),
        (AdaHesScale, Adam, "it has step, exp_avg, exp_hess_sq, but no exp_avg_sq"),
    ],
)
def test_the_state_of_another_optimizer_is_refused(source, target, message):
    model, other = network(), network()
    optimizer = source(model.parameters(), lr=0.5)
    train(model, optimizer, range(2))
    fresh = target(other.parameters(), lr=1e-3)
    with pytest.raises(ValueError, match=message):
        fresh.load_state_dict(optimizer.state_dict())
    assert not fresh.state
    assert fresh.param_groups[0]["lr"] == 1e-3


def test_adam_takes_over_the_state_of_that_of_torch():
    ours, theirs = network(), network()
    optimizer = torch.optim.Adam(theirs.parameters(), lr=1e-2)
    train(theirs, optimizer, range(5))
    ours.load_state_dict(theirs.state_dict())
    fresh = Adam(ours.parameters())
    fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(theirs, optimizer, range(5, 10))
    train(ours, fresh, range(5, 10))
    assert_same_parameters(ours, theirs, 1e-12)


@pytest.mark.parametrize("optimizer_class", [torch.optim.Adam, Adam, AdaHesScale])
def test_a_training_loop_learns_with_one_line_changed(optimizer_class):
    model = network()
    optimizer = optimizer_class(model.parameters(), lr=1e-2)
    before = sum(loss_of(model, step).item() for step in range(1000, 1010))
    train(model, optimizer, range(300))
    assert sum(loss_of(model, step).item() for step in range(1000, 1010)) < before / 10
