"""Tables of results: Markdown, CSV files, and means with their 95 % intervals."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from hesrl.runs.atomic import cannot_write, write_atomically

CONFIDENCE = 0.95


def mean_and_margin(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of n seeds and half of its 95 % interval, t₀.₉₇₅(n − 1) s/√n.

    The margin of a single seed is NaN; both are NaN if a value is.
    """
    n = len(values)
    if n < 2:
        return values[0], math.nan
    quantile = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))
    return float(np.mean(values)), quantile * float(np.std(values, ddof=1)) / math.sqrt(n)


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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
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
