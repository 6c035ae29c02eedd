"""Convolutions of one to three dimensions with generated sizes and options."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.curvature.seeding import assert_defined, node_names

few = settings(max_examples=30, deadline=None, derandomize=True, database=None)
CONVOLUTIONS = F.conv1d, F.conv2d, F.conv3d
TRANSPOSED = F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d


@st.composite
def cases(draw, transposed):
    """Shapes of input, weight and bias, and the options of the convolution."""

    def each(low, high):
        return [draw(st.integers(low, high)) for _ in range(ndim)]

    ndim, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    n_in, n_out = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    small = 3 if ndim < 3 else 2
    kernel, stride, dilation, padding = each(1, small), each(1, 2), each(1, 2), each(0, 1)
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    options = {"groups": groups, "stride": stride, "dilation": dilation, "padding": padding}
    if transposed:
        size = each(1, 2)
        # The output must have an entry left after the padding.
        options["padding"] = [
            min(p, (span - 1) // 2) for p, span in zip(padding, spans, strict=True)
        ]
        below = [max(s, d) - 1 for s, d in zip(stride, dilation, strict=True)]
        options["output_padding"] = [draw(st.integers(0, limit)) for limit in below]
        weight = (n_in, n_out // groups, *kernel)
    else:
        extra = each(0, small - 1)
        size = [max(1, s - 2 * p) + e for s, p, e in zip(spans, padding, extra, strict=True)]
        weight = (n_out, n_in // groups, *kernel)
    batch = draw(st.sampled_from([(), (1,), (2,)]))
    bias = [(n_out,)] if draw(st.booleans()) else []
    return ndim, [(*batch, n_in, *size), weight, *bias], options


def check(function, shapes, options):
    torch.manual_seed(0)
    values = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    output = assert_defined(partial(function, **options), *values)
    assert "ConvolutionBackward0" in node_names(output)


@few
@given(case=cases(transposed=False))
def test_convolution(case):
    ndim, shapes, options = case
    check(CONVOLUTIONS[ndim - 1], shapes, options)


@few
@given(case=cases(transposed=True))
def test_transposed_convolution(case):
    ndim, shapes, options = case
    check(TRANSPOSED[ndim - 1], shapes, options)


@few
@given(
    ndim=st.integers(1, 2),
    kernel=st.integers(0, 1),
    dilation=st.integers(1, 2),
    length=st.integers(1, 4),
    padding=st.sampled_from(["same", "valid"]),
)
def test_padding_by_name(ndim, kernel, dilation, length, padding):
    width = 2 * kernel + 1
    length += (padding == "valid") * dilation * (width - 1)
    shapes = [(2, 1, *[length] * ndim), (2, 1, *[width] * ndim), (2,)]
    check(CONVOLUTIONS[ndim - 1], shapes, {"padding": padding, "dilation": dilation})
