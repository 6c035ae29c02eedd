"""The result of a run: ``summary.json`` and a small table on the screen."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hesrl.runs.atomic import write_atomically
from hesrl.runs.directory import RunDirectory


def counted(number: int, thing: str) -> str:
    """Return a number of things: ``1 episode``, ``10 episodes``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def write_summary(run: RunDirectory, summary: Mapping[str, Any]) -> None:
    """Write ``summary.json``, strict JSON that any reader takes.

    Args:
        run: The run, locked by this process.
        summary: Results by name: numbers (NumPy's too), text, None, lists and mappings. NaN and
            the infinities, which JSON lacks, are written as null.

    Raises:
        TypeError: A value has another type.
        UserError: The directory is not writable or the disk is full.
    """
    text = json.dumps(_jsonable(summary), indent=2, allow_nan=False, ensure_ascii=False)
    write_atomically(run.summary, f"{text}\n".encode())


def print_summary(
    run: RunDirectory, summary: Mapping[str, Any], console: Console | None = None
) -> None:
    """Print the results as a table, and the command that shows all runs beside it in TensorBoard.

    Args:
        run: The run.
        summary: Results by name; floats are rounded to four significant digits, more before the
            decimal point.
        console: Where to print; standard output if None.
    """
    console = Console() if console is None else console
    table = Table(show_header=False)
    for name, value in summary.items():
        table.add_row(Text(name), Text(_display(value)))
    console.print(table)
    command = shlex.join(["tensorboard", "--logdir", str(run.path.parent)])
    console.print(command, markup=False, highlight=False, soft_wrap=True)


def _jsonable(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _display(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return f"{value:.1f}" if abs(float(value)) >= 1000 else f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_display, value))
    return str(value)
