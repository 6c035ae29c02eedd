"""Replayed and compiled steps are the eager ones."""

import copy
import math

import pytest
import torch

from hesrl import optim
from hesrl.curvature import arm, backward
from hesrl.train_step import TrainStep
from hesrl.train_step.recorded_step import RecordedStep
from tests.train_step.steps import (
    N,
    Separate,
    Shared,
    VarianceNetwork,
    assert_equal_state,
    make,
    step_params,
    take,
)

EACH = pytest.mark.parametrize(
    ("network", "name", "clip"),
    [
        (Separate, "adam", 0.1),
        (Separate, "adahesscale", 0.1),
        (Separate, "adahesscalegn", math.inf),
        (Separate, "adahessian", math.inf),
        (Separate, "scaled-sgd", math.inf),
        (Shared, "adam", math.inf),
        (Shared, "scaled-adahesscale", 0.1),
        (VarianceNetwork, "adahesscale", math.inf),
    ],
)


@EACH
def test_a_replayed_step_is_the_eager_one_bit_for_bit(network, name, clip):
    dtype = torch.float64 if network is Shared else torch.float32
    ends, lr = [], torch.tensor(0.01, dtype=torch.float64)
    for how in ("auto", "off"):
        step, optimizer, _, batch = make(
            network, name, dtype, compile=how, max_grad_norm=clip, lr=lr, capturable=True
        )
        torch.manual_seed(1)
        ends.append((optimizer, take(step, batch, 10), torch.get_rng_state()))
        assert step.tier == ("replayed" if how == "auto" else "eager")
    (replayed, metrics, random), (eager, expected, other_random) = ends
    assert all(map(torch.equal, metrics, expected))
    assert torch.equal(random, other_random)
    assert_equal_state(replayed, eager, rtol=0, atol=0)


@EACH
def test_a_step_to_be_compiled_is_the_eager_one(interpreted, network, name, clip):
    ends = []
    for how in ("on", "off"):
        step, optimizer, _, batch = make(network, name, compile=how, max_grad_norm=clip)
        torch.manual_seed(1)
        ends.append((optimizer, take(step, batch, 3)))
        assert step.is_compiled == (how == "on")
    (recorded, metrics), (eager, expected) = ends
    torch.testing.assert_close(metrics, expected, rtol=1e-11, atol=1e-12)
    assert_equal_state(recorded, eager, rtol=1e-10, atol=1e-11)


