"""What the commands of the figures on learning share: options, the sweep, and the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hesrl.errors import UserError
from hesrl.experiments.reports.statistics import Interval
from hesrl.experiments.sweeps.grid import Grid
from hesrl.experiments.sweeps.store import Record, Store
from hesrl.experiments.sweeps.sweep import run_grid
from hesrl.measuring.collect import Collected
from hesrl.measuring.report import Claim, Report, write_report
from hesrl.measuring.tables import write_csv
from hesrl.paper.rl_grid import figure_grid
from hesrl.paper.rl_results import Results, Task
from hesrl.runs.atomic import make_folder
from hesrl.settings import Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class FigureArgs:
    """Settings of a figure on learning."""

    scale: Scale = "smoke"
    """smoke (seconds), small (nights on two cores) or paper (a cluster)"""
    store: Path | None = None
    """folder of the sweep, which figures share; None: runs/paper-SCALE"""
    executor: str = "local"
    """local or ray, as for hesrl sweep"""
    address: str | None = None
    """address of the Ray cluster, as for hesrl sweep"""
    jobs: int | None = None
    """runs at the same time; None: one for each core"""
    draw_only: bool = False
    """whether to draw what the store has, also while another process fills it"""
    out: Path = Path("results/paper")
    """where figure, data and report go"""


class Point(NamedTuple):
    """A point of a line in a figure, with its 95 % interval."""

    task: str
    optimizer: str
    group: str
    """Of the seeds: the reported or the fresh ones."""
    x: float
    """Environment steps, or the step size."""
    mean: float
    low: float
    high: float


class Page(NamedTuple):
    """What a kind of figure makes of the runs."""

    text: str
    claims: Sequence[Claim]
    tables: Sequence[str]
    points: Sequence[Point]
    """What the figure draws."""
    figure: Figure


class Kind(NamedTuple):
    """What several figures show, each of other environments."""

    name: str
    """Which runs it has, a key in ``configs/paper-rl.yaml``."""
    title: str
    draw: Callable[[Results], Page]


def command(
    name: str, kind: Kind, summary: str
) -> tuple[type[FigureArgs], Callable[[FigureArgs], int]]:
    """Return the settings and the main function of a figure's command.

    Args:
        name: Of the figure, such as ``"fig5"``.
        kind: What it shows.
        summary: What the command does.
    """

    @dataclass
    class Args(FigureArgs):
        out: Path = Path("results/paper", name)
        """where figure, data and report go"""

    Args.__doc__ = f"{summary} (Figure {name.removeprefix('fig')} of the paper)."
    return Args, partial(_main, name, kind)


def _main(name: str, kind: Kind, args: FigureArgs) -> int:
    """Run what the store lacks and write the page of a figure; return the exit status.

    Raises:
        UserError: A setting is impossible, or no run is there to draw.
    """
    make_folder(args.out)
    grid = figure_grid(name, kind.name, args.scale)
    folder = args.store if args.store is not None else Path("runs") / f"paper-{args.scale}"
    if args.draw_only:
        records = _stored(grid, folder)
    else:
        records = run_grid(grid, folder, args.executor, args.jobs, address=args.address)
    results = Results(records)
    rows = results.rows()
    if not rows:
        raise UserError(f"no run of {name} in {folder} is finished yet: wait, or run hesrl paper")
    page = kind.draw(results)
    report = Report(
        name,
        f"Figure {name.removeprefix('fig')}: {kind.title}",
        f"{page.text} {_describe(records)}",
        page.claims,
        page.tables,
    )
    seconds = sum(row.seconds for row in rows if not np.isnan(row.seconds))
    write_report(report, args, Collected(rows, len(rows), seconds), page.figure)
    write_csv(args.out / f"{name}-points.csv", Point._fields, page.points)
    return 0 if all(record.status != "failed" for record in records) else 1


def points(
    task: Task, optimizer: str, group: str, xs: Iterable[float], curve: Interval, digits: int
) -> list[Point]:
    """Return the points of a line."""
    return [
        Point(task.label, optimizer, group, float(x), *(round(float(y), digits) for y in ys))
        for x, *ys in zip(xs, *curve, strict=True)
    ]


def _stored(grid: Grid, folder: Path) -> list[Record]:
    with Store.open(folder, read_only=True) as store:
        found = {record.trial.id: record for record in store.records()}
    trials = grid.trials(found.values())
    return [found[t.id]._replace(trial=t) for t in trials if t.id in found]


def _describe(records: Sequence[Record]) -> str:
    """Return steps, seeds and versions of the runs, and how many are not there."""
    ended = [r for r in records if r.status in ("done", "diverged")]
    steps = " or ".join(f"{n:,}" for n in sorted({r.trial["total_timesteps"] for r in ended}))
    versions = ", ".join(sorted({r.version for r in ended}))
    text = (
        f"{len(ended):,} runs of {steps} steps with `--paper`, by hesrl {versions}; "
        f"{sum(r.status == 'diverged' for r in ended)} of them diverged and count as the lowest "
        "score of their environment."
    )
    missing = len(records) - len(ended)
    return f"{text} {missing} runs are not finished." if missing else text
