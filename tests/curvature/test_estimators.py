"""``hess_diag``: the curvature of a backward pass, without one that leaves anything."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from hesrl.curvature import (
    Method,
    MissingRuleError,
    arm,
    hess_diag,
    is_armed,
    register_adjoint,
)
from tests import reference
from tests.curvature.nets import (
    TARGET,
    X,
    assert_equal,
    curvatures,
    fresh_curvatures,
    loss_of,
    make_net,
    plain_net,
)

METHODS: tuple[Method, ...] = ("hesscale", "hesscale_gn", "bl89")


def softmax_loss(net: nn.Module) -> Tensor:
    """A loss in which the three methods differ."""
    return (net(X).softmax(1) - TARGET).square().sum()


@pytest.mark.parametrize("as_function", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_it_is_the_curvature_of_a_backward_pass(method, as_function):
    net, armed = plain_net(), plain_net()
    loss = (lambda: softmax_loss(net)) if as_function else softmax_loss(net)
    arm(armed.parameters(), method)
    softmax_loss(armed).backward()
    assert_equal(hess_diag(loss, net.parameters(), method), curvatures(armed))


def test_the_methods_differ():
    net = plain_net()
    found = [hess_diag(softmax_loss(net), [net.first.weight], method)[0] for method in METHODS]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(found[i], found[j], rtol=1e-2)


def test_parameters_by_name():
    net = plain_net()
    found = hess_diag(loss_of(net), dict(net.named_parameters()))
    assert list(found) == [name for name, _ in net.named_parameters()]
    assert_equal(list(found.values()), fresh_curvatures())


def test_it_is_exact_where_hesscale_is():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double(), X.double()
    exact = reference.module_hess_diag(net, lambda net: net(x).square().mean())
    found = hess_diag(net(x).square().mean(), dict(net.named_parameters()))
    torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-14)


def test_it_leaves_gradients_curvature_marks_and_graph():
    net = make_net()
    loss_of(net).backward()
    grads, hessians = [p.grad.clone() for p in net.parameters()], curvatures(net)
    loss = loss_of(net)
    first = hess_diag(loss, net.parameters())
    assert_equal([p.grad for p in net.parameters()], grads)
    assert_equal(curvatures(net), hessians)
    assert_equal(hess_diag(loss, net.parameters()), first)
    net.zero_grad()
    loss.backward()
    assert_equal(curvatures(net), first)
    assert_equal([p.grad for p in net.parameters()], grads)


def test_unarmed_parameters_stay_so():
    net = plain_net()
    loss = loss_of(net)
    hess_diag(loss, net.parameters())
    loss.backward()
    assert not any(is_armed(p) or hasattr(p.grad, "_hesrl_curvature") for p in net.parameters())


def test_parameters_armed_with_another_method():
    net, expected = plain_net(), hess_diag(softmax_loss(plain := plain_net()), plain.parameters())
    arm(net.parameters(), "bl89")
    assert_equal(hess_diag(softmax_loss(net), net.parameters()), expected)
    softmax_loss(net).backward()
    assert_equal(curvatures(net), hess_diag(softmax_loss(net), net.parameters(), "bl89"))


def test_zeros_where_the_loss_does_not_depend_on_a_parameter_or_linearly():
    net, unused = plain_net(), nn.Parameter(torch.ones(2, dtype=torch.float64))
    of_bias, of_unused = hess_diag(net(X).sum(), [net.last.bias, unused])
    assert_equal([of_bias, of_unused], [torch.zeros(2), torch.zeros(2, dtype=torch.float64)])
    assert hess_diag(net(X).sum(), [unused])[0].tolist() == [0.0, 0.0]
    assert hess_diag(loss_of(net), []) == []


def test_a_parameter_listed_twice_has_it_twice():
    net = plain_net()
    shared = {"a": net.first.weight, "b": net.last.bias, "c": net.first.weight}
    found = hess_diag(loss_of(net), shared)
    once = fresh_curvatures()
    assert_equal(list(found.values()), [once[0], once[-1], once[0]])


def test_a_function_is_recorded_under_no_grad():
    net = plain_net()
    with torch.no_grad():
        found = hess_diag(lambda: loss_of(net), net.parameters())
    assert_equal(found, fresh_curvatures())
    assert not any(h.requires_grad for h in found)


def test_swapped_parameters():
    net = plain_net()
    swapped = {name: (p.detach() / 2).requires_grad_() for name, p in net.named_parameters()}
    found = hess_diag(loss_of(lambda x: functional_call(net, swapped, (x,))), swapped)
    for p in net.parameters():
        p.data /= 2
    assert_equal(list(found.values()), hess_diag(loss_of(net), net.parameters()))


def test_a_loss_through_vmap_and_grad_of_torch_func():
    """Autograd records what transforms do, as long as they lie within the loss."""
    w, x = torch.ones(3, requires_grad=True), torch.linspace(0, 1, 6).view(2, 3)
    by_row = torch.func.vmap(lambda row: (w * row).exp().sum())(x)
    torch.testing.assert_close(hess_diag(by_row.sum(), [w]), [(x.square() * x.exp()).sum(0)])
    slope = torch.func.grad(lambda w: w.pow(4).sum())(w)
    torch.testing.assert_close(hess_diag(slope.square().sum(), [w]), [torch.full((3,), 480.0)])


@pytest.mark.parametrize("transform", [torch.func.vmap, torch.func.grad])
def test_it_refuses_to_run_inside_a_transform(transform):
    w = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match=r"belongs to a transform of torch.func \(vmap, grad, …\)"):
        transform(lambda x: hess_diag(lambda: (w * x).exp().sum(), [w])[0].sum())(torch.ones(3))


class First(torch.autograd.Function):
    """The first of two tensors, of the second of which there is no gradient at all."""

    @staticmethod
    def forward(ctx: object, x: Tensor, other: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, grad_out: Tensor) -> tuple[Tensor, None]:
        return grad_out, None


register_adjoint(First)


def test_a_parameter_that_gets_no_gradient_has_zeros():
    x, other = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    found = hess_diag(First.apply(x, other.exp()).square().sum(), [x, other])
    assert [h.tolist() for h in found] == [[2.0, 2.0], [0.0, 0.0]]


def test_a_parameter_that_a_reentrant_checkpoint_hides():
    net, x = plain_net(), X.clone().requires_grad_()
    loss = checkpoint(net, x, use_reentrant=True).square().sum()
    with pytest.raises(MissingRuleError, match=r"CheckpointFunctionBackward hides .*\(8, 3\)"):
        hess_diag(loss, [net.first.weight])


PARAM = torch.ones(2, requires_grad=True)


@pytest.mark.parametrize(
    ("loss", "params", "message"),
    [
        (lambda: PARAM * 2, [PARAM], r"the loss must be a scalar, not of shape \(2,\)"),
        (lambda: torch.ones(()), [PARAM], "the loss does not require a gradient"),
        (lambda: 3.0, [PARAM], "the loss must be a tensor, not 3.0"),
        (PARAM.sum(), [PARAM * 2], r"of shape \(2,\) and dtype torch.float32 \(is_leaf=False"),
        (PARAM.sum(), [torch.ones(2, dtype=torch.int64)], r"shape \(2,\) and dtype torch.int64"),
        (PARAM.sum(), [PARAM, torch.ones(3)], r"shape \(3,\).*requires_grad=False"),
    ],
    ids=["vector", "constant", "number", "not a leaf", "integers", "no gradient"],
)
def test_what_it_refuses(loss, params, message):
    with pytest.raises(ValueError, match=message):
        hess_diag(loss, params)


def test_an_unknown_method_or_operation():
    with pytest.raises(ValueError, match=r"method must be one of hesscale, .*, not 'fisher'"):
        hess_diag(PARAM.sum(), [PARAM], "fisher")
    with pytest.raises(MissingRuleError, match="no curvature rule for FrexpBackward0"):
        hess_diag(PARAM.frexp()[0].sum(), [PARAM])
