"""Operations of complex tensors, between real coordinates of both ends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from tests.curvature.rows.row import Row, normal, one, pair, positive

CONSTANT = torch.tensor([[0.3 - 1.7j], [2.0 + 0.5j], [1.0j]], dtype=torch.complex128)


def coordinates(y: Tensor) -> Tensor:
    return torch.view_as_real(y.resolve_conj())


def of_complex(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function of complex tensors, as one of their real coordinates in the last dimension."""

    def of_coordinates(*inputs: Tensor) -> Tensor:
        y = function(*(torch.view_as_complex(x) for x in inputs))
        return coordinates(y) if y.is_complex() else y

    return of_coordinates


def of_real(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *inputs: coordinates(function(*inputs))


def complex_numbers(*shapes: tuple[int, ...]) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: tuple(normal(*shape, 2) for shape in shapes)


def mixed(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function of a real tensor and a complex one, by its coordinates."""
    return lambda a, b: coordinates(function(a, torch.view_as_complex(b)))


def real_and_complex() -> tuple[Tensor, ...]:
    return normal(3, 1), normal(3, 4, 2)


several, two = complex_numbers((3, 4)), complex_numbers((3, 1), (3, 4))
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Add": lambda x: torch.add(x, CONSTANT, alpha=-1.7),
    "Angle": torch.angle,
    "Clone": torch.clone,
    "Conj": torch.conj,
    "Cos": torch.cos,
    "Div": lambda x: x / CONSTANT,
    "Exp": torch.exp,
    "Expand": lambda x: x.expand(2, 3, 4),
    "Log": torch.log,
    "Mean": torch.mean,
    "Mul": lambda x: CONSTANT * x,
    "Neg": torch.neg,
    "Permute": lambda x: x.permute(1, 0),
    "Pow": lambda x: x**3,
    "Reciprocal": torch.reciprocal,
    "Sigmoid": torch.sigmoid,
    "Sin": torch.sin,
    "Tanh": torch.tanh,
    "ViewAsReal": lambda x: x.real,
}
PAIRS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": lambda a, b: torch.add(a, b, alpha=-1.7),
    "Cat": lambda a, b: torch.cat([a, b], -1),
    "Div": torch.div,
    "Mul": torch.mul,
    "Sub": torch.sub,
}

ROWS = [
    *(
        Row(f"complex {name}", f"{name}Backward0", of_complex(function), several)
        for name, function in FUNCTIONS.items()
    ),
    *(
        Row(f"complex pair {name}", f"{name}Backward0", of_complex(function), two)
        for name, function in PAIRS.items()
    ),
    *(
        Row(f"real and complex {name}", f"{name}Backward0", mixed(function), real_and_complex)
        for name, function in PAIRS.items()
    ),
    Row(
        "complex ConjPhysical",
        "ConjPhysicalBackward0",
        of_complex(torch.conj_physical),
        several,
        of_complex(torch.conj),
    ),
    Row("complex", "ComplexBackward0", of_real(torch.complex), pair),
    Row("polar", "PolarBackward0", of_real(torch.polar), lambda: (positive(3, 4), normal(3, 4))),
    Row("view_as_complex", "ViewAsComplexBackward0", of_complex(torch.clone), several),
    Row(
        "complex matrices",
        "MmBackward0",
        of_complex(torch.mm),
        complex_numbers((3, 2), (2, 4)),
    ),
    Row(
        "complex stacks",
        "BmmBackward0",
        of_complex(partial(torch.einsum, "bix,iox->box")),
        complex_numbers((2, 3, 2), (3, 4, 2)),
    ),
    Row(
        "complex stacks of size one",
        "MulBackward0",
        of_complex(partial(torch.einsum, "bix,iox->box")),
        complex_numbers((2, 1, 2), (1, 4, 2)),
    ),
    Row("real times complex constant", "MulBackward0", of_real(lambda x: CONSTANT * x), one),
    Row("real to complex", "ToCopyBackward0", of_real(lambda x: x.to(torch.complex128)), one),
]
