"""The times that Figure 8 is about: rows of its data and what to find in them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

BASELINE = "torch Adam"
PAPER_RATIOS = {"AdaHessian": 3.0, "AdaHesScale": 2.0, "AdaHesScaleGN": 1.25}
"""Update times as multiples of Adam's, as the paper gives them."""

FLOP_BOUND = 5 / 3
"""Products of matrices with HesScale (1 forward, 2 + 2 backward) over those without (1 + 2)."""

PARTS = {"outputs": "outputs", "layers": "hidden layers"}
"""The two parts of the figure, and what varies in each."""


class Row(NamedTuple):
    """One optimizer at one size."""

    part: str
    """``"outputs"`` or ``"layers"``."""
    size: int
    """How many of them."""
    parameters: int
    optimizer: str
    milliseconds: float
    """Mean time of an update."""
    standard_error: float
    """Of the mean, in milliseconds."""
    ratio: float
    """Mean time divided by torch Adam's at the same size."""


class Times:
    """The times of all sizes.

    Args:
        rows: The data.

    Attributes:
        optimizers: The names of the optimizers, in order.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = {(row.part, row.size, row.optimizer): row for row in rows}
        self.optimizers = list(dict.fromkeys(name for _, _, name in self._rows))

    def sizes(self, part: str) -> list[int]:
        """Return the sizes of a part, in ascending order."""
        return sorted({size for found, size, _ in self._rows if found == part})

    def row(self, part: str, size: int, optimizer: str) -> Row:
        """Return one row."""
        return self._rows[part, size, optimizer]

    def ratios(self, optimizer: str) -> list[float]:
        """Return an optimizer's ratios at all sizes of both parts; none if it was left out."""
        return [row.ratio for row in self._rows.values() if row.optimizer == optimizer]

    def exponent(self, part: str, optimizer: str) -> float:
        """Return p of ``time ∝ parameters^p`` between the two largest sizes of a part."""
        before, last = (self.row(part, size, optimizer) for size in self.sizes(part)[-2:])
        growth = math.log(last.milliseconds / before.milliseconds)
        return growth / math.log(last.parameters / before.parameters)
