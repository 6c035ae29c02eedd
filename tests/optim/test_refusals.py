"""What optimizers refuse, each with one clear line."""

import math
import re

import pytest
import torch
from torch import nn

from hesrl import optim
from hesrl.optim import SGD, AdaHesScale, AdaHessian, Adam, ScaledAdam, ScaledSGD
from tests.optim.problems import CURVED, EACH, loss_of, network, train

BAD = [
    ("lr", -1e-3),
    ("lr", math.nan),
    ("lr", math.inf),
    ("lr", "1e-3"),
    ("lr", None),
    ("lr", torch.tensor([0.1, 0.1])),
    ("lr", torch.tensor(-0.1)),
    ("weight_decay", -0.1),
    ("weight_decay", math.inf),
    ("maximize", 1),
    ("foreach", "no"),
    ("capturable", None),
    ("curvature_every", 0),
    ("curvature_every", 1.5),
    ("curvature_every", True),
]
OWN = [
    *((Adam, "betas", bad) for bad in [(-0.1, 0.9), (0.9, 1.0), (0.9,), (0.9, "0.9"), 0.9]),
    *((AdaHesScale, "eps", bad) for bad in [-1e-8, math.nan, "1e-8"]),
    (SGD, "momentum", -0.1),
    (SGD, "dampening", math.nan),
    (SGD, "nesterov", 1),
    (ScaledSGD, "curvature_beta", 1.0),
    (ScaledAdam, "delta", 0.0),
    (ScaledAdam, "delta", math.inf),
    (ScaledAdam, "max_scale", -1.0),
    (AdaHessian, "hessian_power", 1.5),
    (AdaHessian, "spatial_averaging", "yes"),
]


def refuse(optimizer_class, name, value):
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


@EACH
@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_option_is_named_with_its_value(optimizer_class, name, value):
    refuse(optimizer_class, name, value)


@pytest.mark.parametrize(("optimizer_class", "name", "value"), OWN)
def test_a_bad_hyperparameter_of_some_is_named_with_its_value(optimizer_class, name, value):
    refuse(optimizer_class, name, value)


@pytest.mark.parametrize(
    ("optimizer_class", "settings", "message"),
    [
        (SGD, {"nesterov": True}, "SGD: nesterov needs a momentum above 0 and a dampening of 0"),
        (SGD, dict(nesterov=True, momentum=0.9, dampening=0.1), "SGD: nesterov needs"),
        (Adam, {"curvature_every": 2}, "Adam: curvature_every must be 1: it uses no curvature"),
        (AdaHesScale, dict(curvature_every=2, capturable=True), "AdaHesScale: curvature_every=2 d"),
    ],
)
def test_what_excludes_each_other_is_refused(optimizer_class, settings, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        optimizer_class(network().parameters(), **settings)


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match=r"^Adam has no option 'delta': choose from weight_decay, "):
        Adam(network().parameters(), delta=1.0)
    with pytest.raises(TypeError, match=r"no option 'amsgrad'.*, hessian_power, spatial_averaging"):
        AdaHessian(network().parameters(), amsgrad=True)


@EACH
def test_complex_parameters_are_refused_and_nothing_changes(optimizer_class):
    real, complex_ = (nn.Parameter(torch.ones(2, dtype=t)) for t in (torch.float, torch.cfloat))
    message = f"^{optimizer_class.__name__} does not take complex .* of shape \\(2,\\) and dtype to"
    with pytest.raises(ValueError, match=message):
        optimizer_class([complex_])
    optimizer = optimizer_class([real])
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": complex_})
    assert len(optimizer.param_groups) == 1


@EACH
def test_sparse_gradients_are_refused(optimizer_class):
    weight = nn.Parameter(torch.ones(4, 2))
    optimizer = optimizer_class([weight])
    weight.grad = torch.ones(4, 2).to_sparse()
    with pytest.raises(RuntimeError, match=f"^{optimizer_class.__name__} does not take sparse"):
        optimizer.step()
    assert torch.equal(weight, torch.ones(4, 2))


@CURVED
def test_a_missing_curvature_is_refused_before_any_group_has_changed(optimizer_class):
    model = network()
    optimizer = optimizer_class([{"params": layer.parameters()} for layer in (model[0], model[2])])
    loss_of(model, 0).backward()
    bias, before = model[2].bias, [p.detach().clone() for p in model.parameters()]
    (bias.grad,) = torch.autograd.grad(loss_of(model, 0), bias)
    with pytest.raises(
        RuntimeError, match=r"^parameter 1 of shape \(2,\) has a gradient but no cu"
    ):
        optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert not optimizer.state


def test_another_estimator_of_the_same_parameters_is_refused():
    model = network()
    optimizer = AdaHesScale(model.parameters())
    with pytest.raises(ValueError, match="is armed with 'hesscale' already"):
        optim.AdaBL89(model.parameters())
    del optimizer
    optim.AdaBL89(model.parameters())


@pytest.mark.parametrize(
    ("theirs", "settings", "message"),
    [
        (torch.optim.Adam, {"amsgrad": True}, "^Adam cannot load a state with amsgrad=True"),
        (torch.optim.Adam, {"weight_decay": 0.1}, "^Adam cannot load a weight_decay that is not d"),
    ],
)
def test_a_state_of_torch_that_means_another_step_is_refused(theirs, settings, message):
    model = network()
    other = theirs(model.parameters(), **settings)
    train(model, other, range(1))
    optimizer = Adam(model.parameters())
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(other.state_dict())
    assert not optimizer.state


def test_the_registry_knows_every_name():
    assert optim.get("scaled-adahesscale") is optim.ScaledAdaHesScale
    for name in optim.known():
        cls = optim.get(name)
        assert cls.__name__.lower() == name.replace("-", "")
        assert getattr(optim, cls.__name__) is cls
    assert len({optim.get(name) for name in optim.known()}) == len(optim.known()) == 14
    with pytest.raises(ValueError, match=r"^unknown optimizer 'adamw': choose one of sgd, adam, "):
        optim.get("adamw")
