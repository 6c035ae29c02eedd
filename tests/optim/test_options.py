"""Options: foreach, tensor lr, decay, lazy curvature."""

import copy
import itertools

import pytest
import torch
from torch import nn

from hesrl.curvature import is_armed
from hesrl.optim import AdaHesScale, ScaledAdaHesScale
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


@CURVED
@pytest.mark.parametrize("intervals", [(3, 2, 2), (1, 3, 1), (4, 1, 5), (2, 5, 3)], ids=str)
def test_the_interval_may_change_at_any_step(optimizer_class, intervals):
    """A step takes the curvature of its backward pass, if both intervals ask for one."""
    model = network()
    optimizer = optimizer_class(model.parameters(), lr=1e-2, curvature_every=intervals[0])
    taken = 0
    for step in range(12):
        optimizer.param_groups[0]["curvature_every"] = intervals[step // 4]
        had = is_armed(model[0].weight)
        taken += had and step % intervals[step // 4] == 0
        train(model, optimizer, [step])
    state = optimizer.state[model[0].weight]
    assert state["hess_count"] == taken > 3
    assert all(p.isfinite().all() for p in model.parameters())
