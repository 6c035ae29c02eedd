"""The smooth activations of networks, also in place, which saves the result instead."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.curvature.rows.row import Row, normal


def widely() -> tuple[Tensor, ...]:
    """Entries on both sides of ±3, where the hard activations bend."""
    return (4 * normal(3, 4),)


def channels() -> tuple[Tensor, ...]:
    return normal(2, 3, 4), normal(3)


ROWS = [
    Row("tanh", "TanhBackward0", torch.tanh),
    Row("sigmoid", "SigmoidBackward0", torch.sigmoid),
    Row("logsigmoid", "LogSigmoidBackward0", F.logsigmoid),
    Row("softplus", "SoftplusBackward0", F.softplus),
    Row("softplus beta threshold", "SoftplusBackward0", lambda x: F.softplus(x, 2.0, 1.7)),
    Row("elu", "EluBackward0", lambda x: F.elu(x, 1.3)),
    Row(
        "elu in place",
        "EluBackward1",
        lambda x: F.elu_(x.clone(), 1.3),
        reference=lambda x: F.elu(x, 1.3),
    ),
    Row("selu", "EluBackward0", F.selu),
    Row("selu in place", "EluBackward1", lambda x: torch.selu_(x.clone()), reference=F.selu),
    Row("celu", "CeluBackward0", lambda x: F.celu(x, 0.5)),
    Row(
        "celu in place",
        "CeluBackward1",
        lambda x: torch.celu_(x.clone(), 0.5),
        reference=lambda x: F.celu(x, 0.5),
    ),
    Row("silu", "SiluBackward0", F.silu),
    Row("silu in place", "SiluBackward0", lambda x: F.silu(x.clone(), inplace=True)),
    Row("mish", "MishBackward0", F.mish),
    Row("gelu", "GeluBackward0", F.gelu),
    Row("gelu tanh", "GeluBackward0", lambda x: F.gelu(x, approximate="tanh")),
    Row("hardswish", "HardswishBackward0", F.hardswish, widely),
    Row("prelu", "PreluKernelBackward0", F.prelu, channels),
    Row("prelu of one weight", "PreluKernelBackward0", F.prelu, lambda: (normal(3, 4), normal(1))),
    Row("glu", "GluBackward0", F.glu),
    Row("glu of channels", "GluBackward0", lambda x: F.glu(x, -2), lambda: (normal(2, 4, 3),)),
]
