"""Upsampling to a size or by a factor."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hesrl.curvature.rules.interpolation import ANTIALIASED
from tests.curvature.rows.row import Row, normal

SIZES = ((5,), (4, 3), (2, 3, 2))
"""Of the input, for 1 to 3 dimensions."""


def image(ndim: int) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (normal(2, 1, *SIZES[ndim - 1]),)


def picked(upsample: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The entries whose numbers ``upsample`` returns, given each entry's number."""

    def function(x: Tensor) -> Tensor:
        size = x.shape[2:]
        numbers = upsample(torch.arange(size.numel(), dtype=torch.float64).view(1, 1, *size))
        return x.flatten(2)[..., numbers[0, 0].long()]

    return function


def slanted() -> tuple[Tensor, ...]:
    """Images of 5 by 4 that are not contiguous."""
    return (normal(2, 1, 4, 5).mT,)


def by_units(mode: str, options: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    """A linear function by what it makes of each unit vector, for `torch.func`."""

    def function(x: Tensor) -> Tensor:
        units = torch.eye(20, dtype=torch.float64).view(20, 1, 5, 4)
        columns = F.interpolate(units, mode=mode, antialias=True, **options)
        return torch.einsum("bj,jkl->bkl", x.flatten(1), columns[:, 0]).unsqueeze(1)

    return function


NEAREST = [
    Row(
        f"{mode} {ndim}d {options}",
        f"UpsampleNearest{exact}{ndim}DBackward0",
        upsample := partial(F.interpolate, mode=mode, **options),
        image(ndim),
        picked(upsample),
    )
    for mode, exact in (("nearest", ""), ("nearest-exact", "Exact"))
    for ndim in (1, 2, 3)
    for options in ({"scale_factor": 1.7}, {"size": 3})
]

LINEAR = [
    Row(
        f"{mode} {options}",
        f"Upsample{mode.capitalize()}{ndim}DBackward0",
        partial(F.interpolate, mode=mode, **options),
        image(ndim),
    )
    for ndim, mode in ((1, "linear"), (2, "bilinear"), (3, "trilinear"))
    for options in (
        {"scale_factor": 1.7},
        {"scale_factor": 0.6, "recompute_scale_factor": True},
        {"scale_factor": 2, "align_corners": True},
        {"size": 3},
        {"size": 1, "align_corners": True},
    )
]

WEIGHTED = [
    Row(
        f"{mode} {options}",
        f"Upsample{mode.capitalize()}2D{'Aa' if antialias else ''}Backward0",
        partial(F.interpolate, mode=mode, antialias=antialias, **options),
        slanted,
        by_units(mode, options) if mode == "lanczos" else None,
    )
    for mode, antialias in (("bicubic", False), *((mode.lower(), True) for mode in ANTIALIASED))
    for options in (
        {"scale_factor": 1.7},
        {"scale_factor": (0.4, 1.6), "recompute_scale_factor": True},
        {"scale_factor": (2, 0.5), "align_corners": True},
        {"size": (3, 7)},
        {"size": (1, 2)},
        {"size": (1, 1), "align_corners": True},
        {"size": (5, 4)},
    )
    if not (mode == "lanczos" and "align_corners" in options)
]

ROWS = NEAREST + LINEAR + WEIGHTED
