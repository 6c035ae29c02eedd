"""Reductions over dimensions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.curvature.rows.row import Row, normal


def with_nan() -> tuple[Tensor, ...]:
    x = normal(3, 4)
    x[1, 2] = math.nan
    return (x,)


def with_zeros() -> tuple[Tensor, ...]:
    """Rows with no, one and two zeros."""
    x = normal(3, 4)
    x[1, 0] = x[2, 1] = x[2, 3] = 0
    return (x,)


def with_one_zero() -> tuple[Tensor, ...]:
    x = normal(3, 4)
    x[1, 2] = 0
    return (x,)


def product_of_columns(x: Tensor) -> Tensor:
    return x[:, 0] * x[:, 1] * x[:, 2] * x[:, 3]


def product_of_all(x: Tensor) -> Tensor:
    first, second, third = product_of_columns(x)
    return first * second * third


def largest_so_far(x: Tensor) -> Tensor:
    return torch.stack([x[:, : k + 1].amax(1) for k in range(x.shape[1])], 1)


def products_so_far(x: Tensor) -> Tensor:
    a, b, c, d = x.unbind(1)
    return torch.stack([a, a * b, a * b * c, a * b * c * d], 1)


ROWS = [
    Row("sum", "SumBackward0", torch.sum),
    Row("sum dim", "SumBackward1", lambda x: x.sum(0)),
    Row("sum dims keepdim", "SumBackward1", lambda x: x.sum((-1, 0), keepdim=True)),
    Row("nansum", "NansumBackward0", lambda x: x.nansum(-1), with_nan),
    Row("cumsum", "CumsumBackward0", lambda x: x.cumsum(-1)),
    Row("cumprod", "CumprodBackward0", lambda x: x.cumprod(0)),
    Row(
        "cumprod with zeros",
        "CumprodBackward0",
        lambda x: x.t().cumprod(-2),
        with_zeros,
        lambda x: products_so_far(x).t(),
    ),
    Row("logcumsumexp", "LogcumsumexpBackward0", lambda x: x.logcumsumexp(-1)),
    Row("mean", "MeanBackward0", torch.mean),
    Row("mean dim", "MeanBackward1", lambda x: x.mean(-1)),
    Row("mean dims keepdim", "MeanBackward1", lambda x: x.mean((-1, 0), keepdim=True)),
    Row("max dim", "MaxBackward0", lambda x: x.max(1).values),
    Row("min dim", "MinBackward0", lambda x: x.min(0, keepdim=True).values),
    Row("max", "MaxBackward1", torch.max),
    Row("min", "MinBackward1", torch.min),
    Row("amax", "AmaxBackward0", torch.amax),
    Row("amax dims", "AmaxBackward0", lambda x: x.amax((-1, 0)), lambda: (normal(2, 3, 4),)),
    Row("amin dim keepdim", "AminBackward0", lambda x: x.amin(-1, keepdim=True)),
    Row("aminmax", "AminmaxBackward0", torch.aminmax),
    Row("aminmax dim", "AminmaxBackward0", lambda x: torch.aminmax(x, dim=-1)),
    Row("cummax", "CummaxBackward0", lambda x: x.cummax(-1).values, reference=largest_so_far),
    Row(
        "cummin",
        "CumminBackward0",
        lambda x: x.cummin(-1).values,
        reference=lambda x: -largest_so_far(-x),
    ),
    Row("prod", "ProdBackward0", torch.prod),
    Row("prod with a zero", "ProdBackward0", torch.prod, with_one_zero, product_of_all),
    Row("prod dim", "ProdBackward1", lambda x: x.prod(0, keepdim=True)),
    Row(
        "prod dim with zeros", "ProdBackward1", lambda x: x.prod(-1), with_zeros, product_of_columns
    ),
]
