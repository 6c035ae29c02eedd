"""Steps of parameters of half precision, and steps whose curvature is not finite."""

import copy
import io
import math

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

from hesrl.curvature import give_curvature
from hesrl.optim import AdaHesScale, ScaledAdaHesScale, ScaledSGD
from tests.optim.problems import CURVED, assert_same_parameters, loss_of, network, train

HALF = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])


def classifier(dtype):
    torch.manual_seed(0)
    layers = nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 20), nn.Tanh(), nn.Linear(20, 12)
    return nn.Sequential(*layers).to(dtype)


def run(optimizer_class, dtype, steps, eps=1e-8):
    """Train and return how many weights are not finite."""
    model = classifier(dtype)
    optimizer = optimizer_class(model.parameters(), lr=1e-3, eps=eps)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(32, 16, generator=generator).to(dtype)
        target = torch.randint(12, (32,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), target).backward()
        optimizer.step()
    return sum(int((~p.isfinite()).sum()) for p in model.parameters())


@HALF
@pytest.mark.parametrize("optimizer_class", [AdaHesScale, ScaledAdaHesScale])
def test_a_network_of_half_precision_stays_finite(optimizer_class, dtype):
    assert run(optimizer_class, dtype, 100) == 0


def test_torchs_adam_does_not_with_its_eps():
    """So that the test above can fail."""
    assert run(torch.optim.Adam, torch.float16, 1) > 100


@HALF
@pytest.mark.parametrize("optimizer_class", [AdaHesScale, ScaledAdaHesScale, ScaledSGD])
@pytest.mark.parametrize("capturable", [False, True])
def test_squares_of_half_precision_do_not_overflow(optimizer_class, dtype, capturable):
    weight = nn.Parameter(torch.ones(3, dtype=dtype))
    options = {"delta": 1e9} if optimizer_class is not AdaHesScale else {}
    options |= {"lr": 1e-3} if optimizer_class is ScaledSGD else {"lr": 0.1}
    optimizer = optimizer_class([weight], weight_decay=0.1, capturable=capturable, **options)
    for _ in range(2):
        weight.grad = torch.tensor([1.0, -3000.0, 1e-4], dtype=dtype)
        give_curvature(weight, torch.tensor([1.0, -6000.0, 1e-5], dtype=dtype))
        optimizer.step()
    state = optimizer.state[weight]["exp_hess_sq"]
    assert state.dtype == torch.float32 and state.isfinite().all() and (state > 0).all()
    assert weight.dtype == dtype and weight.isfinite().all()
    assert weight[1] > 1


@HALF
def test_a_state_of_half_precision_is_resumed_bit_for_bit(dtype):
    model = network().to(dtype)
    optimizer = AdaHesScale(model.parameters(), lr=1e-2)

    def go_on(model, optimizer, steps):
        for step in steps:
            optimizer.zero_grad()
            x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step)).to(dtype)
            nn.functional.mse_loss(model(x), x[:, :2].sin()).backward()
            optimizer.step()

    go_on(model, optimizer, range(3))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    other = copy.deepcopy(model)
    fresh = AdaHesScale(other.parameters())
    fresh.load_state_dict(torch.load(file, weights_only=True))
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        for name, value in optimizer.state[p].items():
            loaded = fresh.state[q][name]
            assert loaded.dtype == value.dtype and torch.equal(loaded, value)
            assert loaded is not value
    go_on(model, optimizer, range(3, 6))
    go_on(other, fresh, range(3, 6))
    assert_same_parameters(model, other)


@CURVED
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("named", [False, True])
def test_a_curvature_that_is_not_finite_is_refused(optimizer_class, bad, named):
    model = network()
    layers = model[0], model[2]
    groups = [
        {"params": layer.named_parameters() if named else layer.parameters()} for layer in layers
    ]
    optimizer = optimizer_class(groups, lr=0.1)
    train(model, optimizer, range(2))
    optimizer.zero_grad()
    loss_of(model, 3).backward()
    model[2].weight.hess_diag[1, 2] = bad
    before, state = copy.deepcopy(model), copy.deepcopy(optimizer.state_dict()["state"])
    name = "weight" if named else "parameter 0"
    with pytest.raises(
        FloatingPointError, match=rf"^the curvature of {name} of shape .* in 1 entries in"
    ):
        optimizer.step()
    assert_same_parameters(model, before)
    torch.testing.assert_close(optimizer.state_dict()["state"], state, rtol=0, atol=0)
    optimizer.zero_grad()
    train(model, optimizer, range(1))
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_curvature_whose_square_overflows_is_taken():
    weight = nn.Parameter(torch.ones(3))
    optimizer = AdaHesScale([weight])
    weight.grad = torch.ones(3)
    give_curvature(weight, torch.tensor([1.0, 1e30, 1.0]))
    optimizer.step()
    assert weight.isfinite().all()


def test_where_the_gradient_is_not_finite_either_it_is_torchs_step():
    weight = nn.Parameter(torch.ones(3))
    optimizer = AdaHesScale([weight])
    weight.grad = torch.tensor([1.0, math.nan, 1.0])
    give_curvature(weight, torch.tensor([1.0, math.nan, 1.0]))
    optimizer.step()
    assert weight.isfinite().tolist() == [True, False, True]


def test_a_scaler_skips_such_a_step():
    model = network()
    optimizer, scaler = AdaHesScale(model.parameters()), GradScaler("cpu", init_scale=4.0)
    scaler.scale(loss_of(model, 0)).backward()
    model[0].bias.hess_diag[0] = math.nan
    before = copy.deepcopy(model)
    scaler.step(optimizer)
    assert_same_parameters(model, before)
