"""Rules of the families that take any shape, against the definition on shapes of all kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.curvature.seeding import assert_defined

sizes = st.integers(1, 3)
shapes = st.lists(sizes, min_size=1, max_size=3)
few = settings(max_examples=25, deadline=None, derandomize=True, database=None)


def check(function: Callable[..., Any], *shapes: Sequence[int]) -> None:
    torch.manual_seed(0)
    inputs = (torch.rand(tuple(shape), dtype=torch.float64) + 0.2 for shape in shapes)
    assert_defined(function, *inputs)


@few
@given(batch=st.lists(sizes, max_size=3), n_in=sizes, n_out=sizes, bias=st.booleans())
def test_linear(batch, n_in, n_out, bias):
    check(F.linear, (*batch, n_in), (n_out, n_in), *([(n_out,)] if bias else []))


@few
@given(
    shape=shapes,
    data=st.data(),
    function=st.sampled_from([torch.softmax, torch.log_softmax, torch.logsumexp]),
)
def test_softmax_family(shape, data, function):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    check(lambda x: function(x, dim), shape)


@few
@given(
    shape=shapes,
    data=st.data(),
    keepdim=st.booleans(),
    function=st.sampled_from([torch.sum, torch.mean, torch.logsumexp]),
)
def test_reductions(shape, data, keepdim, function):
    all_dims = st.integers(0, len(shape) - 1)
    dims = data.draw(st.lists(all_dims, min_size=1, unique=True))
    signs = data.draw(st.lists(st.booleans(), min_size=len(dims), max_size=len(dims)))
    dims = [dim - len(shape) * sign for dim, sign in zip(dims, signs, strict=True)]
    check(lambda x: function(x, dims, keepdim=keepdim), shape)


@few
@given(
    shape=shapes,
    data=st.data(),
    function=st.sampled_from([torch.add, torch.sub, torch.mul, torch.div, torch.pow]),
)
def test_broadcasting_arithmetic(shape, data, function):
    """Each operand lacks some leading dimensions and has size 1 in some others."""
    operands = []
    for _ in range(2):
        kept = shape[data.draw(st.integers(0, len(shape))) :]
        narrow = data.draw(st.lists(st.booleans(), min_size=len(kept), max_size=len(kept)))
        operands.append([1 if one else n for n, one in zip(kept, narrow, strict=True)])
    check(function, *operands)
