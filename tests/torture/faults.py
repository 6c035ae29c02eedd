"""What a fault leaves behind, counted."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hesrl.measuring.tables import write_csv


class Fault(NamedTuple):
    """One fault that was tried."""

    lost: str = ""
    """What was lost, or what else went wrong; nothing if the fault was survived."""


@dataclass(frozen=True)
class Part:
    """A kind of fault.

    Args:
        name: By which it is chosen.
        faults: What is done, as a table names it.
        survived: What has to hold after each fault, as a table names it.
        count: How many faults the long form tries.
        run: From a generator of random numbers, a count and an empty folder to the faults.
    """

    name: str
    faults: str
    survived: str
    count: int
    run: Callable[[random.Random, int, Path], Iterator[Fault]]


COLUMNS = ("part", "faults", "survived_means", "tried", "survived", "lost")


def write_counts(path: Path, rows: dict[str, dict[str, object]]) -> None:
    """Write the rows of all parts so far, so that a stop loses nothing."""
    write_csv(path, COLUMNS, ([row[name] for name in COLUMNS] for row in rows.values()))


def read_counts(path: Path) -> dict[str, dict[str, object]]:
    """Read what `write_counts` wrote, by part; nothing where there is no file."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {row["part"]: {**row} for row in csv.DictReader(file)}
