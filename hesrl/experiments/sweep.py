"""Step sizes of PPO: a grid over environments, optimizers, step sizes and seeds.

Every run is a process of its own with a run directory of its own. A sweep that was interrupted
goes on where it was: finished runs are recognized by their ``summary.json``.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from rich.console import Console

from hesrl.agents.ppo import DEFAULTS
from hesrl.envs.mujoco import make_env
from hesrl.errors import UserError
from hesrl.runs import RunDirectory
from hesrl.runs.atomic import write_atomically


@dataclass
class Args:
    """Train PPO for every combination and tabulate the evaluation returns."""

    env_ids: tuple[str, ...] = ("HalfCheetah-v5", "Hopper-v5")
    """Gymnasium ids of the environments"""
    optimizers: tuple[str, ...] = ("adam", "adahesscale")
    """optimizers by name"""
    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    """step sizes"""
    seeds: int = 3
    """seeds of each combination, counted from 1"""
    total_timesteps: int = 200_000
    """length of each run (environment steps)"""
    processes: int = 2
    """runs at the same time; each keeps one core busy"""
    folder: Path = Path("runs/sweep")
    """where the runs, results.csv and table.md go"""


class Trial(NamedTuple):
    """One run of the grid."""

    env_id: str
    optimizer: str
    learning_rate: float
    seed: int


class Result(NamedTuple):
    """A finished trial."""

    trial: Trial
    evaluation_return: float
    """Mean undiscounted return of the evaluation episodes."""
    run: str


def main(args: Args) -> int:
    """Run what is missing, write ``results.csv`` and ``table.md``, print the table.

    Raises:
        UserError: A setting is impossible, or a run failed.
    """
    _check(args)
    grid = itertools.product(
        args.env_ids, args.optimizers, args.learning_rates, range(1, args.seeds + 1)
    )
    trials = [Trial(*point) for point in grid]
    done = {result.trial for result in read_results(args)}
    missing = [trial for trial in trials if trial not in done]
    console = Console()
    console.print(f"{len(trials)} runs, {len(missing)} to do, {args.processes} at a time")
    with ThreadPoolExecutor(args.processes) as pool:
        runs = pool.map(lambda trial: (trial, _run(trial, args)), missing)
        for number, (trial, error) in enumerate(runs, start=1):
            if error:
                pool.shutdown(cancel_futures=True)
                raise UserError(f"{trial} failed: {error}")
            console.print(f"{number}/{len(missing)} {trial}", highlight=False)

    results = [result for result in read_results(args) if result.trial in set(trials)]
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow([*Trial._fields, "evaluation_return", "run"])
    writer.writerows([*result.trial, result.evaluation_return, result.run] for result in results)
    table = markdown_table(results)
    write_atomically(args.folder / "results.csv", rows.getvalue().encode())
    write_atomically(args.folder / "table.md", table.encode())
    console.print(table, markup=False, highlight=False, soft_wrap=True)
    return 0


def _check(args: Args) -> None:
    for env_id in args.env_ids:
        make_env(env_id).close()
    for optimizer in args.optimizers:
        if optimizer not in DEFAULTS:
            raise UserError(f"--optimizers {optimizer}: choose from {', '.join(DEFAULTS)}")
    if args.seeds < 1 or args.processes < 1:
        raise UserError("--seeds and --processes must be at least 1")


def _run(trial: Trial, args: Args) -> str:
    """Run one trial in a process; return its last line of error output, empty if it went well."""
    command = [
        sys.executable, "-m", "hesrl.cli", "train", "ppo",
        "--env-id", trial.env_id, "--optimizer", trial.optimizer,
        "--learning-rate", str(trial.learning_rate), "--seed", str(trial.seed),
        "--total-timesteps", str(args.total_timesteps), "--runs-dir", str(args.folder / "runs"),
    ]  # fmt: skip
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode == 0:
        return ""
    lines = process.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit status {process.returncode}"


def read_results(args: Args) -> list[Result]:
    """Return the finished runs of a sweep's folder that have the sweep's length."""
    results = []
    for summary in sorted((args.folder / "runs").glob("*/summary.json")):
        settings = RunDirectory.open(summary.parent, read_only=True).settings
        if settings["total_timesteps"] == args.total_timesteps:
            trial = Trial(*(settings[field] for field in Trial._fields))
            returns = json.loads(summary.read_text())["evaluation_returns"]
            results.append(Result(trial, fmean(returns), summary.parent.name))
    return results


def markdown_table(results: Iterable[Result]) -> str:
    """Return mean, lowest and highest evaluation return over the seeds, a row per optimizer."""
    cells: dict[tuple[str, str], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for trial, value, _ in results:
        cells[trial.env_id, trial.optimizer][trial.learning_rate].append(value)
    rates = sorted({rate for row in cells.values() for rate in row})
    lines = [
        "| environment | optimizer | " + " | ".join(f"{rate:g}" for rate in rates) + " |",
        "|---|---|" + "---:|" * len(rates),
    ]
    for (env_id, optimizer), row in cells.items():
        entries = [
            f"{fmean(row[rate]):,.0f} ({min(row[rate]):,.0f} to {max(row[rate]):,.0f})"
            if rate in row
            else ""
            for rate in rates
        ]
        lines.append(f"| {env_id} | {optimizer} | " + " | ".join(entries) + " |")
    return "\n".join(lines) + "\n"
