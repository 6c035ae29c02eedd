"""Random expressions of elementwise operations, on shapes that broadcast: all exact."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hesrl.curvature import arm
from tests import reference

sizes = st.integers(1, 3)
shapes = st.lists(sizes, min_size=1, max_size=3)


def few(count: int) -> settings:
    return settings(max_examples=count, deadline=None, derandomize=True, database=None)


def normal(shape: Sequence[int]) -> Tensor:
    return torch.randn(tuple(shape), dtype=torch.float64)


def assert_close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-11)


# Shifted where a difference of equal values would lie on a kink.
OPERATIONS: dict[int, list[Callable[..., Tensor]]] = {
    1: [
        F.mish,
        F.logsigmoid,
        F.softplus,
        F.silu,
        F.gelu,
        F.celu,
        F.hardswish,
        F.tanhshrink,
        F.softsign,
        torch.sin,
        torch.atan,
        torch.asinh,
        torch.erf,
        torch.sinc,
        torch.square,
        lambda x: torch.abs(x + 0.3),
        torch.frac,
        torch.special.log_ndtr,
        lambda x: torch.log1p(x * x),
        lambda x: torch.lgamma(x * x + 0.5),
        lambda x: torch.digamma(x * x + 0.5),
        lambda x: torch.special.entr(torch.sigmoid(x)),
        lambda x: torch.asin(0.9 * torch.tanh(x)),
        lambda x: torch.expm1(-x * x),
        lambda x: torch.rsqrt(x * x + 0.5),
        lambda x: x.clamp(-0.5, 0.8),
        lambda x: F.elu_(1 * x),
        lambda x: F.leaky_relu_(1 * x, 0.3),
        lambda x: torch.logit(torch.sigmoid(x), 0.2),
    ],
    2: [
        torch.add,
        torch.sub,
        torch.mul,
        torch.logaddexp,
        torch.fmin,
        torch.maximum,
        lambda a, b: torch.copysign(a + 0.3, b),
        lambda a, b: torch.rsub(a, b, alpha=0.3),
        lambda a, b: a / (b * b + 0.5),
        lambda a, b: torch.hypot(a, b * b + 0.5),
        lambda a, b: torch.atan2(a, b * b + 0.5),
        lambda a, b: torch.xlogy(a, b * b + 0.5),
        lambda a, b: torch.special.xlog1py(a, b * b),
        lambda a, b: torch.remainder(a, b * b + 0.5),
        lambda a, b: torch.pow(a * a + 0.5, b),
        lambda a, b: torch.clamp(a, min=b),
        lambda a, b: torch.where(a > b, a * b, b),
    ],
    3: [
        torch.lerp,
        torch.addcmul,
        lambda a, b, c: torch.addcdiv(a, b, c * c + 0.5, value=0.3),
        lambda a, b, c: torch.clamp(a + b - c, b - 0.5, c + 0.3),
        lambda a, b, c: torch.where(a > b, c, a),
    ],
}


@st.composite
def expressions(draw: st.DrawFn, count: int, depth: int) -> Any:
    """A number of an input, or an operation (arity, number) of expressions less deep.

    What an operation gives is squashed, lest a chain of them leave the range of the numbers.
    """
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        return draw(st.integers(0, count - 1))
    arity = draw(st.integers(1, 3))
    number = draw(st.integers(0, len(OPERATIONS[arity]) - 1))
    return arity, number, [draw(expressions(count, depth - 1)) for _ in range(arity)]


def evaluate(expression: Any, inputs: Sequence[Tensor]) -> Tensor:
    if isinstance(expression, int):
        return inputs[expression]
    arity, number, parts = expression
    return torch.tanh(OPERATIONS[arity][number](*(evaluate(part, inputs) for part in parts)))


def operand(data: st.DataObject, shape: Sequence[int]) -> Tensor:
    """A tensor that lacks some leading dimensions of a shape and has size 1 in some others."""
    kept = shape[data.draw(st.integers(0, len(shape))) :]
    narrow = data.draw(st.lists(st.booleans(), min_size=len(kept), max_size=len(kept)))
    return normal([1 if one else n for n, one in zip(kept, narrow, strict=True)])


@few(50)
@given(data=st.data(), shape=shapes, count=st.integers(1, 3), depth=st.integers(2, 4))
def test_any_elementwise_expression_is_exact(data, shape, count, depth):
    """Each entry of the result depends on one entry of each input: nothing is dropped."""
    torch.manual_seed(depth)
    inputs = [normal(shape), *(operand(data, shape) for _ in range(count - 1))]
    expression, other = (data.draw(expressions(count, depth)) for _ in range(2))

    def loss(*inputs: Tensor) -> Tensor:
        y = evaluate(expression, inputs)
        unused = sum(x.sum() for x in inputs)
        return (y * evaluate(other, inputs)).sum() + y.exp().mean() + unused

    params = [x.clone().requires_grad_() for x in inputs]
    arm(params)
    loss(*params).backward()
    assert_close([p.hess_diag for p in params], reference.hess_diag(loss, *inputs))


@few(40)
@given(exponent=st.floats(-9, 1), sign=st.sampled_from([-1, 1]))
def test_sinc_is_accurate_near_zero(exponent, sign):
    """Against the series ``Σ_k (−1)^k u^{2k} / (2k+1)!``, which needs no more terms."""
    x = torch.tensor(sign * 10**exponent / math.pi, dtype=torch.float64, requires_grad=True)
    arm([x])
    torch.sinc(x).backward()
    u = math.pi * x.item()
    terms = [
        (-1) ** k * 2 * k * (2 * k - 1) * u ** (2 * k - 2) / math.factorial(2 * k + 1)
        for k in range(1, 25)
    ]
    expected = torch.tensor(math.pi**2 * math.fsum(terms), dtype=torch.float64)
    torch.testing.assert_close(x.hess_diag, expected, rtol=1e-11, atol=1e-11)
