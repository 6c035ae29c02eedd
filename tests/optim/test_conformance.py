"""The checks that PyTorch makes of its own optimizers, made of ours."""

import copy
import io
import re

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from hesrl.curvature import give_curvature
from hesrl.optim import SGD, AdaHesScale, Adam, ScaledSGD
from tests.optim.problems import (
    EACH,
    assert_same_parameters,
    groups,
    loss_of,
    network,
    train,
)


def derive(params, optimizer_class, step):
    """Give every parameter a gradient and a curvature of its dtype, without a network."""
    for index, p in enumerate(params):
        generator = torch.Generator().manual_seed(10 * step + index)
        grad, hess = torch.randn(2, *p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
        p.grad = grad
        if optimizer_class.curvature:
            give_curvature(p, hess)


@EACH
@pytest.mark.parametrize("options", [{}, {"maximize": True, "weight_decay": 0.1}], ids=str)
def test_foreach_is_the_loop_for_parameters_of_any_shape_and_dtype(optimizer_class, options):
    """No elements, no dimension, transposed, channels last; four dtypes in one group."""
    shapes = [(0,), (), (3, 4), (2, 3, 2, 2), (5,)]
    dtypes = [torch.float64, torch.float32, torch.float64, torch.float32, torch.bfloat16]

    def params():
        torch.manual_seed(0)
        made = [torch.randn(s, dtype=t) for s, t in zip(shapes, dtypes, strict=True)]
        made[2] = made[2].T
        made[3] = made[3].to(memory_format=torch.channels_last)
        return [nn.Parameter(p) for p in made]

    results = []
    for foreach in (True, False):
        mine = params()
        optimizer = optimizer_class(mine, lr=torch.tensor(0.05), foreach=foreach, **options)
        for step in range(5):
            derive(mine, optimizer_class, step)
            optimizer.step()
        assert [p.dtype for p in mine] == dtypes
        results.append(mine)
    for p, q in zip(*results, strict=True):
        tolerance = 2e-2 if p.dtype == torch.bfloat16 else 1e-6
        torch.testing.assert_close(p, q, rtol=tolerance, atol=tolerance)
    assert not torch.equal(results[0][2], params()[2])


@EACH
def test_hooks_run_around_a_step(optimizer_class):
    model, calls = network(), []
    optimizer = optimizer_class(model.parameters(), lr=1e-2)
    optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
    optimizer.register_step_post_hook(lambda *_: calls.append("post"))
    optimizer.register_state_dict_post_hook(lambda opt, state: state | {"mine": 1})
    optimizer.register_load_state_dict_pre_hook(lambda opt, state: calls.append("load"))
    optimizer.register_load_state_dict_post_hook(lambda opt: calls.append("loaded"))
    with_all = register_optimizer_step_post_hook(lambda *_: calls.append("global"))
    try:
        train(model, optimizer, [0])
    finally:
        with_all.remove()
    state = optimizer.state_dict()
    optimizer.load_state_dict(state)
    assert calls == ["pre", "post", "global", "load", "loaded"]
    assert state["mine"] == 1


@EACH
def test_a_step_without_any_gradient_does_nothing(optimizer_class):
    model, before = network(), network()
    optimizer = optimizer_class(model.parameters(), lr=1e-2, weight_decay=0.1)
    optimizer.step()
    assert_same_parameters(model, before)
    assert not optimizer.state


@EACH
def test_it_can_be_printed_and_has_the_attributes_of_torchs(optimizer_class):
    optimizer = optimizer_class(groups(network()), lr=1e-2)
    assert re.search(rf"^{optimizer_class.__name__} \(\nParameter Group 0\n", repr(optimizer))
    copied = copy.deepcopy(optimizer)
    public = {name for name in vars(torch.optim.AdamW([torch.ones(1)])) if name[0] != "_"}
    assert public <= vars(optimizer).keys()
    assert {name for name in vars(optimizer) if name[0] != "_"} <= vars(copied).keys()


@EACH
def test_the_default_dtype_is_no_matter(optimizer_class):
    model, other = network(), network()
    train(other, optimizer_class(other.parameters(), lr=1e-2), range(3))
    torch.set_default_dtype(torch.float16)
    try:
        optimizer = optimizer_class(model.parameters(), lr=1e-2)
        train(model, optimizer, range(3))
    finally:
        torch.set_default_dtype(torch.float32)
    assert_same_parameters(model, other)
    for p, state in optimizer.state.items():
        for name, value in state.items():
            assert value.dtype == (torch.float32 if name == "step" else p.dtype)


@EACH
def test_a_state_dict_is_deterministic_and_of_plain_values(optimizer_class):
    model = network()
    optimizer = optimizer_class(groups(model), lr=torch.tensor(1e-2))
    train(model, optimizer, range(2))
    first, second = io.BytesIO(), io.BytesIO()
    torch.save(optimizer.state_dict(), first)
    loaded = torch.load(io.BytesIO(first.getvalue()), weights_only=True)
    other = copy.deepcopy(model)
    fresh = optimizer_class(groups(other))
    fresh.load_state_dict(loaded)
    torch.save(fresh.state_dict(), second)
    again = torch.load(io.BytesIO(second.getvalue()), weights_only=True)
    assert repr(again) == repr(optimizer.state_dict())
    train(model, optimizer, range(2, 5))
    train(other, fresh, range(2, 5))
    assert_same_parameters(model, other)


@EACH
def test_a_step_count_that_is_no_tensor_loads(optimizer_class):
    model = network()
    optimizer = optimizer_class(model.parameters(), lr=1e-2)
    train(model, optimizer, range(3))
    state = copy.deepcopy(optimizer.state_dict())
    for of_param in state["state"].values():
        if "step" in of_param:
            of_param["step"] = int(of_param["step"])
    other = copy.deepcopy(model)
    fresh = optimizer_class(other.parameters())
    fresh.load_state_dict(state)
    train(model, optimizer, range(3, 5))
    train(other, fresh, range(3, 5))
    assert_same_parameters(model, other)


@EACH
def test_what_torch_refuses_is_refused(optimizer_class):
    weight = nn.Parameter(torch.ones(2))
    for params, error, message in [
        ([], ValueError, "optimizer got an empty parameter list"),
        (weight, TypeError, "should be an iterable"),
        ([torch.ones(2, requires_grad=True) * 2], ValueError, "can't optimize a non-leaf Tensor"),
        ([{"params": [weight]}, {"params": [weight]}], ValueError, "more than one parameter group"),
        (["weight"], TypeError, "optimizer can only optimize Tensors"),
    ]:
        with pytest.raises(error, match=message):
            optimizer_class(params)


@EACH
@pytest.mark.parametrize("option", ["differentiable", "fused", "amsgrad"])
def test_options_of_torch_that_there_are_not_are_refused(optimizer_class, option):
    message = f"^{optimizer_class.__name__} has no option '{option}': choose from weight_decay, "
    with pytest.raises(TypeError, match=message):
        optimizer_class(network().parameters(), **{option: True})


def test_a_state_of_torch_whose_steps_are_others_is_refused():
    for ours, theirs, settings, message in [
        (Adam, torch.optim.Adam, {"differentiable": True}, "with differentiable=True"),
        (SGD, torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}, "that is not decoupled"),
    ]:
        model = network()
        other = theirs(model.parameters(), lr=0.5, **settings)
        optimizer = ours(model.parameters())
        with pytest.raises(ValueError, match=f"^{ours.__name__} cannot load .*{message}"):
            optimizer.load_state_dict(other.state_dict())
        assert optimizer.param_groups[0]["lr"] == 1e-3


def test_a_state_of_torch_that_means_the_same_steps_is_taken():
    """The decay of SGD without momentum, and our own with it."""
    model = network()
    SGD(model.parameters()).load_state_dict(
        torch.optim.SGD(model.parameters(), weight_decay=0.1).state_dict()
    )
    own = SGD(model.parameters(), momentum=0.9, weight_decay=0.1)
    other = SGD(model.parameters())
    other.load_state_dict(own.state_dict())
    assert other.param_groups[0]["weight_decay"] == 0.1


def test_curvature_belongs_to_one_backward_pass_of_many_optimizers():
    """Two optimizers of one network, one scaled: each takes its parameters' curvature."""
    model, other = network(), network()
    first, last = AdaHesScale(model[0].parameters(), lr=1e-2), ScaledSGD(model[2].parameters())
    alone = AdaHesScale(other[0].parameters(), lr=1e-2)
    for m, optimizers in ((model, (first, last)), (other, (alone,))):
        loss_of(m, 0).backward()
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(model[0].weight, other[0].weight)
    assert not torch.equal(model[2].weight, other[2].weight)
