"""Learning curves of several runs in one picture: means and 95 % intervals over the seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console

from hesrl.errors import UserError
from hesrl.experiments.curves_plot import plot_curves
from hesrl.measuring.tables import mean_and_margin, to_csv
from hesrl.runs import RunDirectory, read_metric
from hesrl.runs.atomic import write_atomically
from hesrl.runs.figures import write_png
from hesrl.settings import require_positive

NOT_COMPARED = {
    "seed", "runs_dir", "resume", "checkpoint_interval", "log_interval", "eval_interval",
    "eval_episodes", "capture_video", "track", "wandb_project", "compile", "threads", "robot_host",
}  # fmt: skip
"""Settings in which the runs of one curve may differ: they do not change what is learned."""


@dataclass
class Args:
    """Draw the learning curves of runs: means over the seeds, with 95 % intervals."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """run directories, or folders with run directories anywhere in them"""
    key: str = "charts/episodic_return"
    """which metric"""
    points: int = 50
    """points of a curve; each is the mean of what was logged since the one before"""
    out: Path = Path("curves.png")
    """the picture; its numbers go beside it, with the ending .csv"""


class Point(NamedTuple):
    """A point of a curve."""

    global_step: int
    """Environment steps at the end of the interval that it sums up."""
    mean: float
    """Mean over the seeds; NaN where a run has no value."""
    margin: float
    """Half of the 95 % interval; NaN for a single seed."""


class Curve(NamedTuple):
    """What the seeds of the same settings learned."""

    env_id: str
    """Gymnasium id."""
    label: str
    """Agent, optimizer, and settings in which other curves of these differ."""
    seeds: int
    """Number of runs."""
    points: list[Point]
    """The curve."""


def main(args: Args) -> int:
    """Draw the curves of all runs, a panel for each environment, and write their numbers.

    Raises:
        UserError: There are no runs, they cannot be compared, or the folder cannot be written.
    """
    require_positive(args, "points")
    if args.out.suffix != ".png":
        raise UserError(f"--out {args.out}: must end with .png")
    curves = learning_curves(find_runs(args.runs), args.key, args.points)
    write_png(args.out, plot_curves(curves, args.key))
    rows = (
        (curve.env_id, curve.label, curve.seeds, step, f"{mean:.6g}", f"{margin:.6g}")
        for curve in curves
        for step, mean, margin in curve.points
    )
    columns = ("env_id", "curve", "seeds", *Point._fields)
    write_atomically(args.out.with_suffix(".csv"), to_csv(columns, rows))
    console = Console()
    for curve in curves:
        line = f"{curve.env_id} {curve.label}: {curve.seeds} run(s), {_last(curve)}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{args.out}", markup=False, highlight=False, soft_wrap=True)
    return 0


def find_runs(paths: Iterable[Path]) -> list[RunDirectory]:
    """Return the runs that are, or lie in, these folders.

    Raises:
        UserError: A folder has none.
    """
    runs: dict[Path, RunDirectory] = {}
    for path in paths:
        found = sorted(file.parent for file in path.rglob("config.yaml"))
        if not found:
            raise UserError(f"no runs in {path}: give folders that training runs made")
        runs |= {folder.resolve(): RunDirectory.open(folder, read_only=True) for folder in found}
    if not runs:
        raise UserError("no runs: give folders that training runs made, such as runs/")
    return list(runs.values())


def learning_curves(runs: Sequence[RunDirectory], key: str, points: int) -> list[Curve]:
    """Return a curve for each environment and each group of runs that differ in their seed only.

    Args:
        runs: The runs.
        key: Name of the metric.
        points: Points of a curve.

    Raises:
        UserError: Two runs have the same settings and seed, or a run has no such metric.
    """
    families = defaultdict(list)
    for run in runs:
        families[run.settings["env_id"], f"{run.agent} {run.settings['optimizer']}"].append(run)
    curves = []
    for (env_id, label), family in sorted(families.items()):
        steps = max(run.settings["total_timesteps"] for run in family)
        edges = np.linspace(0, steps, points + 1)[1:]
        for suffix, group in _same_settings(family).items():
            values = np.array([_binned(run, key, edges) for run in group])
            columns = [mean_and_margin(column) for column in values.T.tolist()]
            curve = [Point(round(x), *column) for x, column in zip(edges, columns, strict=True)]
            curves.append(Curve(env_id, label + suffix, len(group), curve))
    return curves


def _same_settings(family: Sequence[RunDirectory]) -> dict[str, list[RunDirectory]]:
    """Divide runs of one agent and optimizer by the settings in which they differ."""
    names = {name: None for run in family for name in run.settings if name not in NOT_COMPARED}
    differing = [name for name in names if len({str(run.settings.get(name)) for run in family}) > 1]
    groups: dict[str, list[RunDirectory]] = defaultdict(list)
    for run in family:
        suffix = "".join(f", {name} {run.settings.get(name)}" for name in differing)
        for other in groups[suffix]:
            if other.settings["seed"] == run.settings["seed"]:
                raise UserError(
                    f"{other.path} and {run.path} have the same settings and seed; give one of them"
                )
        groups[suffix].append(run)
    return dict(sorted(groups.items()))


def _binned(run: RunDirectory, key: str, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means of a metric between the edges; where nothing was logged, the one before."""
    steps, values = read_metric(run, key)
    if not steps.size:
        raise UserError(f"{run.path} has no metric {key}: see its {run.metrics_csv.name}")
    bins = np.searchsorted(edges, steps)
    inside = bins < len(edges)
    bins, values = bins[inside], values[inside]
    counts = np.bincount(bins, minlength=len(edges))
    with np.errstate(invalid="ignore"):
        means = np.bincount(bins, weights=values, minlength=len(edges)) / counts
    filled = np.maximum.accumulate(np.where(counts > 0, np.arange(len(edges)), 0))
    means = means[filled]
    means[bins.max(initial=-1) + 1 :] = math.nan
    return means


def _last(curve: Curve) -> str:
    """Return the last point that all runs have, in words."""
    points = [point for point in curve.points if not math.isnan(point.mean)]
    if not points:
        return "nothing in common"
    step, mean, margin = points[-1]
    interval = "" if math.isnan(margin) else f" ± {margin:,.4g}"
    return f"{mean:,.4g}{interval} at step {step:,}"
