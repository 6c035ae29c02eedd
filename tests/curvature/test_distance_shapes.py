"""Distances between sets of points of all sizes, and of points that are equal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hesrl.curvature import arm, hess_diag
from hesrl.curvature.rules import distance
from tests import reference
from tests.curvature.rows.distance import between, within
from tests.curvature.seeding import grad_and_hess

few = settings(max_examples=40, deadline=None, derandomize=True, database=None)
batches = st.lists(st.booleans(), min_size=2, max_size=2)


def normal(shape: Sequence[int]) -> Tensor:
    return torch.randn(tuple(shape), dtype=torch.float64)


def assert_defined(
    function: Callable[..., Tensor], definition: Callable[..., Tensor], *inputs: Tensor
) -> None:
    """The curvature of every input is the definition's; it may be missing for empty ones."""
    params = [x.clone().requires_grad_() for x in inputs]
    arm(params)
    grad_out, hess_out = grad_and_hess(function(*params))
    for n, param in enumerate(params):
        expected = reference.hesscale(definition, inputs, n, grad_out, hess_out)
        actual = torch.zeros_like(expected) if param.hess_diag is None else param.hess_diag
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-11)


@few
@given(
    sizes=st.lists(st.integers(0, 3), min_size=2, max_size=2),
    dims=st.integers(1, 3),
    batches=st.lists(batches, min_size=2, max_size=2),
    p=st.sampled_from([0.5, 1, 1.5, 2, 3, math.inf]),
    mode=st.sampled_from(["use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist"]),
)
def test_distances_between_sets(sizes, dims, batches, p, mode):
    """Of either set, batch dimensions may be missing or have size 1."""
    torch.manual_seed(0)
    a, b = (
        normal([2 if wide else 1 for wide in batch] + [size, dims])
        for batch, size in zip(batches, sizes, strict=True)
    )
    assert_defined(lambda a, b: torch.cdist(a, b, p, mode), between(p), a, b[0])


def test_points_some_at_a_time(monkeypatch):
    torch.manual_seed(1)
    monkeypatch.setattr(distance, "_AT_ONCE", 13)
    points = normal([2, 5, 2]), normal([2, 3, 2])
    assert_defined(lambda a, b: torch.cdist(a, b, 3), between(3), *points)
    assert_defined(lambda x: F.pdist(x, 1.5), within(1.5), normal([6, 2]))


@pytest.mark.parametrize("mode", ["use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist"])
def test_equal_points_have_no_curvature(mode):
    x = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    (h,) = hess_diag(torch.cdist(x, torch.zeros_like(x), 2, mode).square().sum(), [x])
    assert h.tolist() == [[0.0, 0.0]] * 3
