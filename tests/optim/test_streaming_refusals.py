"""What streaming optimizers refuse, and what they say then."""

import math
import re

import pytest
import torch

from hesrl import optim
from hesrl.optim import Adam, IntentionalValue, ObGD
from tests.optim.test_streaming_contract import ALL, EACH, INTENTIONAL, learn, network


def changed(model, optimizer):
    values = [*model.parameters(), *(v for s in optimizer.state.values() for v in s.values())]
    return [value.detach().clone() for value in values]


@EACH
@pytest.mark.parametrize(
    ("kind", "message", "td_error", "break_it"),
    [
        (FloatingPointError, "td_error is nan", math.nan, None),
        (FloatingPointError, "td_error is -inf", torch.tensor(-math.inf), None),
        (TypeError, "td_error must be a number .* not a function; closures", lambda: 1.0, None),
        (TypeError, "td_error must be a tensor of one, not of shape \\(2,\\)", torch.ones(2), None),
        (FloatingPointError, "the gradient of parameter 2 of shape .* in 3 entr", 1.0, "nan"),
        (RuntimeError, "parameter 2 of shape .* has a trace but no gradient", 1.0, "none"),
        (RuntimeError, "does not take sparse gradients", 1.0, "sparse"),
    ],
)
def test_a_step_that_refuses_has_changed_nothing(
    optimizer_class, kind, message, td_error, break_it
):
    model = network()
    optimizer = optimizer_class(model.parameters())
    learn(model, optimizer, range(2))
    weight = model[2].weight
    if break_it == "nan":
        weight.grad[:, :3] = math.nan
    elif break_it:
        weight.grad = None if break_it == "none" else weight.grad.to_sparse()
    before = changed(model, optimizer)
    with pytest.raises(kind, match=message):
        optimizer.step(td_error)
    assert all(map(torch.equal, before, changed(model, optimizer)))


@EACH
def test_grad_scaler_is_refused(optimizer_class):
    model = network()
    optimizer = optimizer_class(model.parameters())
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(model(torch.ones(3)).sum()).backward()
    with pytest.raises(RuntimeError, match=f"^{optimizer_class.__name__} does not go with GradSc"):
        scaler.step(optimizer, 1.0)
    assert not optimizer.state


@INTENTIONAL
def test_a_parameter_without_curvature_is_refused(optimizer_class):
    model = network()
    optimizer = optimizer_class(model.parameters(), source="hesscale_gn")
    v = model(torch.ones(3)).sum()
    for p, grad in zip(model.parameters(), torch.autograd.grad(v, model.parameters()), strict=True):
        p.grad = grad
    with pytest.raises(RuntimeError, match=r"^parameter 0 of shape \(5, 3\) has a gradient but no"):
        optimizer.step(1.0)
    assert not optimizer.state


BAD = [
    *((name, bad) for name in ("gamma", "lamda") for bad in (-0.1, 1.1, math.nan, "0.9", None)),
    ("lr", -1.0),
]
OWN = [
    *((name, bad) for name in ("beta2", "td_beta") for bad in (-0.1, 1.0, math.nan)),
    *((name, bad) for name in ("eta", "td_clip") for bad in (0.0, -0.5, math.inf, math.nan, "1")),
    ("eps", -1e-8),
    ("damping", -0.1),
    ("power", 1.5),
    ("source", "fisher"),
    ("source", None),
]


@pytest.mark.parametrize(
    ("optimizer_class", "name", "value"),
    [
        *((cls, *bad) for cls in ALL for bad in BAD),
        *((cls, *bad) for cls in ALL[:3] for bad in OWN),
        (ObGD, "kappa", 0.0),
    ],
)
def test_a_bad_hyperparameter_is_named_with_its_value(optimizer_class, name, value):
    message = f"^{optimizer_class.__name__}: {name} must be .*, not {re.escape(repr(value))}$"
    with pytest.raises(ValueError, match=message):
        optimizer_class(network().parameters(), **{name: value})
    optimizer = optimizer_class(network()[0].parameters())
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": network()[2].parameters(), name: value})


@EACH
def test_a_trace_that_would_not_fade_is_refused(optimizer_class):
    with pytest.raises(ValueError, match=r": gamma times lamda must be below 1, or no trace would"):
        optimizer_class(network().parameters(), gamma=1.0, lamda=1.0)


def test_the_state_of_another_optimizer_is_refused():
    model = network()
    other = Adam(model.parameters())
    model(torch.ones(3)).sum().backward()
    other.step()
    states = [other.state_dict()]
    learn(model, obgd := ObGD(model.parameters()), range(2))
    states.append(obgd.state_dict())
    for state in states:
        optimizer = IntentionalValue(model.parameters())
        with pytest.raises(ValueError, match="cannot load the state of another optimizer"):
            optimizer.load_state_dict(state)
        assert not optimizer.state


def test_they_are_not_among_the_optimizers_of_minibatches():
    """PPO and A2C choose from these, and call ``step()`` without a TD error."""
    assert not {cls for cls in ALL if cls in map(optim.get, optim.known())}
