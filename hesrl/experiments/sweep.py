"""Training runs of the agents: a grid over environments, optimizers, step sizes and seeds.

Every run is a process of its own with a run directory of its own. What it came to is a row of
``results.csv``, and a sweep that was interrupted goes on with the rows that are missing; the run
directories are not needed for that.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from rich.console import Console

from hesrl.agents import a2c, ppo
from hesrl.envs.mujoco import make_env
from hesrl.errors import UserError
from hesrl.measuring.tables import markdown_table
from hesrl.runs import RunDirectory, read_metric
from hesrl.runs.atomic import write_atomically

AGENTS = {
    "ppo": ppo.DEFAULTS,
    "a2c": a2c.DEFAULTS,
    "sb3-ppo": ppo.DEFAULTS,
    "sb3-a2c": a2c.DEFAULTS,
}
"""What each optimizer brings to each agent."""

LAST_PART = 0.1
"""Part of the run at its end whose training episodes count."""


@dataclass
class Args:
    """Train agents for every combination and tabulate the returns."""

    agents: tuple[str, ...] = ("ppo", "a2c")
    """agents by name: ppo, a2c, sb3-ppo, sb3-a2c"""
    env_ids: tuple[str, ...] = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5")
    """Gymnasium ids of the environments"""
    optimizers: tuple[str, ...] = ("adam", "adahesscale")
    """optimizers by name"""
    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    """step sizes; none: each optimizer's default of each agent"""
    seeds: int = 5
    """seeds of each combination, counted from 1"""
    total_timesteps: int = 300_000
    """length of each run (environment steps)"""
    processes: int = 2
    """runs at the same time; each keeps one core busy"""
    options: tuple[str, ...] = ()
    """further options of every run, such as --options=--no-anneal-lr"""
    folder: Path = Path("runs/sweep")
    """where the runs, results.csv and table.md go"""


class Trial(NamedTuple):
    """One run of the grid."""

    agent: str
    env_id: str
    optimizer: str
    learning_rate: float
    seed: int
    total_timesteps: int
    options: str
    """The further options, as on a command line."""

    def __str__(self) -> str:
        """Return the entries in one line."""
        return " ".join(map(str, self)).rstrip()


COLUMNS = [*Trial._fields, "training_return", "evaluation_return"]
"""Of ``results.csv``."""


class Result(NamedTuple):
    """A finished trial."""

    trial: Trial
    training_return: float
    """Mean return of the training episodes in the last tenth of the run, NaN without any."""
    evaluation_return: float
    """Mean return of the evaluation episodes."""


def main(args: Args) -> int:
    """Run what is missing, write ``results.csv`` and ``table.md``, print the table.

    Raises:
        UserError: A setting is impossible, or a run failed.
    """
    _check(args)
    trials = grid(args)
    results = read_results(args.folder)
    missing = [trial for trial in trials if trial not in results]
    console = Console()
    console.print(f"{len(trials)} runs, {len(missing)} to do, {args.processes} at a time")
    with ThreadPoolExecutor(args.processes) as pool:
        running = [pool.submit(_run, trial, args) for trial in missing]
        try:
            for number, run in enumerate(as_completed(running), start=1):
                result = run.result()
                results[result.trial] = result
                write_results(args.folder, results)
                console.print(
                    f"{number}/{len(missing)} {result.trial}: "
                    f"{result.training_return:.0f}, evaluation {result.evaluation_return:.0f}",
                    highlight=False,
                    soft_wrap=True,
                )
        finally:
            pool.shutdown(cancel_futures=True)
    table = markdown_table([results[trial] for trial in trials])
    write_atomically(args.folder / "table.md", table.encode())
    console.print(table, markup=False, highlight=False, soft_wrap=True)
    return 0


def grid(args: Args) -> list[Trial]:
    """Return the trials, seed after seed, so that an interrupted sweep has a whole table."""
    trials = []
    for seed, agent, env_id, optimizer in itertools.product(
        range(1, args.seeds + 1), args.agents, args.env_ids, args.optimizers
    ):
        default = AGENTS[agent][optimizer]["learning_rate"]
        trials += [
            Trial(
                agent, env_id, optimizer, learning_rate, seed, args.total_timesteps,
                shlex.join(args.options),
            )
            for learning_rate in args.learning_rates or (default,)
        ]  # fmt: skip
    return trials


def _check(args: Args) -> None:
    for agent in args.agents:
        if agent not in AGENTS:
            raise UserError(f"--agents {agent}: choose from {', '.join(AGENTS)}")
        for optimizer in args.optimizers:
            if optimizer not in AGENTS[agent]:
                choices = ", ".join(AGENTS[agent])
                raise UserError(f"--optimizers {optimizer}: choose from {choices}")
    for env_id in args.env_ids:
        make_env(env_id).close()
    if args.seeds < 1 or args.processes < 1:
        raise UserError("--seeds and --processes must be at least 1")


def _run(trial: Trial, args: Args) -> Result:
    """Run one trial in a process.

    Raises:
        UserError: It failed; the message has the last line of its error output.
    """
    runs = args.folder / "runs" / re.sub(r"[^\w.=]+", "-", str(trial))
    command = [
        sys.executable, "-m", "hesrl.cli", "train", trial.agent,
        "--env-id", trial.env_id, "--optimizer", trial.optimizer,
        "--learning-rate", str(trial.learning_rate), "--seed", str(trial.seed),
        "--total-timesteps", str(trial.total_timesteps), "--runs-dir", str(runs), *args.options,
    ]  # fmt: skip
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode != 0:
        lines = process.stderr.strip().splitlines() or [f"exit status {process.returncode}"]
        raise UserError(f"{trial}: {lines[-1].removeprefix('error: ')}")
    run = RunDirectory.open(max(runs.iterdir()), read_only=True)
    summary = json.loads((run.path / "summary.json").read_text())
    steps, returns = read_metric(run, "charts/episodic_return")
    last = returns[steps > (1 - LAST_PART) * trial.total_timesteps]
    training_return = float(last.mean()) if len(last) else float("nan")
    return Result(trial, training_return, fmean(summary["evaluation_returns"]))


def read_results(folder: Path) -> dict[Trial, Result]:
    """Return the finished trials of a sweep's folder.

    Raises:
        UserError: Its ``results.csv`` has other columns.
    """
    path = folder / "results.csv"
    if not path.exists():
        return {}
    results = {}
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            raise UserError(
                f"{path}: its columns must be {','.join(COLUMNS)}; move it away, or mend it"
            )
        for row in reader:
            trial = Trial(
                row["agent"], row["env_id"], row["optimizer"], float(row["learning_rate"]),
                int(row["seed"]), int(row["total_timesteps"]), row["options"],
            )  # fmt: skip
            returns = float(row["training_return"]), float(row["evaluation_return"])
            results[trial] = Result(trial, *returns)
    return results


def write_results(folder: Path, results: dict[Trial, Result]) -> None:
    """Write all finished trials to a sweep's folder, in order."""
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(COLUMNS)
    for trial in sorted(results):
        _, training_return, evaluation_return = results[trial]
        writer.writerow([*trial, f"{training_return:.1f}", f"{evaluation_return:.1f}"])
    write_atomically(folder / "results.csv", rows.getvalue().encode())
