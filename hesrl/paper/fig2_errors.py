"""The errors that Figure 2 is about: rows of its data, and what the figure makes of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean
from typing import NamedTuple

from hesrl.curvature.estimators.hess_diag import Estimator

METHODS: dict[str, tuple[Estimator, int]] = {
    "HesScale": ("hesscale", 1),
    "HesScaleGN": ("hesscale_gn", 1),
    "GGN": ("ggn", 1),
    "GGN-MC50": ("ggn_mc", 50),
    "GGN-MC1": ("ggn_mc", 1),
    "BL89": ("bl89", 1),
    "g²": ("squared_gradient", 1),
    "AdaHessian-MC50": ("hutchinson", 50),
    "AdaHessian-MC1": ("hutchinson", 1),
}
"""The estimates by the paper's names, each with its number of samples; GGN is exact."""

OTHERS = [method for method in METHODS if method != "HesScale"]
"""All that HesScale is compared with."""

EXACT, GN_TO_GGN = "exact diagonal", "HesScaleGN to GGN"
"""Rows that are no error: the L1 norm of the exact diagonal, and of HesScaleGN minus GGN."""

STAGES = {"before": "before training", "after": "after training"}


class Row(NamedTuple):
    """The mean over the examples for one layer."""

    seed: int
    stage: str
    accuracy: float
    """Share of all digits that the network classifies rightly."""
    method: str
    layer: int
    """From 1; the last is the output layer."""
    error: float
    """L1 distance from the exact diagonal, or what `EXACT` and `GN_TO_GGN` say."""


class Errors:
    """The errors of all seeds.

    Args:
        rows: The data.

    Attributes:
        layers: How many layers there are, the output layer included.
        seeds: The seeds.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        rows = list(rows)
        self.layers = max(row.layer for row in rows)
        self.seeds = sorted({row.seed for row in rows})
        self._accuracy = {(row.stage, row.seed): row.accuracy for row in rows}
        self._errors: dict[tuple[str, str, int], list[float]] = defaultdict(list)
        for row in rows:
            self._errors[row.stage, row.method, row.seed].append(row.error)

    def accuracy(self, stage: str) -> float:
        """Return the mean accuracy."""
        return fmean(self._accuracy[stage, seed] for seed in self.seeds)

    def total(self, stage: str, method: str) -> list[float]:
        """Return the error of each seed, summed over the layers."""
        return [sum(self._errors[stage, method, seed]) for seed in self.seeds]

    def ratios(self, stage: str, method: str) -> list[float]:
        """Return the error of each seed, divided by HesScale's."""
        pairs = zip(self.total(stage, method), self.total(stage, "HesScale"), strict=True)
        return [error / best for error, best in pairs]

    def by_layer(self, stage: str, method: str) -> list[float]:
        """Return the mean error of each layer."""
        seeds = [self._errors[stage, method, seed] for seed in self.seeds]
        return [fmean(values) for values in zip(*seeds, strict=True)]

    def relative(self, stage: str, method: str) -> list[float]:
        """Return the mean error of each layer, divided by the mean norm of the exact diagonal."""
        pairs = zip(self.by_layer(stage, method), self.by_layer(stage, EXACT), strict=True)
        return [error / norm for error, norm in pairs]
