"""Samples as functions of their concentration, by their definition in many digits; free of hesrl.

``F(x(a), a)`` stays as it is, where F is the distribution function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import torch
from torch import Tensor

STEP = mpmath.mpf("1e-16")


def gamma_distribution(x: Any, a: Any) -> Any:
    return mpmath.gammainc(a, 0, x, regularized=True)


def beta_distribution(b: float) -> Callable[[Any, Any], Any]:
    return lambda x, a: mpmath.betainc(a, b, 0, x, regularized=True)


def derivatives(distribution: Callable[[Any, Any], Any], x: float, a: float) -> tuple[Any, Any]:
    """Return x' and x'', by solving for the sample at concentrations beside a."""
    with mpmath.workdps(80):
        x_here, a_here = mpmath.mpf(x), mpmath.mpf(a)
        level = mpmath.log(distribution(x_here, a_here))
        beside = []
        for a_beside in (a_here - STEP, a_here + STEP):

            def excess(log_x: Any, a_beside: Any = a_beside) -> Any:
                return mpmath.log(distribution(mpmath.exp(log_x), a_beside)) - level

            guess = mpmath.log(x_here)
            found = mpmath.findroot(excess, (guess, guess + STEP), solver="secant", tol=1e-120)
            beside.append(mpmath.exp(found))
        below, above = beside
        return (above - below) / (2 * STEP), (above - 2 * x_here + below) / STEP**2


def second_derivatives(
    distribution: Callable[[Any, Any], Any] | list[Callable[[Any, Any], Any]], x: Tensor, a: Tensor
) -> Tensor:
    """Return x'' of every entry; several entries may have a distribution each."""
    count = x.numel()
    several = distribution if isinstance(distribution, list) else [distribution] * count
    entries = zip(several, x.flatten().tolist(), a.flatten().tolist(), strict=True)
    second = [float(derivatives(*entry)[1]) for entry in entries]
    return torch.tensor(second, dtype=torch.float64).view(x.shape)
