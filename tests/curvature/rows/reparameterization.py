"""Samples of a gamma distribution, as functions of the concentration at a given level."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.curvature.implicit import gamma_distribution, second_derivatives
from tests.curvature.rows.row import Row

CONCENTRATION = torch.tensor([[0.3, 1.0, 4.0], [12.0, 0.07, 50.0]], dtype=torch.float64)


def sample(a: Tensor) -> Tensor:
    torch.manual_seed(5)
    return torch._standard_gamma(a)


SAMPLE = sample(CONCENTRATION)
SLOPE = torch._standard_gamma_grad(CONCENTRATION, SAMPLE)
SECOND = second_derivatives(gamma_distribution, SAMPLE, CONCENTRATION)


def by_expansion(a: Tensor) -> Tensor:
    """The same to second order, with PyTorch's own slope."""
    step = a - CONCENTRATION
    return SAMPLE + SLOPE * step + 0.5 * SECOND * step**2


ROWS = [
    Row(
        "_standard_gamma",
        "StandardGammaBackward0",
        sample,
        lambda: (CONCENTRATION.clone(),),
        by_expansion,
    ),
]
