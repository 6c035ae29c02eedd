"""What the optimizers average of a curvature, its damping, and counts that begin anew."""

import copy
import itertools
import math

import pytest
import torch

from hesrl import optim
from hesrl.curvature import give_curvature
from hesrl.optim import CURVATURE_AVERAGES, AdaHesScale, AdaHessian, Adam, ScaledAdaHesScale
from tests.optim.problems import assert_same_parameters, network, train
from tests.optim.reference_steps import reference_step

OTHERS = [name for name in CURVATURE_AVERAGES if name != "rms"]
CLASSES = [AdaHesScale, AdaHessian, ScaledAdaHesScale]


def parameters(dtype=torch.float64):
    random = torch.Generator().manual_seed(1)
    return [
        torch.nn.Parameter(torch.randn(shape, generator=random, dtype=torch.float64).to(dtype))
        for shape in ((3, 4), (5,), (1,))
    ]


def derive(params, step):
    """Give each parameter a gradient and a curvature of either sign, and some zeros."""
    random = torch.Generator().manual_seed(step)
    for p in params:
        p.grad = torch.randn(p.shape, generator=random, dtype=torch.float64).to(p.dtype)
        hess = torch.randn(p.shape, generator=random, dtype=torch.float64)
        hess[..., 0] *= step % 2
        yield p.grad.clone(), hess.to(p.dtype)


def assert_steps_of_the_equations(params, optimizer, count, given, anew_every=None):
    """Take steps, and with ``anew_every`` let their counts begin anew after so many."""
    thetas, states = [p.detach().clone() for p in params], [{} for _ in params]
    for step in range(count):
        if anew_every is not None and step % anew_every == 0:
            optimizer.reset_time()
            for state in states:
                state |= {"t": 0, "n": 0}
        due = step % given.get("curvature_every", 1) == 0
        grads, hessians = zip(*derive(params, step), strict=True)
        for p, hess in zip(params, hessians, strict=True):
            if due:
                give_curvature(p, hess)
        hessians = hessians if due else [None] * len(params)
        reference_step(
            thetas, grads, hessians, states, form="adaptive", divide_by="curvature", **given
        )
        optimizer.step()
        for p, theta in zip(params, thetas, strict=True):
            torch.testing.assert_close(p.detach(), theta, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("average", CURVATURE_AVERAGES)
@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize(
    "options",
    [{}, {"curvature_every": 3}, {"capturable": True}, {"maximize": True, "foreach": False}],
    ids=str,
)
def test_20_steps_are_those_of_the_equations(cls, average, damping, options):
    given = {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-2, "adam_bound": 0.7, **options}
    given |= {"curvature_average": average, "damping": damping}
    if cls is AdaHessian:
        given["hessian_power"] = 0.75
    if cls is ScaledAdaHesScale:
        given["delta"] = 1e-3
    params = parameters()
    optimizer = cls(params, **given)
    assert_steps_of_the_equations(params, optimizer, 20, given)


@pytest.mark.parametrize("average", OTHERS)
def test_averages_differ_from_each_other(average):
    ends = []
    for chosen in ("rms", average):
        model = network()
        options = {"curvature_average": chosen, "eps": 1e-3}
        train(model, AdaHesScale(model.parameters(), **options), range(5))
        ends.append(next(model.parameters()).detach())
    assert not torch.allclose(*ends, rtol=1e-4)


def test_the_root_of_squared_gradients_is_adam():
    ours, theirs = parameters(), parameters()
    optimizer = AdaHesScale(ours, eps=1e-6, adam_bound=math.inf, curvature_average="root")
    adam = Adam(theirs, eps=1e-6)
    for step in range(20):
        for p, (g, _) in zip(ours, derive(ours, step), strict=True):
            give_curvature(p, g.square())
        list(derive(theirs, step))
        optimizer.step()
        adam.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("average", OTHERS)
def test_a_state_goes_on(average):
    model, other = network(), network()
    options = {"curvature_average": average, "damping": 0.1}
    optimizer = AdaHesScale(model.parameters(), **options)
    train(model, optimizer, range(3))
    assert "exp_hess" in optimizer.state[next(model.parameters())]
    other.load_state_dict(model.state_dict())
    resumed = AdaHesScale(other.parameters())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for net, method in ((model, optimizer), (other, resumed)):
        train(net, method, range(3, 6))
    assert_same_parameters(model, other, 0)


def test_a_state_of_before_there_was_a_choice_goes_on_as_before():
    model, other = network(), network()
    optimizer = AdaHesScale(model.parameters())
    train(model, optimizer, range(3))
    other.load_state_dict(model.state_dict())
    saved = copy.deepcopy(optimizer.state_dict())
    for group, name in itertools.product(saved["param_groups"], ("curvature_average", "damping")):
        del group[name]
    resumed = AdaHesScale(other.parameters(), curvature_average="mean", damping=1.0)
    resumed.load_state_dict(saved)
    for net, method in ((model, optimizer), (other, resumed)):
        train(net, method, range(3, 6))
    assert_same_parameters(model, other, 0)


@pytest.mark.parametrize("average", OTHERS)
def test_half_precision_averages_in_single(average):
    (weight,) = params = parameters(torch.float16)[:1]
    optimizer = AdaHesScale(params, curvature_average=average)
    ((_, hess),) = derive(params, 1)
    give_curvature(weight, hess)
    optimizer.step()
    assert optimizer.state[weight]["exp_hess"].dtype == torch.float32


def test_two_groups_may_average_differently():
    first, second, _ = parameters()
    optimizer = AdaHesScale(
        [{"params": [first]}, {"params": [second], "curvature_average": "mean"}]
    )
    for step in range(3):
        for p, (_, hess) in zip((first, second), derive((first, second), step), strict=True):
            give_curvature(p, hess)
        optimizer.step()
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert "exp_hess_sq" in optimizer.state[first] and "exp_hess" in optimizer.state[second]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"curvature_average": "median"}, "curvature_average must be one of rms, mean, root, sig"),
        ({"curvature_average": None}, "curvature_average must be one of"),
        ({"damping": -1.0}, "damping must be a number from 0 up, not -1.0"),
        ({"damping": math.nan}, "damping must be a number from 0 up"),
        (
            {"curvature_average": "signed", "adam_bound": math.inf},
            "curvature_average='signed' needs an adam_bound below infinity",
        ),
    ],
)
def test_impossible_choices_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AdaHesScale(parameters(), **options)


