"""What curvature refuses, and what it says then."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hesrl.curvature import (
    MissingRuleError,
    arm,
    register_adjoint,
    register_pointwise,
    register_rule,
)
from hesrl.curvature.rule_registry import _RULES
from hesrl.optim import AdaHesScale

MISSING = "FrexpBackward0"


def unruly_loss(net: nn.Module) -> Tensor:
    """A loss in which the mantissas of floating-point numbers, (5, 4), lie between the layers."""
    return net[2](torch.frexp(net[0](torch.ones(5, 3)))[0]).square().sum()


def test_an_operation_without_a_rule_is_named(net):
    assert MISSING not in _RULES
    with pytest.raises(MissingRuleError) as caught:
        unruly_loss(net).backward()
    assert str(caught.value) == (
        "no curvature rule for FrexpBackward0 (output of shape (5, 4)), which lies between the "
        "loss and 0.weight (4, 3), 0.bias (4,): register one with "
        "hesrl.curvature.register_rule('FrexpBackward0')"
    )


def test_all_that_are_missing_are_named_at_once(net):
    hidden = torch.frexp(net[0](torch.ones(5, 3)))[0]
    hidden[:, 0].cumsum_(0)
    out = Plain.apply(Plain.apply(net[2](hidden)))
    with pytest.raises(MissingRuleError) as caught:
        torch.frexp(out.sum())[0].backward()
    assert str(caught.value) == (
        "no curvature rule for 2 × FrexpBackward0 (output of shape (5, 4), ()), which lies between "
        "the loss and 2.weight (2, 4), 0.weight (4, 3), 0.bias (4,) and 1 more: register one with "
        "hesrl.curvature.register_rule('FrexpBackward0'); nor for torch::autograd::CopySlices "
        "(output of shape (5, 4)): an operation in place on a view has one only if it is "
        "elementwise, which this one (aten::cumsum) is not; compute the new entries out of place, "
        "then assign them; nor for 2 × PlainBackward (output of shape (5, 2)): register one with "
        "hesrl.curvature.register_rule(Plain)"
    )


def test_parameters_have_the_names_of_their_optimizer_or_of_the_whole_model():
    lone = nn.Parameter(torch.ones(5, 2))
    optimizer = AdaHesScale([("log_std", lone)])
    nameless = torch.ones(5, 2, requires_grad=True)
    model = nn.ModuleDict({"actor": nn.Linear(3, 2)})
    arm([nameless, *model.parameters()])
    out = model["actor"](torch.ones(5, 3)) + lone + nameless
    with pytest.raises(
        MissingRuleError, match=r"and parameter \(5, 2\), log_std \(5, 2\), actor\."
    ):
        torch.frexp(out)[0].sum().backward()
    del optimizer


def test_it_is_found_before_any_gradient_changes(net):
    with pytest.raises(MissingRuleError):
        unruly_loss(net).backward()
    assert all(p.grad is None and p.hess_diag is None for p in net.parameters())


def test_the_graph_is_still_there_for_a_rule_registered_then(net, monkeypatch):
    loss = unruly_loss(net)
    with pytest.raises(MissingRuleError):
        loss.backward()
    monkeypatch.setitem(_RULES, MISSING, _RULES["CloneBackward0"])
    loss.backward()
    assert all(p.hess_diag is not None for p in net.parameters())


def test_an_operation_that_leads_to_no_armed_parameter_needs_no_rule(net):
    other = nn.Parameter(torch.ones(5, 2))
    loss = (net(torch.ones(5, 3)) * torch.frexp(other)[0]).sum() + torch.frexp(other)[0].sum()
    loss.backward()
    assert other.grad is not None
    assert all(p.hess_diag is not None for p in net.parameters())


def test_unarmed_parameters_need_no_rules():
    param = nn.Parameter(torch.ones(3))
    torch.frexp(param)[0].sum().backward()
    assert param.grad.tolist() == [0.5, 0.5, 0.5]


class Plain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: object, grad_out: Tensor) -> Tensor:
        return 2 * grad_out


def test_a_function_without_a_rule_is_named(net):
    with pytest.raises(MissingRuleError, match=r"no curvature rule for PlainBackward .*\(5, 2\)"):
        Plain.apply(net(torch.ones(5, 3))).sum().backward()


@pytest.mark.parametrize(
    "register",
    [
        lambda operation: register_rule(operation)(lambda *args: None),
        lambda operation: register_pointwise(operation)(lambda node: ((1.0,), ())),
        register_adjoint,
    ],
    ids=["rule", "pointwise", "adjoint"],
)
def test_rules_are_registered_once_and_for_operations(register):
    before = dict(_RULES)
    with pytest.raises(ValueError, match="TanhBackward0 already has a curvature rule"):
        register("TanhBackward0")
    with pytest.raises(TypeError, match=r"a node name or an autograd.Function, not <class 'int'>"):
        register(int)
    assert before == _RULES


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.ones(2, 3, requires_grad=True) * 2, r"shape \(2, 3\).*float32 \(is_leaf=False\)"),
        (torch.ones(4, dtype=torch.int64), r"shape \(4,\).*int64 \(is_leaf=True\)"),
    ],
    ids=["not a leaf", "integers"],
)
def test_only_floating_point_leaves_are_armed(tensor, message):
    with pytest.raises(ValueError, match=message):
        arm([tensor])


def test_a_lazy_module_is_called_first():
    layer = torch.nn.LazyLinear(2)
    with pytest.raises(ValueError, match="call the module once"):
        arm(layer.parameters())
    layer(torch.ones(1, 3))
    arm(layer.parameters())


def test_arming_is_all_or_nothing():
    good, bad = nn.Parameter(torch.ones(2)), torch.ones(2, dtype=torch.int64)
    with pytest.raises(ValueError, match="curvature is for floating-point leaf tensors"):
        arm([good, bad])
    good.square().sum().backward()
    assert good.grad is not None
    assert not hasattr(good, "hess_diag")


@pytest.mark.parametrize("named", [False, True])
def test_a_step_with_a_gradient_from_elsewhere_is_refused(net, named):
    optimizer = AdaHesScale(net.named_parameters() if named else net.parameters())
    net(torch.ones(5, 3)).square().sum().backward()
    optimizer.step()
    net.zero_grad()
    params = list(net.parameters())
    grads = torch.autograd.grad(net(torch.ones(5, 3)).square().sum(), params)
    for p, grad in zip(params, grads, strict=True):
        p.grad = grad
    before = [p.detach().clone() for p in params]
    name = "0.weight" if named else "parameter 0"
    with pytest.raises(
        RuntimeError, match=rf"^{name} of shape \(4, 3\) has a gradient but no curv"
    ):
        optimizer.step()
    assert all(torch.equal(p, old) for p, old in zip(params, before, strict=True))
