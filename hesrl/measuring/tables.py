"""Tables of results: Markdown, CSV files, and means with their 95 % intervals."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from hesrl.runs.atomic import make_folder, write_atomically

UPPER_END = 0.975
"""Of a 95 % interval."""


def mean_and_margin(values: ArrayLike) -> tuple[Any, Any]:
    """Return the mean of n seeds (n, …) and half of its 95 % interval, t₀.₉₇₅(n − 1) s/√n.

    The margin of a single seed is NaN; both are NaN if a value is.
    """
    values = np.asarray(values)
    n, mean = len(values), np.mean(values, axis=0)
    spread = np.std(values, axis=0, ddof=1) if n > 1 else np.full_like(mean, np.nan)
    return mean, stdtrit(n - 1, UPPER_END) * spread / np.sqrt(n)


def mean_cell(values: Sequence[float], form: str) -> str:
    """Return ``mean ± margin`` of the seeds; the mean alone where there is no margin.

    Args:
        values: One value for each seed.
        form: Format of the numbers, such as ``".3f"``.
    """
    mean, margin = mean_and_margin(values)
    return f"{mean:{form}}" if math.isnan(margin) else f"{mean:{form}} ± {margin:{form}}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], names: int = 1) -> str:
    """Return a table in Markdown.

    Args:
        header: Names of the columns.
        rows: The cells.
        names: How many columns at the left are text; all others are numbers.
    """
    rules = ["---"] * names + ["---:"] * (len(header) - names)
    lines = [" | ".join(cells) for cells in (header, rules, *rows)]
    return "".join(f"| {line} |\n" for line in lines)


def to_csv(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> bytes:
    """Return rows as CSV, with the names of the columns in the first line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Replace ``path`` by a table; its folder is made if missing.

    Raises:
        UserError: The file cannot be written.
    """
    make_folder(path.parent)
    write_atomically(path, to_csv(columns, rows))


def read_csv(path: Path, columns: Mapping[str, Callable[[str], Any]]) -> list[list[Any]]:
    """Read a table that `to_csv` wrote.

    Args:
        path: The file.
        columns: What turns the text of each column into a value, by the column's name.

    Raises:
        ValueError: The file has other columns, a row of another length, or a wrong value.
    """
    with path.open(newline="", encoding="utf-8") as lines:
        header, *rows = csv.reader(lines)
    if header != list(columns):
        raise ValueError(f"it has the columns {', '.join(header)}")
    kinds = columns.values()
    return [[kind(cell) for kind, cell in zip(kinds, row, strict=True)] for row in rows]
