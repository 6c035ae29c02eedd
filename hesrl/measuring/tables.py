"""Tables of returns over seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as students_t

CONFIDENCE = 0.95


def mean_and_margin(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of n seeds and half of its 95 % interval, t₀.₉₇₅(n − 1) s/√n.

    The margin of a single seed is NaN; both are NaN if a value is.
    """
    n = len(values)
    if n < 2:
        return values[0], math.nan
    quantile = float(students_t.ppf((1 + CONFIDENCE) / 2, n - 1))
    return float(np.mean(values)), quantile * float(np.std(values, ddof=1)) / math.sqrt(n)


def markdown_table(results: Iterable[Any]) -> str:
    """Return the mean training return and its 95 % interval, a column for each step size.

    Args:
        results: Those of a sweep, with ``trial`` and ``training_return``.
    """
    cells: dict[tuple[str, str, str], dict[float, list[float]]]
    cells = defaultdict(lambda: defaultdict(list))
    for result in results:
        trial = result.trial
        agent = f"{trial.agent} {trial.options}".strip()
        row = cells[agent, trial.env_id, trial.optimizer]
        row[trial.learning_rate].append(result.training_return)
    rates = sorted({rate for row in cells.values() for rate in row})
    lines = [
        "| agent | environment | optimizer | " + " | ".join(f"{rate:g}" for rate in rates) + " |",
        "|---|---|---|" + "---:|" * len(rates),
    ]
    for names, row in sorted(cells.items()):
        entries = [_cell(row[rate]) if rate in row else "" for rate in rates]
        lines.append(f"| {' | '.join(names)} | {' | '.join(entries)} |")
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float]) -> str:
    mean, margin = mean_and_margin(values)
    return f"{mean:,.0f}" if math.isnan(margin) else f"{mean:,.0f} ± {margin:,.0f}"
