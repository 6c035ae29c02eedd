"""Special functions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.curvature.rows.row import Row, one_positive


def probabilities() -> tuple[Tensor, ...]:
    return (0.02 + 0.96 * torch.rand(3, 4, dtype=torch.float64),)


def widely() -> tuple[Tensor, ...]:
    """Entries from 0.001 to 8, of both signs."""
    return (torch.tensor([[1e-3, -0.02, 0.3, -1.9], [2.1, -2.5, 5.0, -8.0]], dtype=torch.float64),)


def bessel_i1(x: Tensor) -> Tensor:
    """By its power series; PyTorch's second derivative cancels near 0."""
    terms = (
        (x / 2) ** (2 * k + 1) * (1 / (math.factorial(k) * math.factorial(k + 1)))
        for k in range(40)
    )
    return sum(terms, torch.zeros_like(x))


ORDERS = torch.tensor([[1.0], [1.3], [4.0]], dtype=torch.float64)
ROWS = [
    Row("erf", "ErfBackward0", torch.erf),
    Row("erfc", "ErfcBackward0", torch.erfc),
    Row("erfcx", "SpecialErfcxBackward0", torch.special.erfcx),
    Row("erfinv", "ErfinvBackward0", torch.erfinv, probabilities),
    Row("ndtr", "ErfBackward0", torch.special.ndtr),
    Row("ndtri", "SpecialNdtriBackward0", torch.special.ndtri, probabilities),
    Row("log_ndtr", "SpecialLogNdtrBackward0", torch.special.log_ndtr),
    Row("logit", "LogitBackward0", torch.logit, probabilities),
    Row("logit eps", "LogitBackward0", lambda x: torch.logit(x, 0.2), probabilities),
    Row("entr", "SpecialEntrBackward0", torch.special.entr, one_positive),
    Row("lgamma", "LgammaBackward0", torch.lgamma, one_positive),
    Row("mvlgamma", "MvlgammaBackward0", lambda x: torch.mvlgamma(x + 1, 3), one_positive),
    Row("digamma", "DigammaBackward0", torch.digamma, one_positive),
    Row("polygamma", "PolygammaBackward0", lambda x: torch.polygamma(2, x), one_positive),
    Row(
        "polygamma in place",
        "PolygammaBackward1",
        lambda x: x.clone().polygamma_(2),
        one_positive,
        lambda x: torch.polygamma(2, x),
    ),
    Row("zeta", "SpecialZetaBackward0", lambda q: torch.special.zeta(ORDERS + 1, q), one_positive),
    Row(
        "zeta of number", "SpecialZetaBackward1", lambda q: torch.special.zeta(2.5, q), one_positive
    ),
    Row("gammainc", "IgammaBackward0", lambda x: torch.special.gammainc(ORDERS, x), one_positive),
    Row(
        "gammaincc", "IgammacBackward0", lambda x: torch.special.gammaincc(ORDERS, x), one_positive
    ),
    Row("i0", "I0Backward0", torch.i0),
    Row("i0e", "SpecialI0EBackward0", torch.special.i0e),
    Row("i1", "SpecialI1Backward0", torch.special.i1, widely, bessel_i1),
    Row(
        "i1e",
        "SpecialI1EBackward0",
        torch.special.i1e,
        widely,
        lambda x: torch.exp(-x.abs()) * bessel_i1(x),
    ),
]
