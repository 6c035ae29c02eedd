"""Training runs of the agents: a grid over environments, optimizers, step sizes and seeds.

Every run is a process of its own with a run directory of its own. Its result is a row of
``results.csv``. A sweep that was interrupted continues with the rows that are missing and does not
need the run directories.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, get_type_hints

from rich.console import Console

from hesrl.agents import a2c, ppo, stream_ac
from hesrl.envs.mujoco import make_env
from hesrl.errors import UserError
from hesrl.experiments.training_run import train
from hesrl.measuring.tables import markdown_table, mean_cell, read_csv, to_csv
from hesrl.runs import read_metric
from hesrl.runs.atomic import write_atomically

AGENTS = {
    "ppo": ppo.DEFAULTS,
    "a2c": a2c.DEFAULTS,
    "sb3-ppo": ppo.DEFAULTS,
    "sb3-a2c": a2c.DEFAULTS,
    "stream-ac": stream_ac.DEFAULTS,
}
"""What each optimizer brings to each agent."""

STEP_SIZE = {"stream-ac": "--eta-policy"}
"""The option that is the step size of an agent, if it is not ``--learning-rate``."""

LAST_PART = 0.1
"""Part of the run at its end whose training episodes count."""


@dataclass
class Args:
    """Train agents for every combination and tabulate the returns."""

    agents: tuple[str, ...] = ("ppo", "a2c")
    """agents by name: ppo, a2c, stream-ac, sb3-ppo, sb3-a2c"""
    env_ids: tuple[str, ...] = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5")
    """Gymnasium ids of the environments"""
    optimizers: tuple[str, ...] = ("adam", "adahesscale")
    """optimizers by name"""
    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    """step sizes; none: each optimizer's default of each agent"""
    seeds: int = 5
    """seeds of each combination"""
    first_seed: int = 1
    """the first of them; such as 101 for runs that nothing was chosen by"""
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


COLUMNS: dict[str, Any] = {
    **get_type_hints(Trial),
    "training_return": float,
    "evaluation_return": float,
}
"""Names and types of the columns of ``results.csv``."""


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
    table = returns_table([results[trial] for trial in trials])
    write_atomically(args.folder / "table.md", table.encode())
    console.print(table, markup=False, highlight=False, soft_wrap=True)
    return 0


def grid(args: Args) -> list[Trial]:
    """Return the trials, seed after seed, so that an interrupted sweep has a whole table."""
    trials = []
    for seed, agent, env_id, optimizer in itertools.product(
        range(args.first_seed, args.first_seed + args.seeds),
        args.agents,
        args.env_ids,
        args.optimizers,
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
    if args.first_seed < 0:
        raise UserError(f"--first-seed {args.first_seed}: must be at least 0")


def _run(trial: Trial, args: Args) -> Result:
    """Run one trial in a process.

    Raises:
        UserError: It failed; the message has the last line of its error output.
    """
    options = (
        "--env-id", trial.env_id, "--optimizer", trial.optimizer,
        STEP_SIZE.get(trial.agent, "--learning-rate"), str(trial.learning_rate),
        "--seed", str(trial.seed),
        "--total-timesteps", str(trial.total_timesteps), *args.options,
    )  # fmt: skip
    runs = args.folder / "runs" / re.sub(r"[^\w.=]+", "-", str(trial))
    run = train(trial.agent, options, runs, name=str(trial))
    summary = json.loads(run.summary.read_text())
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
    try:
        rows = read_csv(path, COLUMNS)
    except ValueError as error:
        raise UserError(
            f"{path}: its columns must be {','.join(COLUMNS)}; move it away, or mend it ({error})"
        ) from error
    results = (Result(Trial(*row[:-2]), *row[-2:]) for row in rows)
    return {result.trial: result for result in results}


def write_results(folder: Path, results: dict[Trial, Result]) -> None:
    """Write all finished trials to a sweep's folder, in order."""
    rows = (
        (*trial, f"{results[trial].training_return:.1f}", f"{results[trial].evaluation_return:.1f}")
        for trial in sorted(results)
    )
    write_atomically(folder / "results.csv", to_csv(COLUMNS, rows))


def returns_table(results: Iterable[Result]) -> str:
    """Return the mean training return with its 95 % interval, a column for each step size."""
    cells: dict[tuple[str, str, str], dict[float, list[float]]]
    cells = defaultdict(lambda: defaultdict(list))
    for trial, training_return, _ in results:
        names = f"{trial.agent} {trial.options}".strip(), trial.env_id, trial.optimizer
        cells[names][trial.learning_rate].append(training_return)
    rates = sorted({rate for row in cells.values() for rate in row})
    rows = [
        (*names, *(mean_cell(row[rate], ",.0f") if rate in row else "" for rate in rates))
        for names, row in sorted(cells.items())
    ]
    header = ["agent", "environment", "optimizer", *(f"{rate:g}" for rate in rates)]
    return markdown_table(header, rows, names=3)
