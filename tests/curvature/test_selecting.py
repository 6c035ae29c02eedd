"""Masks select: behind a mask nothing counts, even what is infinite there.

PyTorch's gradient selects, so it is finite where a mask hides an infinite slope. The curvature
there is that of the function by pieces: zero where an entry is masked out.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hesrl.curvature import arm

POINTS = [-2.0, -0.5, 0.3, 1.0, 1.7]
"""Two that are masked out, and three that are not."""
Function = Callable[[Tensor], Tensor]

MASKS: dict[str, Function] = {
    "relu": lambda x: x.relu(),
    "F.threshold": lambda x: F.threshold(x, 0.0, 0.0),
    "clamp(min=0)": lambda x: x.clamp(min=0),
    "clamp(0, 5)": lambda x: x.clamp(0, 5),
    "clamp by a tensor": lambda x: x.clamp(min=torch.zeros_like(x)),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "where, a tensor": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "fmax": lambda x: torch.fmax(x, torch.zeros_like(x)),
    "masked_fill": lambda x: x.masked_fill(x < 0, 0.0),
    "masked_fill, a tensor": lambda x: x.masked_fill(x < 0, x.new_zeros(())),
    "hardtanh": lambda x: F.hardtanh(x, 0.0, 5.0),
    "relu6": F.relu6,
    "softshrink": lambda x: F.softshrink(x, 0.25),
    "hardshrink": lambda x: F.hardshrink(x, 0.25),
    "in place": lambda x: x.clone().relu_(),
}
"""What is x above zero and 0 below, or a part of that, with a gradient that selects."""
STEEP: dict[str, tuple[Function, Function]] = {
    "sqrt": (torch.sqrt, lambda y: -0.25 * y**-1.5),
    "** 0.5": (lambda y: y**0.5, lambda y: -0.25 * y**-1.5),
    "** 1.5": (lambda y: y**1.5, lambda y: 0.75 * y**-0.5),
    "** a tensor": (lambda y: y ** torch.full_like(y, 1.5), lambda y: 0.75 * y**-0.5),
    "log": (torch.log, lambda y: -(y**-2)),
    "log2": (torch.log2, lambda y: -(y**-2) / math.log(2)),
    "reciprocal": (torch.reciprocal, lambda y: 2 * y**-3),
    "1 / y": (lambda y: 1 / y, lambda y: 2 * y**-3),
    "rsqrt": (torch.rsqrt, lambda y: 0.75 * y**-2.5),
    "xlogy": (lambda y: torch.xlogy(y, y), lambda y: 1 / y),
    "y log y": (lambda y: y * y.log(), lambda y: 1 / y),
}
"""Functions with an infinite slope or curvature at 0, and their second derivative."""


def computed(function: Function, points: list[float] | Tensor) -> tuple[Tensor, Tensor]:
    """The gradient and curvature of the sum of a function's values."""
    x = torch.as_tensor(points, dtype=torch.float64).clone().requires_grad_()
    arm([x])
    function(x).sum().backward()
    return x.grad, x.hess_diag


