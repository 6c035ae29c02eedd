"""Reductions, distances and losses against the definition, with options of all kinds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.curvature.rows.row import WITHOUT_GRADIENT
from tests.curvature.seeding import assert_defined

sizes = st.integers(1, 3)
shapes = st.lists(sizes, min_size=1, max_size=3)
few = settings(max_examples=30, deadline=None, derandomize=True, database=None)

aminmax = (
    (lambda x, dim, keepdim: (x.amin(dim, keepdim), x.amax(dim, keepdim)))
    if "AminmaxBackward0" in WITHOUT_GRADIENT
    else torch.aminmax
)


def normal(shape: Sequence[int]) -> Tensor:
    return torch.randn(tuple(shape), dtype=torch.float64)


@settings(few, max_examples=60)
@given(
    data=st.data(),
    shape=st.lists(st.integers(2, 3), min_size=1, max_size=3),
    keepdim=st.booleans(),
    correction=st.sampled_from([0, 1, 0.5]),
    p=st.sampled_from([0.5, 1, 1.5, 2, 3, math.inf, -math.inf, -1]),
)
def test_reductions(data, shape, keepdim, correction, p):
    ndim = len(shape)
    dims = data.draw(st.lists(st.integers(0, ndim - 1), min_size=1, unique=True))
    signs = data.draw(st.lists(st.booleans(), min_size=len(dims), max_size=len(dims)))
    dims = [dim - ndim * sign for dim, sign in zip(dims, signs, strict=True)]
    spread = {"correction": correction, "keepdim": keepdim}
    function = data.draw(
        st.sampled_from(
            [
                lambda x: torch.amax(x, dims, keepdim),
                lambda x: aminmax(x, dim=dims[0], keepdim=keepdim),
                lambda x: torch.var(x, dims, **spread),
                lambda x: torch.std_mean(x, dims, **spread),
                lambda x: torch.linalg.vector_norm(x, p, dims, keepdim),
                lambda x: torch.norm(x, p, dims, keepdim),
                lambda x: torch.prod(x, dims[0], keepdim),
                lambda x: torch.nansum(x, dims, keepdim),
                lambda x: torch.cumsum(x, dims[0]),
                lambda x: torch.logcumsumexp(x, dims[0]),
            ]
        )
    )
    torch.manual_seed(0)
    assert_defined(function, normal(shape))


@few
@given(
    shape=st.lists(st.integers(2, 3), min_size=1, max_size=3),
    data=st.data(),
    p=st.sampled_from([1, 1.5, 2, 3, math.inf]),
)
def test_distances_of_broadcast_tensors(shape, data, p):
    """Of either tensor some dimensions may have size 1, and the second may lack leading ones."""
    torch.manual_seed(0)
    narrow = st.lists(st.booleans(), min_size=len(shape), max_size=len(shape))
    a, b = (
        normal([1 if one else n for n, one in zip(shape, data.draw(narrow), strict=True)])
        for _ in range(2)
    )
    b = b[(0,) * data.draw(st.integers(0, len(shape)))]
    assert_defined(lambda a, b: torch.dist(a, b, p), a, b)


LOSSES: list[Callable[..., Tensor]] = [
    lambda x, t, w, r: F.mse_loss(x, t, reduction=r),
    lambda x, t, w, r: F.huber_loss(x, t, r, 0.7),
    lambda x, t, w, r: F.smooth_l1_loss(x, t, reduction=r, beta=0.7),
    lambda x, t, w, r: F.binary_cross_entropy_with_logits(x, t, reduction=r),
    lambda x, t, w, r: F.binary_cross_entropy_with_logits(x, t, w, reduction=r, pos_weight=1 / w),
]


@few
@given(
    shape=shapes,
    loss=st.sampled_from(LOSSES),
    reduction=st.sampled_from(["none", "mean", "sum"]),
)
def test_losses_of_terms(shape, loss, reduction):
    torch.manual_seed(0)
    weights = torch.rand(shape[-1], dtype=torch.float64) + 0.5
    assert_defined(lambda x, t: loss(x, t, weights, reduction), normal(shape), normal(shape))


@few
@given(
    batch=sizes,
    classes=st.integers(2, 4),
    pixels=st.lists(sizes, max_size=3),
    reduction=st.sampled_from(["none", "mean", "sum"]),
    ignored=st.booleans(),
)
def test_nll_loss(batch, classes, pixels, reduction, ignored):
    torch.manual_seed(0)
    targets = torch.randint(1, classes, (batch, *pixels))
    targets[0] = 0
    weights = torch.rand(classes, dtype=torch.float64) + 0.5
    ignore_index = classes - 1 if ignored else -100
    assert_defined(
        lambda x: F.nll_loss(x, targets, weights, ignore_index=ignore_index, reduction=reduction),
        normal([batch, classes, *pixels]),
    )
