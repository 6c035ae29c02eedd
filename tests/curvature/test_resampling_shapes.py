"""Images sampled at points of all kinds: on pixels and edges, in images of one pixel."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hesrl.curvature import arm, hess_diag
from tests.curvature.rows.resampling import by_all_pixels
from tests.curvature.seeding import assert_defined, grad_and_hess

PADDINGS = ["zeros", "border", "reflection"]
few = settings(max_examples=40, deadline=None, derandomize=True, database=None)


@few
@given(
    size=st.lists(st.integers(1, 4), min_size=2, max_size=3),
    channels=st.integers(1, 3),
    points=st.integers(1, 3),
    mode=st.sampled_from(["bilinear", "nearest", "bicubic"]),
    padding=st.sampled_from(PADDINGS),
    align_corners=st.booleans(),
)
def test_images_of_all_sizes(size, channels, points, mode, padding, align_corners):
    torch.manual_seed(0)
    mode = "bilinear" if len(size) == 3 and mode == "bicubic" else mode
    options: dict[str, Any] = {"mode": mode, "align_corners": align_corners}
    image = torch.randn(2, channels, *size, dtype=torch.float64)
    grid = torch.randn(2, points, *size[1:], len(size), dtype=torch.float64)
    sample = partial(F.grid_sample, padding_mode=padding, **options)
    assert_defined(sample, image, grid, definition=by_all_pixels(padding=padding, **options))


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("align_corners", [False, True])
def test_on_pixels_and_edges_the_slope_is_the_gradients(mode, padding, align_corners):
    torch.manual_seed(1)
    ticks = torch.arange(-8, 9, dtype=torch.float64) / 6
    grid = torch.cartesian_prod(ticks, ticks).view(1, 17, 17, 2)
    image = torch.randn(1, 2, 4, 3, dtype=torch.float64)

    def sample(image: Tensor, grid: Tensor) -> Tensor:
        return F.grid_sample(image, grid, mode, padding, align_corners)

    params = [image.clone().requires_grad_(), grid.clone().requires_grad_()]
    arm(params)
    _, hess_out = grad_and_hess(sample(*params))
    slopes = torch.autograd.functional.jacobian(sample, (image, grid))
    for param, slope in zip(params, slopes, strict=True):
        expected = torch.tensordot(hess_out, slope.flatten(0, 3).square(), 1)
        torch.testing.assert_close(param.hess_diag, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_points_that_are_no_numbers_reach_no_pixel(mode):
    image = torch.ones(1, 1, 3, 3, requires_grad=True)
    points = torch.tensor([[[[math.nan, 0.0], [math.inf, 0.0], [1e30, 1e30]]]])
    (h,) = hess_diag(
        F.grid_sample(image, points, mode, align_corners=False).square().sum(), [image]
    )
    assert h.abs().sum() == 0
