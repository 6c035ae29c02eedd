"""Learning curves of several runs in one picture: means and 95 % intervals over the seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from rich.console import Console

from hesrl.errors import UserError
from hesrl.experiments.reports.curves_plot import plot_curves
from hesrl.experiments.reports.learning_runs import RETURN, LearningRun, binned, find_runs
from hesrl.measuring.tables import mean_and_margin, to_csv
from hesrl.runs.atomic import write_atomically
from hesrl.runs.figures import check_format, write_figure
from hesrl.settings import require_positive

NOT_COMPARED = {
    "seed", "runs_dir", "resume", "config", "checkpoint_interval", "log_interval", "eval_interval",
    "eval_episodes", "capture_video", "track", "wandb_project", "compile", "threads", "robot_host",
}  # fmt: skip
"""Settings in which the runs of one curve may differ: they do not change what is learned."""


@dataclass
class Args:
    """Draw the learning curves of runs: means over the seeds, with 95 % intervals."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """run directories, folders of sweeps, or folders with any of them"""
    key: str = RETURN
    """which metric"""
    points: int = 50
    """points of a curve; each is the mean of what was logged since the one before"""
    out: Path = Path("curves.png")
    """the picture: .png, .pdf or .svg; its numbers go beside it, with the ending .csv"""


class Point(NamedTuple):
    """A point of a curve."""

    global_step: int
    """Environment steps at the end of the interval that it sums up."""
    mean: float
    """Mean over the seeds; NaN until all runs have a value."""
    margin: float
    """Half of the 95 % interval; NaN for a single seed."""


class Curve(NamedTuple):
    """What the seeds of the same settings learned."""

    env_id: str
    """Gymnasium id."""
    optimizer: str
    """Name of the optimizer, which has a colour."""
    label: str
    """Agent, optimizer, and settings in which other curves of these differ."""
    seeds: tuple[int, ...]
    """Seeds of the runs."""
    points: list[Point]
    """The curve, as far as the shortest run has come."""


def main(args: Args) -> int:
    """Draw the curves of all runs, a panel for each environment, and write their numbers.

    Raises:
        UserError: There are no runs, they cannot be compared, or the folder cannot be written.
    """
    require_positive(args, "points")
    check_format("--out", args.out)
    numbers, columns = args.out.with_suffix(".csv"), ("env_id", "curve", "seeds", *Point._fields)
    _refuse_other_numbers(numbers, to_csv(columns, ()))
    curves = learning_curves(find_runs(args.runs, args.key), args.points)
    write_figure(args.out, plot_curves(curves, args.key))
    rows = (
        (curve.env_id, curve.label, len(curve.seeds), step, f"{mean:.6g}", f"{margin:.6g}")
        for curve in curves
        for step, mean, margin in curve.points
    )
    write_atomically(numbers, to_csv(columns, rows))
    console = Console()
    for curve in curves:
        line = f"{curve.env_id} {curve.label}: {len(curve.seeds)} run(s), {_last(curve)}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for path in (args.out, numbers):
        console.print(f"{path}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _refuse_other_numbers(path: Path, header: bytes) -> None:
    """Refuse to replace a file of another kind, which only shares the picture's name.

    Raises:
        UserError: There is one.
    """
    if path.exists() and not path.read_bytes().startswith(header):
        raise UserError(f"{path} is there and has no curves: move it away, or give another --out")


def learning_curves(runs: Sequence[LearningRun], points: int) -> list[Curve]:
    """Return a curve for each environment and each group of runs that differ in their seed only.

    Args:
        runs: The runs.
        points: Points of a curve of runs that have finished.

    Raises:
        UserError: Two runs have the same settings and seed.
    """
    families = defaultdict(list)
    for run in runs:
        families[run.settings["env_id"], run.agent, run.settings["optimizer"]].append(run)
    curves = []
    for (env_id, agent, optimizer), family in sorted(families.items()):
        for suffix, group in _same_settings(family).items():
            seeds = tuple(sorted(run.settings["seed"] for run in group))
            label = f"{agent} {optimizer}{suffix}"
            curves.append(Curve(env_id, optimizer, label, seeds, _points(group, points)))
    return curves


def _points(group: Sequence[LearningRun], points: int) -> list[Point]:
    """Return the means of runs of the same settings, as far as all of them have come."""
    edges = np.linspace(0, group[0].settings["total_timesteps"], points + 1)[1:]
    edges = edges[edges <= min(run.end for run in group)]
    if not edges.size:
        return []
    found = mean_and_margin([binned(run.steps, run.values, edges) for run in group])
    columns = zip(edges, *found, strict=True)
    return [Point(round(step), float(mean), float(margin)) for step, mean, margin in columns]


def _same_settings(family: Sequence[LearningRun]) -> dict[str, list[LearningRun]]:
    """Divide runs of one agent and optimizer by the settings in which they differ."""
    names = {name: None for run in family for name in run.settings if name not in NOT_COMPARED}
    differing = [name for name in names if len({str(run.settings.get(name)) for run in family}) > 1]
    groups: dict[str, list[LearningRun]] = defaultdict(list)
    for run in family:
        suffix = "".join(f", {name} {run.settings.get(name)}" for name in differing)
        for other in groups[suffix]:
            if other.settings["seed"] == run.settings["seed"]:
                raise UserError(
                    f"{other.name} and {run.name} have the same settings and seed; give one of them"
                )
        groups[suffix].append(run)
    return dict(sorted(groups.items()))


def _last(curve: Curve) -> str:
    """Return the last point that all runs have, in words."""
    points = [point for point in curve.points if not math.isnan(point.mean)]
    if not points:
        return "nothing in common"
    step, mean, margin = points[-1]
    interval = "" if math.isnan(margin) else f" ± {margin:,.4g}"
    return f"{mean:,.4g}{interval} at step {step:,}"