def assert_selects(function: Function, second: Function, points: list[float]) -> None:
    """Where the gradient is finite, h is the second derivative of the piece.

    Args:
        function: A function of x.
        second: Its second derivative where it is smooth; zero is expected elsewhere.
        points: Where.
    """
    grad, hess = computed(function, points)
    x = torch.tensor(points, dtype=torch.float64)
    expected = torch.where(grad == 0, 0.0, second(x)).nan_to_num(0.0, 0.0, 0.0)
    is_finite = grad.isfinite()
    assert is_finite.any() and (grad == 0).any()
    torch.testing.assert_close(hess[is_finite], expected[is_finite], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steep", STEEP)
@pytest.mark.parametrize("mask", MASKS)
def test_what_a_mask_hides_has_no_curvature(mask, steep):
    function, second = STEEP[steep]
    points = [-0.2, 0.1, *POINTS[2:]] if "shrink" in mask else POINTS
    start = 0.25 if mask == "softshrink" else 0.0
    assert_selects(
        lambda x: function(MASKS[mask](x)), lambda x: second((x - start).clamp(min=0)), points
    )


CASES: dict[str, tuple[Function, Function, list[float]]] = {
    "clamp(-1, 1).acos()": (
        lambda x: x.clamp(-1, 1).acos(),
        lambda x: -x * (1 - x * x) ** -1.5,
        [-3.0, -1.5, -0.4, 0.6, 1.2],
    ),
    "clamp(-1, 1).asin()": (
        lambda x: x.clamp(-1, 1).asin(),
        lambda x: x * (1 - x * x) ** -1.5,
        [-3.0, -1.5, -0.4, 0.6, 1.2],
    ),
    "hardtanh().atanh()": (
        lambda x: F.hardtanh(x).atanh(),
        lambda x: 2 * x / (1 - x * x) ** 2,
        [-3.0, -1.5, -0.4, 0.6, 1.2],
    ),
    "clamp(min=1).acosh()": (
        lambda x: x.clamp(min=1).acosh(),
        lambda x: -x * (x * x - 1) ** -1.5,
        [-3.0, 0.4, 1.5, 3.0],
    ),
    "where(x > 0, log x, 0)": (
        lambda x: torch.where(x > 0, x.clamp(min=0).log(), 0.0),
        lambda x: -(x**-2),
        [-3.0, -0.4, 0.4, 1.5],
    ),
    "where(x > 1, x, 1).log().sqrt()": (
        lambda x: torch.where(x > 1, x, 1.0).log().sqrt(),
        lambda x: -(0.5 / x.log() + 1) / (2 * x * x * x.log().sqrt()),
        [-3.0, 0.4, 1.5, 3.0],
    ),
    "relu().sqrt() ** 3": (
        lambda x: x.relu().sqrt() ** 3,
        lambda x: 0.75 * x**-0.5,
        [-3.0, -0.4, 0.4, 1.5],
    ),
    "tanh(relu().sqrt())": (
        lambda x: x.relu().sqrt().tanh(),
        lambda x: -(1 - x.sqrt().tanh() ** 2) * (x.sqrt().tanh() / (2 * x) + 0.25 * x**-1.5),
        [-3.0, -0.4, 0.4, 1.5],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_bound_hides_a_pole(name):
    assert_selects(*CASES[name])


@pytest.mark.parametrize("steep", ["sqrt", "** 0.5", "** 1.5"])
@pytest.mark.parametrize("mask", ["relu", "clamp(min=0)", "where", "maximum", "masked_fill"])
def test_paths_that_meet_select_as_well(mask, steep):
    """``m f(m) + f(m)`` with m = mask(x): a diamond with an infinite slope in it."""
    function, _ = STEEP[steep]

    def joined(x: Tensor) -> Tensor:
        m = MASKS[mask](x)
        return m * function(m) + function(m)

    points = [-2.0, -0.5, 0.3, 1.7]
    grad, hess = computed(joined, points)
    assert grad.isfinite().all()
    smooth = torch.tensor([0.3, 1.7], dtype=torch.float64)
    expected = torch.func.vmap(
        torch.func.grad(torch.func.grad(lambda y: y * function(y) + function(y)))
    )
    torch.testing.assert_close(hess[2:], expected(smooth), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(hess[:2], torch.zeros_like(hess[:2]))


def test_the_softmax_of_a_row_that_is_masked_out():
    x = torch.tensor([[0.3, -0.2], [0.1, 0.7]], dtype=torch.float64, requires_grad=True)
    arm([x])
    mask = torch.tensor([[True, True], [False, False]])
    p = torch.nan_to_num(x.masked_fill(mask, -math.inf).softmax(1))
    (p.square() * torch.tensor([1.0, -0.3], dtype=torch.float64)).sum().backward()
    is_finite = x.grad.isfinite()
    assert x.hess_diag[is_finite].isfinite().all()
    assert (x.hess_diag[0][is_finite[0]] == 0).all() and is_finite[1].all()


def test_at_the_origin_the_angle_has_the_slope_of_the_gradient_and_no_curvature():
    inputs = [torch.zeros(2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    arm(inputs)
    torch.atan2(*inputs).sum().backward()
    for x in inputs:
        assert not x.grad.any() and not x.hess_diag.any()


@pytest.mark.parametrize(
    "function",
    [
        lambda x, m: x.masked_fill(m, 0.4).square(),
        lambda x, m: torch.where(m, x, 0.4).square(),
        lambda x, m: (x * m).square(),
    ],
    ids=["masked_fill", "where", "times a mask"],
)
def test_a_mask_broader_than_what_it_masks(function):
    """With x of one row and a mask of two, the curvature of the copies adds up."""
    x = torch.tensor([[0.3, -0.2, 0.7]], dtype=torch.float64, requires_grad=True)
    arm([x])
    mask = torch.tensor([[True, False, False], [True, True, False]])
    function(x, mask).sum().backward()
    kept = (function(x, mask).detach() == x.detach().square()).sum(0, keepdim=True)
    torch.testing.assert_close(x.hess_diag, 2.0 * kept.double())
