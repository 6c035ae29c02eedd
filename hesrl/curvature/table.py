"""Tables of text, with runs of lines that repeat printed once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

Row = tuple[str, ...]

_LONGEST = 500
"""The most lines of a block that is looked for."""


def lines(heading: Row, rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of a table, whose columns are aligned.

    A run of equal blocks is printed once, and below it how many lines are repeated, and how often.
    Numbers within the first column may differ, as those of layers do.
    """
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]

    def line(row: Row) -> str:
        return "  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip()

    yield line(heading)
    for start, size, count in _blocks(rows):
        yield from map(line, rows[start : start + size])
        if count > 1:
            yield f"… × {count}, the last {size} lines" if size > 1 else f"… × {count}"


def _blocks(rows: Sequence[Row]) -> Iterator[tuple[int, int, int]]:
    """Split rows into blocks: where each starts, how long it is, and how often it comes."""
    kinds = [(re.sub(r"\d+", "0", first), *others) for first, *others in rows]
    best = [(0, 1, 1)] * len(rows)
    """For each row the block from it on that saves most lines, with how many."""
    for size in range(1, min(len(rows) // 2, _LONGEST) + 1):
        equal = 0
        for start in range(len(rows) - size - 1, -1, -1):
            equal = equal + 1 if kinds[start] == kinds[start + size] else 0
            count = equal // size + 1
            best[start] = max(best[start], (size * (count - 1) - 1, size, count))
    start = 0
    while start < len(rows):
        saved, size, count = best[start]
        if saved < 1:
            size = count = 1
        yield start, size, count
        start += size * count
