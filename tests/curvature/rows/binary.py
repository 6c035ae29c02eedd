"""Functions of two tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.curvature.rows.row import Row, broadcast, normal, one_positive, positive

xlog1py = torch.special.xlog1py


def factor_and_positive() -> tuple[Tensor, ...]:
    return normal(2, 1, 4), positive(3, 1)


ROWS = [
    Row("atan2", "Atan2Backward0", torch.atan2, broadcast),
    Row("hypot", "HypotBackward0", torch.hypot, broadcast),
    Row("logaddexp", "LogaddexpBackward0", torch.logaddexp, broadcast),
    Row("logaddexp2", "Logaddexp2Backward0", torch.logaddexp2, broadcast),
    Row("xlogy", "XlogyBackward0", torch.xlogy, factor_and_positive),
    Row("number xlogy", "XlogyBackward1", lambda b: torch.xlogy(-1.7, b), one_positive),
    Row("xlogy number", "XlogyBackward2", lambda a: torch.xlogy(a, 1.7)),
    Row("xlog1py", "SpecialXlog1PyBackward0", xlog1py, factor_and_positive),
    Row("number xlog1py", "SpecialXlog1PyBackward1", lambda b: xlog1py(-1.7, b), one_positive),
    Row("xlog1py number", "SpecialXlog1PyBackward2", lambda a: xlog1py(a, 1.7)),
]
