"""One seed, one program: of elementwise operations, of layers among them, or of any operations."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.curvature.random_graphs.operations import (
    ELEMENTWISE,
    MIXING,
    OF_ROWS,
    ROWS,
    SEVERAL,
    STRUCTURAL,
    TWO_OF_ROWS,
    names_in,
)
from tests.curvature.random_graphs.program import Program, Writer
from tests.curvature.rows.piecewise import flat
from tests.curvature.rows.row import Row

_LEFT_OUT = {
    "celu": "PyTorch's own gradient rounds its constants to float32",
    "hardsigmoid": "PyTorch's own gradient rounds its constants to float32",
    "max_norm": "an embedding that changes its weight in place",
    "scaled by frequency": "PyTorch's gradient is that of another function",
    "fake quantize": "PyTorch's gradient is that of another function",
    "weight_norm (4, 1)": "the direction of one entry is constant, and its derivatives rounding",
    "ctc": "PyTorch's gradient is that of another function, unless a log-softmax is below",
    "grouped_mm": "computes in single precision, and leaves rows unwritten",
    "cholesky_inverse": "PyTorch's gradient also reads the triangle that the function does not",
    "cholesky_solve": "PyTorch's gradient also reads the triangle that the function does not",
    "'": "a name that cannot be quoted",
}
CHAINED = [
    id
    for id, row in ROWS.items()
    if not any(name in id for name in _LEFT_OUT)
    and row.rtol == Row.rtol
    and row.reference is not flat
    and all(x.numel() for x in row.inputs())
]
"""The rows of which programs are made: in double precision, of inputs that are not empty, and not
constant, as random fills are, whose value differs from call to call."""


@dataclass(frozen=True)
class Size:
    """How large programs get."""

    shape: tuple[int, ...]
    """That of the values; leaves broadcast to it."""
    lines: tuple[int, int]
    """The least and the largest number of elementwise operations, a third of it for others."""


SMALL, LARGE = Size((2, 3), (2, 12)), Size((3, 5), (10, 40))


def random_program(seed: int, size: Size = SMALL) -> Program:
    """Return the program of a seed."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    family = rng.choices([elementwise, layers, chain], [6, 3, 1])[0]
    return family(rng, size)


def _leaves(rng: random.Random, size: Size) -> list[Tensor]:
    *_, width = size.shape
    shapes = [size.shape, (width,), (*size.shape[:-1], 1), (1, width), ()]
    chosen = [size.shape, *rng.choices(shapes, k=rng.randint(0, 3))]
    return [torch.randn(shape, dtype=torch.float64) for shape in chosen]


def elementwise(rng: random.Random, size: Size) -> Program:
    """Branches of elementwise operations that fork and join anywhere."""
    writer = Writer("elementwise", rng, _leaves(rng, size))
    for _ in range(rng.randint(*size.lines)):
        _write_elementwise(writer)
    return writer.finish()


def _write_elementwise(writer: Writer) -> int:
    while True:
        text = writer.rng.choice(ELEMENTWISE)
        written = writer.write(text, "elementwise", writer.pick(text))
        if written is not None:
            return written


