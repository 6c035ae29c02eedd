"""Variances, standard deviations and norms."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.curvature.rows.row import Row, broadcast, normal, pair

aten = torch.ops.aten


def cube() -> tuple[Tensor, ...]:
    return (normal(2, 3, 4),)


ROWS = [
    Row("var", "VarBackward0", torch.var),
    Row("var dim biased", "VarBackward0", lambda x: x.var(-1, unbiased=False)),
    Row(
        "var dims keepdim",
        "VarBackward0",
        lambda x: x.var((-1, 0), correction=2, keepdim=True),
        cube,
    ),
    Row("std", "StdBackward0", torch.std),
    Row("std dims", "StdBackward0", lambda x: x.std((-1, 0), correction=0), cube),
    Row("var_mean", "VarMeanBackward0", lambda x: torch.var_mean(x, -1, correction=0)),
    Row("std_mean", "StdMeanBackward0", lambda x: torch.std_mean(x, (0, -1), keepdim=True), cube),
    Row("mean of std_mean", "StdMeanBackward0", lambda x: torch.std_mean(x)[1]),
    *(
        Row(
            f"vector_norm {p}",
            "LinalgVectorNormBackward0",
            lambda x, p=p: torch.linalg.vector_norm(x, p, (-1, 0)),
            cube,
        )
        for p in (0.5, 1, 1.5, 2, 3, math.inf, -math.inf, -2)
    ),
    Row("frobenius", "LinalgVectorNormBackward0", torch.linalg.matrix_norm, cube),
    Row("aten.norm", "NormBackward0", lambda x: aten.norm.Scalar(x, 3)),
    Row("aten.norm dim", "NormBackward1", lambda x: aten.norm.ScalarOpt_dim(x, None, [-1])),
    Row(
        "aten.norm dtype",
        "NormBackward2",
        lambda x: aten.norm.ScalarOpt_dtype(x, 2, dtype=torch.float64),
    ),
    Row(
        "aten.norm dim dtype",
        "NormBackward3",
        lambda x: aten.norm.ScalarOpt_dim_dtype(x, 1.5, [0], True, dtype=torch.float64),
    ),
    *(
        Row(f"dist {p}", "DistBackward0", lambda a, b, p=p: torch.dist(a, b, p), broadcast)
        for p in (1, 1.5, 2, 3, math.inf)
    ),
    Row("pairwise_distance", "NormBackward1", torch.nn.functional.pairwise_distance, pair),
]
