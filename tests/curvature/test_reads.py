"""What rules read of nodes is known before they do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from hesrl.curvature import MissingRuleError, arm, graph, register_pointwise, register_rule
from hesrl.curvature.analysis import Analysis
from hesrl.curvature.reads import _functions, _reads, unreadable
from hesrl.curvature.rule_registry import _RULES, Local, Pointwise
from tests.curvature.rows import TABLE
from tests.curvature.seeding import grad_and_hess


class Recorder:
    """A node that notes which saved values are read of it."""

    def __init__(self, node: Any, names: set[str]) -> None:
        self._node, self._names = node, names

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_saved_"):
            self._names.add(name)
        return getattr(self._node, name)

    def __call__(self, *values: Any) -> Any:
        return self._node(*values)


def recording(rule: Any, names: set[str]) -> Any:
    """Return a rule whose functions get recorders."""

    def record(function: Any) -> Any:
        return function and (lambda node, *args: function(Recorder(node, names), *args))

    if isinstance(rule, Pointwise):
        functions = ("partials", "alone", "gradient_excess")
    elif isinstance(rule, Local):
        functions = ("curvature",) if rule.read is None else ("read",)
    else:
        return rule
    return replace(rule, **{name: record(getattr(rule, name)) for name in functions})


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.id)
def test_what_a_rule_reads_is_read_off_its_code(row, monkeypatch):
    torch.manual_seed(0)
    inputs = [x.requires_grad_() for x in row.inputs()]
    arm(inputs)
    noted: list[tuple[Any, set[str]]] = []
    find_rules = Analysis._find_rules

    def find_and_record(*args: Any) -> list[Any]:
        rules = find_rules(*args)
        noted[:] = [(rule, set()) for rule in rules]
        return [recording(rule, names) for rule, names in noted]

    monkeypatch.setattr(Analysis, "_find_rules", find_and_record)
    output = row.function(*inputs)
    monkeypatch.setattr("hesrl.curvature.graph._cache", {})
    grad_and_hess(output)
    assert noted
    for rule, names in noted:
        if rule is not None:
            optional = _strings(rule)
            assert names <= set().union(*map(_reads, _functions(rule))) | optional


def _strings(rule: Any) -> set[str]:
    """What a rule looks for with ``getattr``, which may be missing."""
    return {
        constant
        for function in _functions(rule)
        if function is not None
        for constant in getattr(function, "__code__", _strings.__code__).co_consts
        if isinstance(constant, str) and constant.startswith("_saved_")
    }


@pytest.mark.parametrize("name", [name for name in _RULES if hasattr(torch._C._functions, name)])
def test_this_pytorch_saves_what_a_rule_reads(name):
    assert unreadable(_RULES[name], getattr(torch._C._functions, name)) == []


def _slope(node: Any) -> Any:
    return node._saved_gone


def _by_helper(node: Any) -> Any:
    return (sum(_slope(n) for n in [node]),), ()


def _in_closure(name: str) -> Any:
    read = _slope if name else None
    return lambda node: ((read(node),), ())


def _optional(node: Any) -> Any:
    return (getattr(node, "_saved_gone", torch.gone),), ()


@pytest.mark.parametrize("rule", [_by_helper, _in_closure("gone")], ids=["helper", "closure"])
def test_a_value_that_this_pytorch_does_not_save_is_found_before_any_gradient_changes(
    rule, monkeypatch
):
    monkeypatch.setattr(graph, "_cache", {})  # may hold the plan of an equal network
    monkeypatch.delitem(_RULES, "TanhBackward0")
    register_pointwise("TanhBackward0")(rule)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    arm(net.parameters())
    with pytest.raises(MissingRuleError) as caught:
        net(torch.ones(5, 3)).square().sum().backward()
    assert str(caught.value) == (
        "no curvature rule for TanhBackward0 (output of shape (5, 4)), which lies between the loss "
        "and 0.weight (4, 3), 0.bias (4,): its rule reads _saved_gone, which PyTorch "
        f"{torch.__version__} does not save; install a version that setup.cfg names, or replace "
        "the operation"
    )
    assert all(p.grad is None for p in net.parameters())


def test_what_may_be_missing_and_what_has_a_name_of_the_same_spelling():
    assert _reads(_optional) == frozenset()
    assert _reads(_by_helper) == {"_saved_gone"}


def test_a_function_in_python_keeps_what_it_wants():
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx._saved_factor = 2.0
            return 2 * x

        @staticmethod
        def backward(ctx: Any, grad_out: torch.Tensor) -> torch.Tensor:
            return 2 * grad_out

    @register_rule(Twice, linear=True)
    def twice(node: Any, grad_out: None, hess_out: torch.Tensor) -> torch.Tensor:
        factor: float = node._saved_factor
        return factor**2 * hess_out

    x = torch.ones(3, requires_grad=True)
    arm([x])
    Twice.apply(x).square().sum().backward()
    assert x.hess_diag.tolist() == [8.0] * 3
