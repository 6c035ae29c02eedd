"""Normalisation against the definition, with groups and shapes of all kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hesrl.curvature import arm
from tests.curvature.seeding import assert_defined

few = settings(max_examples=15, deadline=None, derandomize=True, database=None)
sizes = st.integers(1, 3)
positions = st.lists(st.integers(1, 2), max_size=2)
epsilons = st.sampled_from([1e-5, 0.5])


def check(function: Callable[..., Tensor], *shapes: Sequence[int]) -> None:
    """An offset from zero shows whether the mean is treated as the definition has it."""
    torch.manual_seed(0)
    values = (torch.randn(tuple(shape), dtype=torch.float64) + 0.5 for shape in shapes)
    assert_defined(function, *values, rtol=1e-9, of_largest=1e-11)


@few
@given(shape=st.lists(sizes, min_size=1, max_size=4), data=st.data(), eps=epsilons)
def test_layer_norm(shape, data, eps):
    own = shape[-data.draw(st.integers(1, len(shape))) :]
    affine = [own] * data.draw(st.integers(0, 2))
    check(lambda x, *affine: F.layer_norm(x, own, *affine, eps=eps), shape, *affine)


@few
@given(batch=sizes, groups=sizes, each=sizes, size=positions, eps=epsilons, count=st.integers(0, 2))
def test_group_norm(batch, groups, each, size, eps, count):
    channels = groups * each
    affine = [(channels,)] * count
    # PyTorch refuses to normalise single values.
    if batch * each * torch.Size(size).numel() > 1:
        shape = (batch, channels, *size)
        check(lambda x, *affine: F.group_norm(x, groups, *affine, eps=eps), shape, *affine)


@few
@given(
    batch=sizes,
    channels=sizes,
    size=positions,
    eps=epsilons,
    count=st.integers(0, 2),
    training=st.booleans(),
)
def test_batch_norm(batch, channels, size, eps, count, training):
    affine = [(channels,)] * count

    def function(x, *affine):
        mean = torch.linspace(-1, 1, channels, dtype=torch.float64)
        return F.batch_norm(x, mean, 1.3 + mean, *affine, training=training, eps=eps)

    if batch * torch.Size(size).numel() > 1:
        check(function, (batch, channels, *size), *affine)


@few
@given(batch=sizes, channels=sizes, size=st.lists(sizes, min_size=1, max_size=2), eps=epsilons)
def test_instance_norm(batch, channels, size, eps):
    if torch.Size(size).numel() > 1:
        check(lambda x: F.instance_norm(x, eps=eps), (batch, channels, *size))


@pytest.mark.parametrize("of", ["layer", "group", "batch"])
def test_weights_of_more_digits_than_the_input(of):
    """In bfloat16 with weights in float32, h is that of float32 to bfloat16's three digits."""
    torch.manual_seed(2)
    x, weight, bias = torch.randn(4, 6, 5), torch.rand(6) + 0.5, torch.randn(6)
    coefficients = torch.randn(4, 6, 5)

    def curvature(dtype: torch.dtype) -> list[Tensor]:
        inputs = [
            x.to(dtype).requires_grad_(),
            *(p.clone().requires_grad_() for p in (weight, bias)),
        ]
        arm(inputs)
        if of == "layer":
            y = F.layer_norm(inputs[0].mT, (6,), *inputs[1:]).mT
        elif of == "group":
            y = F.group_norm(inputs[0], 2, *inputs[1:])
        else:
            y = F.batch_norm(inputs[0], None, None, *inputs[1:], True)
        (coefficients * y.float().square()).sum().backward()
        return [t.hess_diag for t in inputs]

    for low, high in zip(curvature(torch.bfloat16), curvature(torch.float32), strict=True):
        assert (low.float() - high).abs().max() < 0.05 * high.abs().max()
