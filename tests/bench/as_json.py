"""A benchmark's results as JSON: ``python -m tests.bench.as_json CSV JSON``."""

from __future__ import annotations

import csv
import json
import os
import platform
import sys
from pathlib import Path

import torch


def number_or_text(cell: str) -> float | str | None:
    """Return what a cell of a CSV file holds; an empty one holds nothing."""
    try:
        return float(cell)
    except ValueError:
        return cell or None


def as_json(table: Path) -> str:
    """Return the rows of a CSV file, the commit and the versions."""
    with table.open(newline="") as file:
        rows = [{k: number_or_text(v) for k, v in row.items()} for row in csv.DictReader(file)]
    content = {
        "commit": os.environ.get("GITHUB_SHA"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
        "rows": rows,
    }
    return json.dumps(content, indent=1) + "\n"


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(as_json(Path(sys.argv[1])))