def test_the_learning_rate_follows_schedules_and_assignments(interpreted):
    ends = []
    for how in ("on", "auto", "off"):
        step, optimizer, _, batch = make(compile=how)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for _ in range(3):
            take(step, batch, 1)
            scheduler.step()
        optimizer.param_groups[0]["lr"] = 0.25
        take(step, batch, 1)
        assert step.is_compiled == (how == "on")
        ends.append(optimizer)
    for other in ends[1:]:
        assert_equal_state(ends[0], other, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("how", ["on", "auto"])
def test_a_resumed_run_goes_on_bit_for_bit(interpreted, how):
    step, optimizer, net, batch = make(compile=how)
    take(step, batch, 3)
    resumed, other_optimizer, other_net, _ = make(compile=how, seed=1)
    other_net.load_state_dict(net.state_dict())
    other_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one in (step, resumed):
        take(one, batch, 2, seed=3)
    assert resumed.tier == step.tier == ("compiled" if how == "on" else "replayed")
    assert_equal_state(optimizer, other_optimizer, rtol=0, atol=0)


def test_a_state_loaded_later_is_the_one_that_is_stepped(interpreted):
    step, optimizer, _, batch = make(compile="on")
    take(step, batch, 3)
    saved = copy.deepcopy(optimizer.state_dict())
    params = [p.detach().clone() for p in step_params(optimizer)]
    take(step, batch, 2, seed=4)
    expected = [p.detach().clone() for p in step_params(optimizer)]
    optimizer.load_state_dict(saved)
    with torch.no_grad():
        torch._foreach_copy_(step_params(optimizer), params)
    take(step, batch, 2, seed=4)
    assert all(map(torch.equal, step_params(optimizer), expected))


def test_other_shapes_take_eager_steps(interpreted):
    step, _, net, batch = make(compile="on")
    take(step, batch, 2)
    before = net.logstd.clone()
    step(batch, torch.arange(3))
    assert step.is_compiled
    assert not torch.equal(net.logstd, before)
    with pytest.raises(ValueError, match="advantages must have shape"):
        step([*batch[:3], batch[3][:, None], *batch[4:]], torch.arange(N))


def test_tensors_of_the_loss_are_read_at_every_step(interpreted):
    step, _, net, batch = make(compile="on")
    scale = torch.ones((), dtype=torch.float64)
    step._loss_fn = lambda *minibatch: (net.loss(*minibatch)[0] * scale, (scale * 2,))
    take(step, batch, 2)
    scale.fill_(3)
    assert take(step, batch, 1)[0] == 6


def test_quantities_of_the_backward_pass_follow_the_metrics(interpreted):
    ends = []
    for how in ("on", "off"):
        step, _, net, batch = make(compile=how)
        step._after_backward = lambda net=net: (net.logstd.hess_diag.sum(),)
        ends.append(take(step, batch, 2))
        assert len(ends[-1]) == 3
    torch.testing.assert_close(*ends, rtol=1e-11, atol=1e-12)


def test_impossible_values_reach_the_metrics_of_a_replayed_step():
    step, _, _, batch = make(compile="auto")
    take(step, batch, 2)
    batch[3][:] = math.nan
    assert take(step, batch, 1)[0].isnan()


def test_metrics_of_earlier_steps_stay():
    step, _, _, batch = make(compile="auto")
    take(step, batch, 2)
    (first, _), (second, _) = take(step, batch, 1), take(step, batch, 1, seed=1)
    assert first.data_ptr() != second.data_ptr()
    assert first != second


@pytest.mark.parametrize("name", ["adahesscale", "adahesscalegn", "scaled-adahesscale"])
def test_an_entry_whose_curvature_is_not_finite_stays_where_it_is(name):
    # At zero the slope is zero and the curvature ∞ − ∞.
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0, 1.0]))

    def loss_fn(x):
        y = weight * x
        loss = (y.pow(1.5) - 0.1 * (2 * y).pow(1.5)).sum()
        return loss, (loss.detach(),)

    optimizer = optim.get(name)([weight], lr=0.01)
    step = TrainStep(loss_fn, optimizer)
    batch = [torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])]
    for _ in range(3):
        step(batch, torch.tensor([0]))
    before = weight.tolist()
    step(batch, torch.tensor([1]))
    assert step.tier == "replayed"
    assert [a < b for a, b in zip(weight.tolist(), before, strict=True)] == [True, True, False]
    assert weight[2] == before[2]


def test_a_replayed_step_takes_the_curvature_of_a_split_backward_pass():
    def step(compile, **settings):
        torch.manual_seed(0)
        below, above = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)
        optimizer = optim.AdaHesScale([*below.parameters(), *above.parameters()], lr=0.01)

        def take_split(x):
            optimizer.zero_grad()
            out = below(x).tanh()
            d = out.detach().requires_grad_()
            arm([d])
            backward(above(d).square().mean())
            backward(out, d.grad, hess=d.hess_diag)
            optimizer.step()
            return (out.detach(),)

        recorded = RecordedStep(take_split, [optimizer], compile=compile, break_even=9, **settings)
        for _ in range(3):
            recorded(torch.arange(6.0).view(2, 3))
        return recorded, optimizer

    _, one = step("off")
    recorded, other = step("auto", report=pytest.fail)
    assert recorded.tier == "replayed"
    assert_equal_state(one, other, rtol=1e-5, atol=1e-7)
