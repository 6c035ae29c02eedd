"""Random programs: straight-line code over some leaves, every value used any number of times."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from tests.curvature.random_graphs.operations import function_of, names_in, rendered

Kind = Literal["elementwise", "structural", "mixing"]
ADDING = ("sum", "mean", "add", "std", "norm", "prod")
"""What structural operations are called that add entries up."""
LARGEST = 20.0
"""Bound of all values: rounding is then that of a few units."""


@dataclass(frozen=True)
class Instruction:
    """One line of a program."""

    text: str
    """Its expression, see `operations`."""
    kind: Kind
    arguments: tuple[int, ...]
    """The numbers of the values that it takes."""
    results: int
    """How many values it gives; with one, the expression is that value."""


@dataclass
class Program:
    """Leaves, lines and the values whose weighted sum is the loss."""

    family: str
    leaves: list[Tensor]
    instructions: list[Instruction] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def loss(self, leaves: Sequence[Tensor], for_reference: bool = False) -> Tensor:
        """Run the program on leaves of the same shapes and return the weighted sum."""
        values = self.values(leaves, for_reference)
        return weighted_sum([values[n] for n in self.outputs])

    def values(self, leaves: Sequence[Tensor], for_reference: bool = False) -> list[Tensor]:
        """Run the program and return all its values, the leaves first."""
        values = list(leaves)
        for line in self.instructions:
            function = function_of(line.text, for_reference)
            result = function(*(values[n] for n in line.arguments))
            values += [result] if line.results == 1 else result
        return values

    def code(self) -> str:
        """The program as Python code."""
        lines = [
            "import torch",
            "import torch.nn.functional as F",
            "from tests.curvature.random_graphs.operations import *",
            "from tests.curvature.random_graphs.program import weighted_sum",
            "ROW = NAMESPACE['ROW']",
        ]
        for n, leaf in enumerate(self.leaves):
            numbers = f"torch.tensor({leaf.tolist()}, dtype=torch.float64)"
            lines.append(f"v{n} = {numbers}.requires_grad_()")
        made = len(self.leaves)
        for line in self.instructions:
            targets = ", ".join(f"v{made + k}" for k in range(line.results))
            made += line.results
            lines.append(f"{targets} = {rendered(line.text, [f'v{n}' for n in line.arguments])}")
        outputs = ", ".join(f"v{n}" for n in self.outputs)
        return "\n".join([*lines, f"loss = weighted_sum([{outputs}])"])


def weighted_sum(values: Sequence[Tensor]) -> Tensor:
    """``Σ_n Σ_k w_k v_nk`` with weights of both signs, different for all entries."""
    total = torch.zeros((), dtype=torch.float64)
    for n, v in enumerate(values):
        weights = torch.linspace(-1 - 0.1 * n, 1.7, v.numel() + 1, dtype=torch.float64)[1:]
        total = total + (weights.view(v.shape) * v).sum()
    return total


def _adds_up(text: str) -> bool:
    return any(name in text for name in ADDING)


class Writer:
    """A program that grows line by line, with the values at its leaves."""

    def __init__(self, family: str, rng: random.Random, leaves: list[Tensor]) -> None:
        self.program, self.rng = Program(family, leaves), rng
        self.values: list[Tensor] = list(leaves)
        self.plain: list[frozenset[int]] = [frozenset([n]) for n in range(len(leaves))]
        """Per value the sources of its elementwise region: leaves, and what is not elementwise."""
        self.moved: list[frozenset[int]] = [frozenset()] * len(leaves)
        """Those sources that it depends on through a structural operation."""
        self.is_used: set[int] = set()
        self.is_weight: set[int] = set()
        """Leaves that are not arguments like others."""

    def add_leaf(self, value: Tensor) -> int:
        """Add a leaf; before the first line only."""
        assert not self.program.instructions
        self.program.leaves.append(value)
        self.values.append(value)
        self.plain.append(frozenset([len(self.values) - 1]))
        self.moved.append(frozenset())
        return len(self.values) - 1

    def write(
        self, text: str, kind: Kind, arguments: Sequence[int], results: int = 1
    ) -> int | None:
        """Add a line and return the number of its first value; None if it cannot be.

        Its values must stay bounded, and no paths of one tensor may meet of which one has passed a
        structural operation: whether HesScale keeps their cross terms is not for this reference.
        """
        if not self._may_meet(text, kind, arguments):
            return None
        result: Any = function_of(text)(*(self.values[n] for n in arguments))
        made = [result] if results == 1 else list(result)
        if any(not (v.isfinite() & (v.abs() < LARGEST)).all() for v in made):
            return None
        plain = frozenset().union(*(self.plain[n] for n in arguments))
        moved = frozenset().union(*(self.moved[n] for n in arguments))
        first = len(self.values)
        for number, value in enumerate(made, start=first):
            self.values.append(value)
            self.plain.append(plain if kind == "elementwise" else frozenset([number]))
            self.moved.append(
                {"elementwise": moved, "structural": plain | moved, "mixing": frozenset()}[kind]
            )
        self.is_used.update(arguments)
        self.program.instructions.append(Instruction(text, kind, tuple(arguments), results))
        return first

    def _may_meet(self, text: str, kind: Kind, arguments: Sequence[int]) -> bool:
        if kind == "mixing" or self.program.family == "rows":
            return True
        if kind == "structural" and self.program.family == "layers" and _adds_up(text):
            # The copies of an entry that was broadcast would meet.
            sources = frozenset().union(*(self.plain[n] | self.moved[n] for n in arguments))
            largest = max(self.values[n].numel() for n in arguments)
            if any(self.values[source].numel() < largest for source in sources):
                return False
        for position, n in enumerate(arguments):
            for m in arguments[position + 1 :]:
                shared = (self.plain[n] | self.moved[n]) & (self.plain[m] | self.moved[m])
                if shared and (kind == "structural" or shared & (self.moved[n] | self.moved[m])):
                    return False
        return True

    def finish(self) -> Program:
        """End the program with the first leaf, all values that nothing takes, perhaps others."""
        made = range(len(self.program.leaves), len(self.values))
        unused = [n for n in made if n not in self.is_used]
        more = self.rng.sample(list(made), min(len(made), self.rng.randint(0, 2)))
        self.program.outputs = list(dict.fromkeys([0, *unused, *more]))
        return self.program

    def pick(self, text: str, count: int | None = None) -> list[int]:
        """Draw arguments, rather late values than early ones."""
        candidates = [n for n in range(len(self.values)) if n not in self.is_weight]
        total = len(candidates)
        recent = max(0, total - 4) if self.rng.random() < 0.5 else 0
        count = len(names_in(text)) if count is None else count
        return [candidates[self.rng.randrange(recent, total)] for _ in range(count)]
