"""Under `torch.compile` curvature is right or the error says what to do; never is it missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hesrl.curvature import MissingRuleError, arm, backward, hess_diag
from hesrl.optim import AdaHesScale
from tests.curvature.nets import (
    TARGET,
    Net,
    X,
    assert_equal,
    curvatures,
    fresh_curvatures,
    loss_of,
    make_net,
)

# Tracing looks at the gradient of every tensor, of which PyTorch itself warns.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()


def compiled(function: Any, backend: str) -> Any:
    return torch.compile(function, backend=backend)


def mean_square(y: Tensor) -> Tensor:
    return (y - TARGET).square().mean()


FORMS: dict[str, Callable[[nn.Module, str], Tensor]] = {
    "model": lambda net, backend: loss_of(compiled(net, backend)),
    "loss": lambda net, backend: compiled(mean_square, backend)(net(X)),
    "both": lambda net, backend: compiled(loss_of, backend)(net),
}
"""A loss of which a part is compiled."""


@pytest.mark.parametrize("form", FORMS)
def test_traced_operations_run_as_they_are(form):
    net = make_net()
    FORMS[form](net, "eager").backward()
    assert_equal(curvatures(net), fresh_curvatures())


def test_a_model_armed_after_it_was_compiled():
    torch.manual_seed(1)
    net = Net()
    traced = compiled(net, "eager")
    loss_of(traced).backward()
    net.zero_grad()
    arm(traced.parameters())
    loss_of(traced).backward()
    assert_equal(curvatures(net), fresh_curvatures())


@pytest.mark.parametrize("form", FORMS)
def test_compiled_operations_are_refused_before_any_gradient_changes(form):
    net = make_net()
    loss = FORMS[form](net, "aot_eager")
    with pytest.raises(MissingRuleError, match=r"CompiledFunctionBackward.*backend='eager'"):
        loss.backward()
    with pytest.raises(MissingRuleError, match="CompiledFunctionBackward"):
        hess_diag(loss, net.parameters())
    assert all(p.grad is None for p in net.parameters())


def test_a_compiled_part_below_all_armed_parameters_does_not_matter():
    net = make_net()
    lower = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    expected = hess_diag(net(lower(X)).square().mean(), net.parameters())
    net(compiled(lower, "aot_eager")(X)).square().mean().backward()
    assert_equal(curvatures(net), expected)
    assert lower[0].weight.grad is not None


def step(net: nn.Module) -> Tensor:
    loss = loss_of(net)
    loss.backward()
    return loss.detach()


def step_by_function(net: nn.Module) -> Tensor:
    loss = loss_of(net)
    backward(loss)
    return loss.detach()


def test_a_compiled_function_that_holds_the_backward_pass():
    net = make_net()
    compiled(step, "eager")(net)
    assert_equal(curvatures(net), fresh_curvatures())
    net.zero_grad()
    compiled(step_by_function, "eager")(net)
    assert_equal(curvatures(net), fresh_curvatures())
    other = make_net()
    with pytest.raises(MissingRuleError, match="CompiledFunctionBackward"):
        compiled(step, "aot_eager")(other)
    assert all(p.grad is None for p in other.parameters())


def test_a_compiled_step_is_the_step():
    nets = make_net(), make_net()
    optimizers = [AdaHesScale(net.parameters(), lr=0.1) for net in nets]
    steps = compiled(optimizers[0].step, "eager"), optimizers[1].step
    for _ in range(3):
        for net, optimizer, take_step in zip(nets, optimizers, steps, strict=True):
            optimizer.zero_grad()
            loss_of(net).backward()
            take_step()
    torch.testing.assert_close(list(nets[0].parameters()), list(nets[1].parameters()))


def test_a_compiled_step_without_curvature_is_refused():
    net = make_net()
    optimizer = AdaHesScale(net.parameters())
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match="has a gradient but no curvature"):
        compiled(optimizer.step, "eager")()


@pytest.mark.parametrize("way", ["context", "config"])
def test_compiled_autograd_is_refused_before_any_gradient_changes(way):
    net = make_net()
    with pytest.raises(RuntimeError, match=r"^compiled autograd hides the backward pass"):
        if way == "config":
            with torch._dynamo.config.patch(compiled_autograd=True):
                compiled(step, "eager")(net)
        else:
            with torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager")):
                loss_of(net).backward()
    assert all(p.grad is None for p in net.parameters())
    loss_of(net).backward()
    assert_equal(curvatures(net), fresh_curvatures())
