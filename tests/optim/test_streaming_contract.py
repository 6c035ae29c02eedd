"""Streaming optimizers keep torch's contract: state, groups and capture."""

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from hesrl.optim import IntentionalKL, IntentionalPolicy, IntentionalValue, ObGD
from tests.optim.replay import Recorder

ALL = [IntentionalValue, IntentionalPolicy, IntentionalKL, ObGD]
EACH = pytest.mark.parametrize("optimizer_class", ALL, ids=lambda cls: cls.__name__)
INTENTIONAL = pytest.mark.parametrize("optimizer_class", ALL[:3], ids=lambda cls: cls.__name__)


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).to(dtype)


def learn(model, optimizer, steps, wrap=lambda value: value):
    """Stream over episodes of seven steps."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(3, generator=generator).to(model[0].weight.dtype)
        optimizer.zero_grad()
        (-model(x)).sum().backward()
        optimizer.step(wrap(math.sin(step)), wrap(step % 7 == 6))


def assert_equal(model, optimizer, other, twin):
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)
        assert optimizer.state[p].keys() == twin.state[q].keys()
        for name, value in optimizer.state[p].items():
            found = twin.state[q][name]
            assert value.dtype == found.dtype and torch.equal(value, found)


def through_a_file(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()))


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("capturable", [False, True])
def test_a_run_that_is_resumed_in_an_episode_goes_on_bit_for_bit(
    optimizer_class, dtype, capturable
):
    model = network(dtype)
    optimizer = optimizer_class(model.parameters(), capturable=capturable)
    learn(model, optimizer, range(10))
    other = copy.deepcopy(model)
    twin = optimizer_class(other.parameters())
    twin.load_state_dict(through_a_file(optimizer.state_dict()))
    for m, opt in ((model, optimizer), (other, twin)):
        learn(m, opt, range(10, 20))
    assert_equal(model, optimizer, other, twin)


@EACH
@pytest.mark.parametrize("how", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_goes_on_bit_for_bit_and_by_itself(optimizer_class, how):
    model = network()
    optimizer = optimizer_class(model.parameters(), gamma=0.9)
    learn(model, optimizer, range(10))
    other, twin = how((model, optimizer))
    learn(other, twin, range(10, 20))
    learn(model, optimizer, range(10, 20))
    assert_equal(model, optimizer, other, twin)


@EACH
def test_the_capturable_form_is_the_same_and_reads_no_number(optimizer_class):
    model, other, third = network(), network(), network()
    capturable = optimizer_class(third.parameters(), capturable=True, lr=torch.tensor(0.5))
    learn(other, plain := optimizer_class(other.parameters(), lr=0.5), range(30))
    del model, plain
    learn(third, capturable, range(30), torch.tensor)
    for p, q in zip(other.parameters(), third.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    third.zero_grad()
    third(torch.ones(3)).sum().backward()
    with Recorder():  # which refuses to read a number
        capturable.step(torch.tensor(1.0), torch.tensor(True))


@EACH
def test_state_lies_where_the_parameters_are(optimizer_class):
    weight = nn.Parameter(torch.ones(3, device="meta"))
    optimizer = optimizer_class([weight], capturable=True)
    weight.grad = torch.ones(3, device="meta")
    optimizer.step(torch.ones((), device="meta"), torch.ones((), device="meta"))
    assert all(value.is_meta for value in optimizer.state[weight].values())


@EACH
def test_a_reset_empties_a_trace_that_is_not_finite(optimizer_class):
    weight = nn.Parameter(torch.ones(2))
    optimizer = optimizer_class([weight], capturable=True)
    weight.grad = torch.tensor([math.nan, 1.0])
    optimizer.step(torch.tensor(1.0), torch.tensor(True))
    assert optimizer.state[weight]["eligibility_trace"].tolist() == [0.0, 0.0]


def test_a_group_that_joins_has_an_eta_and_a_scale_of_its_own():
    model = network()
    optimizer = IntentionalValue(model[0].parameters())
    learn(model, optimizer, range(3))
    optimizer.add_param_group({"params": model[2].parameters(), "eta": 0.1})
    learn(model, optimizer, range(3, 5))
    counts = [optimizer.state[layer.weight]["td_count"].item() for layer in (model[0], model[2])]
    assert counts == [5, 2]
    assert [group["eta"] for group in optimizer.param_groups] == [0.5, 0.1]


@EACH
def test_parameters_without_gradient_take_no_part(optimizer_class):
    model, other = network(), network()
    other[0].requires_grad_(False)
    learn(other, optimizer_class(other.parameters()), range(5))
    learn(model, optimizer_class(model[2].parameters()), range(5))
    assert torch.equal(model[2].weight, other[2].weight)
    assert torch.equal(model[0].weight, network()[0].weight)


@EACH
def test_a_scheduler_anneals_the_step(optimizer_class):
    model = network()
    optimizer = optimizer_class(model.parameters())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(step == 0))
    learn(model, optimizer, range(1))
    scheduler.step()
    before = copy.deepcopy(model)
    learn(model, optimizer, range(1, 4))
    assert all(map(torch.equal, model.parameters(), before.parameters()))


@EACH
def test_the_td_error_may_be_any_number(optimizer_class):
    """Of NumPy or a tensor, also one that a graph hangs on."""
    ends = []
    for kind in (float, np.float32, torch.tensor, lambda x: torch.ones(1, requires_grad=True) * x):
        model = network()
        learn(model, optimizer_class(model.parameters()), range(1))
        optimizer = optimizer_class(model.parameters())
        optimizer.step(kind(0.5), np.bool_(True))
        ends.append(list(model.parameters()))
        assert all((state["eligibility_trace"] == 0).all() for state in optimizer.state.values())
    assert all(all(map(torch.equal, ends[0], other)) for other in ends[1:])
