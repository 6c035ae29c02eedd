"""Operations of one's own: a `torch.autograd.Function` with a rule of each kind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hesrl.curvature import arm, hess_diag, register_adjoint, register_pointwise, register_rule


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grad_out


class CubeElementwise(Cube):
    pass


class Halves(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:1].clone(), x[1:].clone()

    @staticmethod
    def backward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        return torch.cat([first, second])


@register_rule(Cube)
def cube(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    (x,) = node.saved_tensors
    return (3 * x**2) ** 2 * hess_out + 6 * x * grad_out


@register_pointwise(CubeElementwise)
def cube_elementwise(node: Any) -> Any:
    (x,) = node.saved_tensors
    return (3 * x**2,), ((0, 0, 6 * x),)


register_adjoint(Halves)


@pytest.mark.parametrize("function", [Cube, CubeElementwise])
def test_a_registered_function(function):
    param = nn.Parameter(torch.tensor([2.0, -1.0]))
    arm([param])
    function.apply(param).square().sum().backward()
    torch.testing.assert_close(param.hess_diag, 30 * param.detach() ** 4)


def test_an_elementwise_function_joins_the_region():
    param = nn.Parameter(torch.tensor([2.0, -1.0]))
    arm([param])
    (param * CubeElementwise.apply(param)).sum().backward()
    torch.testing.assert_close(param.hess_diag, 12 * param.detach() ** 2)


def test_a_linear_function_with_an_unused_output():
    param = nn.Parameter(torch.tensor([2.0, -1.0]))
    arm([param])
    Halves.apply(param)[1].square().sum().backward()
    assert param.hess_diag.tolist() == [0.0, 2.0]


class Twins(torch.autograd.Function):
    """Two copies, whose rule must not be called for a loss that is linear in them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.clone(), x.clone()

    @staticmethod
    def backward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        return first + second


class Twin(torch.autograd.Function):
    """One copy, likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> Tensor:
        return grad_out


@register_rule(Twin, Twins, linear=True)
def no_curvature_to_pass_on(node: Any, grad_out: Any, hess_out: Any) -> None:
    raise AssertionError("called without a curvature")


def test_a_linear_rule_is_not_called_without_curvature():
    param = nn.Parameter(torch.tensor([2.0, -1.0]))
    arm([param])
    one, two = Twins.apply(param)
    (Twin.apply(param) + one - 3 * two).sum().backward()
    assert param.hess_diag.tolist() == [0.0, 0.0]


class Scaled(torch.autograd.Function):
    """``y = a x + b`` and ``−b``, with arguments that are no tensors before, between and after."""

    @staticmethod
    def forward(ctx: Any, a: float, x: Tensor, flag: bool, b: Tensor, name: str) -> Any:
        ctx.a = a
        return a * x + b, b.neg()

    @staticmethod
    def backward(ctx: Any, grad: Tensor, of_b: Tensor) -> Any:
        return None, ctx.a * grad, None, grad - of_b, None


class Picked(Scaled):
    """Coefficients 0 and 1: the first n entries of x, and b backwards."""

    @staticmethod
    def forward(ctx: Any, a: float, x: Tensor, flag: bool, b: Tensor, name: str) -> Any:
        ctx.left_out = len(x) - int(a)
        return x[: int(a)].clone(), b.flip(0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, of_b: Tensor) -> Any:
        return None, nn.functional.pad(grad, (0, ctx.left_out)), None, of_b.flip(0), None


register_adjoint(Picked)


@register_rule(Scaled, linear=True)
def scaled(node: Any, grads: Any, hessians: Any) -> Any:
    """One entry per tensor, as in ``next_functions``."""
    assert len(node.next_functions) == 2
    hess, of_b = (0.0 if h is None else h for h in hessians)
    return node.a**2 * hess, hess + of_b


@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("function", [Scaled, Picked])
def test_arguments_that_are_no_tensors(function, needs):
    torch.manual_seed(0)
    x, b = (torch.randn(3).double().requires_grad_(need) for need in needs)
    arm(p for p in (x, b) if p.requires_grad)
    y, of_b = function.apply(2.0, x * 1.0, True, b * 1.0, "name")
    (y.pow(3).sum() + of_b.pow(3).sum()).backward()
    if function is Picked:
        expected = 6 * x.detach() * torch.tensor([1, 1, 0]), 6 * b.detach()
    else:
        y = y.detach()
        expected = 4 * 6 * y, 6 * y - 6 * b.detach()
    for param, hess in zip((x, b), expected, strict=True):
        if param.requires_grad:
            torch.testing.assert_close(param.hess_diag, hess)


class Wrong(Twin):
    """A copy whose rule sums over what it should leave apart."""


@register_rule(Wrong, linear=True)
def wrong(node: Any, grad_out: Any, hess_out: Tensor) -> Tensor:
    return hess_out.sum(0)


def test_a_rule_that_returns_a_wrong_shape_is_noticed():
    param = nn.Parameter(torch.ones(3, 2))
    arm([param])
    with pytest.raises(RuntimeError, match=r"shape \(3, 2\) got a curvature of shape \(2,\)"):
        Wrong.apply(param).square().sum().backward()
    with pytest.raises(RuntimeError, match="a rule on the way returns a wrong shape"):
        hess_diag(Wrong.apply(param).square().sum(), [param])