@pytest.mark.parametrize(("first", "then"), [("rms", "mean"), ("signed", "rms")])
def test_another_kind_of_average_in_the_course_of_a_run_is_refused(first, then):
    model = network()
    optimizer = AdaHesScale(model.parameters(), curvature_average=first)
    train(model, optimizer, range(2))
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.param_groups[0]["curvature_average"] = then
    with pytest.raises(ValueError, match=f"curvature_average='{then}' does not go with what was "):
        train(model, optimizer, range(2, 3))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_optimizers_without_a_curvature_have_no_such_options():
    with pytest.raises(TypeError, match="Adam has no option 'curvature_average'"):
        Adam(parameters(), curvature_average="mean")


@pytest.mark.parametrize("options", [{}, {"curvature_every": 2}, {"capturable": True}], ids=str)
def test_counts_that_begin_anew_keep_the_averages(options):
    params = parameters()
    given = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-3, "adam_bound": 3.0, **options}
    optimizer = AdaHesScale(params, **given)
    assert_steps_of_the_equations(params, optimizer, 12, given, anew_every=4)


def test_optimizers_that_count_nothing_have_nothing_to_reset():
    params = parameters()
    optimizer = optim.SGD(params, lr=0.1, momentum=0.9)
    list(derive(params, 0))
    optimizer.step()
    before = copy.deepcopy(optimizer.state_dict())
    optimizer.reset_time()
    torch.testing.assert_close(optimizer.state_dict()["state"], before["state"])
