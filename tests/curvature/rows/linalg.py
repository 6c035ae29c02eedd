"""Linear systems, inverses, determinants, cross products and Cholesky factors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.curvature.rows.row import Row, normal


def matrix(*shape: int) -> Tensor:
    """Square matrices of both signs that are far from singular, and not symmetric."""
    return normal(*shape) + 3 * torch.eye(shape[-1], dtype=torch.float64)


def symmetric(*shape: int) -> Tensor:
    """Positive definite matrices."""
    a = normal(*shape)
    return a @ a.mT + torch.eye(shape[-1], dtype=torch.float64)


def lower(*shape: int) -> Tensor:
    return matrix(*shape).tril()


def upper(*shape: int) -> Tensor:
    return matrix(*shape).triu()


def deprecated(function: Callable[..., Any]) -> Callable[..., Any]:
    def quiet(*inputs: Tensor) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return function(*inputs)

    return quiet


def by_inverse(a: Tensor, b: Tensor, left: bool) -> Tensor:
    """The same as `torch.linalg.solve`, which cannot be differentiated for a batch of vectors b."""
    if a.shape[:-1] == b.shape or b.dim() == 1:
        return (torch.linalg.inv(a) @ b.unsqueeze(-1)).squeeze(-1)
    return torch.linalg.inv(a) @ b if left else b @ torch.linalg.inv(a)


SYSTEMS = [
    *(
        Row(
            f"solve {a} {b} left={left}",
            "LinalgSolveExBackward0",
            lambda a, b, left=left: torch.linalg.solve(a, b, left=left),
            lambda a=a, b=b: (matrix(*a), normal(*b)),
            lambda a, b, left=left: by_inverse(a, b, left),
        )
        for a, b, left in (
            ((3, 3), (3, 2), True),
            ((3, 3), (2, 3), False),
            ((3, 3), (3,), True),
            ((2, 3, 3), (2, 3), True),
            ((2, 3, 3), (3, 1), True),
            ((3, 3), (2, 3, 2), True),
            ((2, 1, 2, 2), (3, 2, 2), False),
            ((1, 1), (1, 1), True),
            ((0, 2, 2), (0, 2, 1), True),
        )
    ),
    *(
        Row(
            f"solve_triangular {a} {b} upper={upper} left={left} unit={unit}",
            "LinalgSolveTriangularBackward0",
            lambda a, b, upper=upper, left=left, unit=unit: torch.linalg.solve_triangular(
                a, b, upper=upper, left=left, unitriangular=unit
            ),
            lambda a=a, b=b: (matrix(*a), normal(*b)),
        )
        for upper in (True, False)
        for unit in (True, False)
        for a, b, left in (
            ((3, 3), (3, 2), True),
            ((3, 3), (2, 3), False),
            ((3, 3), (2, 3, 1), True),
            ((2, 1, 2, 2), (3, 2, 2), False),
        )
    ),
    *(
        Row(
            f"triangular_solve upper={upper} transpose={transpose} unit={unit}",
            "TriangularSolveBackward0",
            deprecated(
                lambda b, a, upper=upper, transpose=transpose, unit=unit: torch.triangular_solve(
                    b, a, upper, transpose, unit
                )
            ),
            lambda: (normal(2, 3, 2), matrix(3, 3)),
        )
        for upper in (True, False)
        for transpose in (True, False)
        for unit in (True, False)
    ),
    Row(
        "triangular_solve without the copy",
        "TriangularSolveBackward0",
        deprecated(lambda b, a: torch.triangular_solve(b, a).solution),
        lambda: (normal(3, 2), matrix(3, 3)),
    ),
    Row("inv", "LinalgInvExBackward0", torch.linalg.inv, lambda: (matrix(3, 3),)),
    Row("inverse", "LinalgInvExBackward0", torch.inverse, lambda: (matrix(2, 1, 2, 2),)),
]

DETERMINANTS = [
    Row("det", "LinalgDetBackward0", torch.linalg.det, lambda: (normal(3, 3),)),
    Row("det of several", "LinalgDetBackward0", torch.det, lambda: (normal(2, 1, 3, 3),)),
    Row(
        "slogdet", "LinalgSlogdetBackward0", lambda a: torch.slogdet(a)[1], lambda: (normal(3, 3),)
    ),
    Row("slogdet with sign", "LinalgSlogdetBackward0", torch.slogdet, lambda: (normal(2, 3, 3),)),
    Row("logdet", "LinalgSlogdetBackward0", torch.logdet, lambda: (symmetric(2, 3, 3),)),
]

FACTORS = [
    *(
        Row(
            f"cholesky {shape} upper={upper}",
            "LinalgCholeskyExBackward0",
            lambda a, upper=upper: torch.linalg.cholesky(a, upper=upper),
            lambda shape=shape: (symmetric(*shape),),
        )
        for upper in (True, False)
        for shape in ((4, 4), (2, 1, 3, 3), (1, 1), (2, 0, 3, 3))
    ),
    *(
        Row(
            f"torch.cholesky upper={upper}",
            "CholeskyBackward0",
            deprecated(lambda a, upper=upper: torch.cholesky(a, upper)),
            lambda: (symmetric(2, 3, 3),),
        )
        for upper in (True, False)
    ),
    *(
        Row(
            f"cholesky_solve {b} {factor} upper={is_upper}",
            "CholeskySolveBackward0",
            lambda b, factor, is_upper=is_upper: torch.cholesky_solve(b, factor, upper=is_upper),
            lambda b=b, factor=factor, draw=draw: (normal(*b), draw(*factor)),
        )
        for is_upper, draw in ((True, upper), (False, lower))
        for b, factor in (((3, 2), (3, 3)), ((2, 1, 3, 1), (2, 3, 3)), ((2, 2, 2), (2, 2)))
    ),
    *(
        Row(
            f"cholesky_inverse {shape} upper={is_upper}",
            "CholeskyInverseBackward0",
            lambda factor, is_upper=is_upper: torch.cholesky_inverse(factor, upper=is_upper),
            lambda shape=shape, draw=draw: (draw(*shape),),
        )
        for is_upper, draw in ((True, upper), (False, lower))
        for shape in ((3, 3), (2, 1, 2, 2))
    ),
]

CROSS_PRODUCTS = [
    Row(
        f"cross {a} {b} dim={dim}",
        "LinalgCrossBackward0",
        lambda a, b, dim=dim: torch.linalg.cross(a, b, dim=dim),
        lambda a=a, b=b: (normal(*a), normal(*b)),
    )
    for a, b, dim in (((3,), (3,), -1), ((2, 3), (1, 3), 1), ((3, 2), (3, 1), -2))
]

ROWS = CROSS_PRODUCTS + SYSTEMS + DETERMINANTS + FACTORS