def layers(rng: random.Random, size: Size) -> Program:
    """Layers, softmax, normalisation, reductions, views between elementwise operations."""
    writer = Writer("layers", rng, _leaves(rng, size))
    width = size.shape[-1]
    square = [writer.add_leaf(torch.randn(width, width, dtype=torch.float64)) for _ in range(2)]
    writer.is_weight.update(square)
    low, high = size.lines
    for _ in range(rng.randint(low // 2, high // 3)):
        for _ in range(rng.randint(0, 3)):
            _write_elementwise(writer)
        for _ in range(5):
            if _write_other(writer, square):
                break
    return writer.finish()


def _write_other(writer: Writer, square: list[int]) -> bool:
    """Write an operation of a matrix, which every value broadcasts to."""
    rng = writer.rng
    shape = writer.values[0].shape
    texts, kind, results = rng.choice(
        [
            (MIXING, "mixing", 1),
            (MIXING, "mixing", 1),
            (STRUCTURAL, "structural", 1),
            (SEVERAL, "structural", 2),
        ]
    )
    text = rng.choice(texts)
    if "softmax" in text and any("softmax" in line.text for line in writer.program.instructions):
        return False
    arguments = dict(zip(names_in(text), writer.pick(text), strict=True))
    if "w" in arguments:
        arguments["w"] = rng.choice(square)
    matrices = [n for n in range(len(writer.values)) if _is_matrix(writer.values[n], shape)]
    if not matrices:
        return False
    arguments["a"] = rng.choice(matrices)
    return writer.write(text, kind, list(arguments.values()), results) is not None


def row_function(seed: int, size: Size = SMALL) -> Program:
    """Elementwise operations, and sums over rows that may meet the rows again, of a seed."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    height, width = size.shape
    shapes = [size.shape, *rng.sample([(width,), (1, width), (height, width)], rng.randint(0, 2))]
    leaves = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    writer = Writer("rows", rng, leaves)
    matrices, rows = list(range(len(leaves))), []
    for _ in range(rng.randint(4, 9)):
        kind = rng.choice("erj")
        if kind == "j" and len(rows) > 1:
            made = writer.write(rng.choice(TWO_OF_ROWS), "elementwise", rng.sample(rows, 2))
            rows += [] if made is None else [made]
        elif kind == "r":
            candidates = [n for n in matrices if writer.values[n].shape == size.shape]
            made = writer.write(rng.choice(OF_ROWS), "structural", [rng.choice(candidates)])
            rows += [] if made is None else [made]
        else:
            text = rng.choice(ELEMENTWISE)
            among = matrices if rows == [] or rng.random() < 0.7 else [*matrices, *rows]
            made = writer.write(text, "elementwise", rng.choices(among, k=len(names_in(text))))
            matrices += [] if made is None else [made]
    return writer.finish()


def _is_matrix(value: Tensor, shape: torch.Size) -> bool:
    """Whether the entries along every dimension differ enough to be normalised."""
    return value.shape == shape and all(value.std(dim).min() > 0.1 for dim in range(value.dim()))


def chain(rng: random.Random, size: Size) -> Program:
    """Operations of all rules in a row, whose first input is what came before.

    Every entry of it is moved a little by an entry of that; the other inputs are leaves, which
    operations share if they can.
    """
    ids = rng.choices(CHAINED, k=rng.randint(1, 2 + size.lines[1] // 20))
    inputs = [ROWS[id].inputs() for id in ids]
    writer = Writer("chain", rng, [torch.randn(size.shape, dtype=torch.float64)])
    places = [_places(writer, tensors) for tensors in inputs]
    now = 0
    for id, tensors, leaves in zip(ids, inputs, places, strict=True):
        for _ in range(rng.randint(0, 2)):
            text = rng.choice([t for t in ELEMENTWISE if names_in(t) == ["a"]])
            now = writer.write(text, "elementwise", [now]) or now
        shape, count = tuple(tensors[0].shape), writer.values[now].numel()
        index = f"torch.arange({tensors[0].numel()}) * 5 % {count}"
        gathered = writer.write(f"a.reshape(-1)[{index}].view({shape})", "structural", [now])
        assert gathered is not None
        moved = writer.write("b + 0.05 * torch.sin(a)", "elementwise", [gathered, leaves[0]])
        if moved is None:
            continue
        names = ", ".join("abcwv"[: len(tensors)])
        result = writer.write(f"ROW[{id!r}]({names})", "structural", [moved, *leaves[1:]])
        now = moved if result is None else result
    return writer.finish()


def _places(writer: Writer, tensors: tuple[Tensor, ...]) -> list[int]:
    """Return leaves of the values of tensors, some of which are there already."""
    found: list[int] = []
    for tensor in tensors:
        found.append(writer.add_leaf(tensor.detach().clone()))
    return found


Family = Callable[[random.Random, Size], Program]
