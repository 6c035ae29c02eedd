"""What a row of the tables is, and inputs that many rows use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def normal(*shape: int) -> Tensor:
    """Entries of both signs, not at 0."""
    x = torch.randn(shape, dtype=torch.float64)
    return x + 0.01 * x.sign()


def positive(*shape: int) -> Tensor:
    return 0.3 + 2 * torch.rand(shape, dtype=torch.float64)


def one() -> tuple[Tensor, ...]:
    return (normal(3, 4),)


def one_positive() -> tuple[Tensor, ...]:
    return (positive(3, 4),)


def pair() -> tuple[Tensor, ...]:
    return normal(3, 4), normal(3, 4)


def broadcast() -> tuple[Tensor, ...]:
    return normal(2, 1, 4), normal(3, 1)


def broadcast_positive() -> tuple[Tensor, ...]:
    return positive(2, 1, 4), positive(3, 1)


WITHOUT_GRADIENT = frozenset(
    {"AminmaxBackward0", "CholeskyBackward0", "NarrowCopyBackward0"} - set(dir(torch._C._functions))
)
"""What this PyTorch has no gradient of: 2.11 cannot differentiate aminmax and narrow_copy, and 2.14
has no ``torch.cholesky`` any more."""


@dataclass(frozen=True)
class Row:
    """One operation: what to call it, its node in the graph, its function and its inputs."""

    id: str
    node: str
    function: Callable[..., Any]
    inputs: Callable[[], tuple[Tensor, ...]] = one
    reference: Callable[..., Any] | None = None
    """The same function by other operations, where `torch.func` cannot differentiate it twice."""
    rtol: float = 1e-10
    """What the node may differ by; more where it has kernels in single precision only."""
