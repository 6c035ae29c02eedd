"""The results of a sweep as tables: ``table.md`` for people, ``results.csv`` for programs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from hesrl.experiments.sweeps.store import Record
from hesrl.experiments.sweeps.trial import shared_settings, step_size_name
from hesrl.measuring.tables import markdown_table, mean_cell, to_csv
from hesrl.runs.atomic import write_atomically

NAMES = ("env_id", "optimizer")
"""Settings with a column of their own."""
COLUMNS = (
    "agent", "env_id", "optimizer", "settings", "seed", "role", "status", "final", "area",
    "evaluation", "seconds", "version",
)  # fmt: skip


def write_tables(folder: Path, records: Sequence[Record]) -> str:
    """Write both tables to a sweep's folder and return the one for people.

    Raises:
        UserError: They cannot be written.
    """
    rows = (
        (
            r.trial.agent, *(r.trial[name] for name in NAMES), " ".join(_others(r)), r.trial.seed,
            r.trial.role, r.status, *(_cell(x) for x in (r.final, r.area, r.evaluation, r.seconds)),
            r.version,
        )
        for r in records
    )  # fmt: skip
    write_atomically(folder / "results.csv", to_csv(COLUMNS, rows))
    table = returns_table(records)
    write_atomically(folder / "table.md", table.encode())
    return table


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _others(record: Record, but: Sequence[str] = ()) -> list[str]:
    """Return the settings that have no column, as words."""
    hidden = {*NAMES, *but}
    return [f"{name}={value}" for name, value in record.trial.settings if name not in hidden]


def returns_table(records: Sequence[Record]) -> str:
    """Return the mean final score with its 95 % interval, a column for each step size.

    A cell without a score is a dash; one with runs that diverged says how many.
    """
    shared = shared_settings(record.trial for record in records)
    cells: dict[tuple[str, ...], dict[float | None, list[Record]]]
    cells = defaultdict(lambda: defaultdict(list))
    for record in records:
        step_size = step_size_name(record.trial.agent)
        same = [step_size, *(name for name, _ in shared)]
        agent = " ".join((record.trial.agent, *_others(record, same)))
        names = agent, *(record.trial[name] for name in NAMES), record.trial.role
        cells[names][record.trial.get(step_size)].append(record)
    rates = sorted({rate for row in cells.values() for rate in row}, key=lambda x: (x is None, x))
    roles = {names[-1] for names in cells}
    rows = [
        (
            *names[: 3 + (len(roles) > 1)],
            *(_mean(row[rate]) if rate in row else "" for rate in rates),
        )
        for names, row in sorted(cells.items())
    ]
    header = ["agent", "environment", "optimizer", *(["seeds"] if len(roles) > 1 else [])]
    steps = ["default" if rate is None else f"{rate:g}" for rate in rates]
    return markdown_table([*header, *steps], rows, names=len(header))


def _mean(records: Sequence[Record]) -> str:
    scores = [record.final for record in records if not math.isnan(record.final)]
    diverged = sum(record.status == "diverged" for record in records)
    mean = mean_cell(scores, ",.0f") if scores else "–"
    return f"{mean} ({diverged} diverged)" if diverged else mean
