"""Special functions of one tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.curvature.rows.row import Row, one_positive


def probabilities() -> tuple[Tensor, ...]:
    return (0.02 + 0.96 * torch.rand(3, 4, dtype=torch.float64),)


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
    Row("i0", "I0Backward0", torch.i0),
    Row("i0e", "SpecialI0EBackward0", torch.special.i0e),
]
