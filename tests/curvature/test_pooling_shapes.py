"""Pooling and upsampling against the definition, with windows and sizes of all kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.curvature.seeding import assert_defined

few = settings(max_examples=25, deadline=None, derandomize=True, database=None)
ndims = st.integers(1, 3)
LONGEST = {1: 9, 2: 5, 3: 3}


def check(function: Callable[[Tensor], Tensor], size: Sequence[int]) -> None:
    torch.manual_seed(0)
    assert_defined(function, torch.randn(1, 2, *size, dtype=torch.float64))


def several(low: int, high: int, count: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(low, high), min_size=count, max_size=count)


@st.composite
def windows(draw: st.DrawFn) -> tuple[list[int], dict[str, object]]:
    """An input size, and options of windows that fit into it."""
    ndim = draw(ndims)
    kernel = draw(several(1, 3, ndim))
    size = [draw(st.integers(k, max(k, LONGEST[ndim]))) for k in kernel]
    return size, {
        "kernel_size": kernel,
        "stride": draw(several(1, 3, ndim)),
        "padding": [draw(st.integers(0, k // 2)) for k in kernel],
        "ceil_mode": draw(st.booleans()),
    }


@few
@given(window=windows(), count_include_pad=st.booleans(), divisor=st.sampled_from([None, 2, -3]))
def test_average_pooling(window, count_include_pad, divisor):
    size, options = window
    options["count_include_pad"] = count_include_pad
    if len(size) > 1:
        options["divisor_override"] = divisor
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(size) - 1]
    check(lambda x: pool(x, **options), size)


@few
@given(window=windows())
def test_max_pooling(window):
    size, options = window
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(size) - 1]
    check(lambda x: pool(x, **options), size)


@st.composite
def resized(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    ndim = draw(ndims)
    return draw(several(1, LONGEST[ndim], ndim)), draw(several(1, LONGEST[ndim], ndim))


@few
@given(sizes=resized(), average=st.booleans())
def test_adaptive_pooling(sizes, average):
    size, output = sizes
    averages = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
    largest = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
    pool = (averages if average else largest)[len(size) - 1]
    check(lambda x: pool(x, output), size)


@few
@given(sizes=resized(), align_corners=st.booleans(), nearest=st.booleans())
def test_upsampling(sizes, align_corners, nearest):
    size, output = sizes
    if nearest:
        check(lambda x: F.interpolate(x, output), size)
    else:
        mode = ("linear", "bilinear", "trilinear")[len(size) - 1]
        check(lambda x: F.interpolate(x, output, None, mode, align_corners), size)


@few
@given(size=several(1, 7, 1), factor=st.floats(0.3, 2.5), align_corners=st.booleans())
def test_upsampling_by_a_factor(size, factor, align_corners):
    if int(size[0] * factor) > 0:
        check(lambda x: F.interpolate(x, None, factor, "linear", align_corners), size)
