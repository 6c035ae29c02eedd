"""A sweep runs the trials of a grid that have not run yet, and keeps their results in a store."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro
from rich.console import Console

from hesrl.errors import UserError
from hesrl.experiments.sweeps.dry_run import estimate
from hesrl.experiments.sweeps.executors import LocalProcesses
from hesrl.experiments.sweeps.grid import Grid, load_grid
from hesrl.experiments.sweeps.ray_cluster import RayCluster
from hesrl.experiments.sweeps.store import Record, Store
from hesrl.experiments.sweeps.sweep_display import Display, outcome, say
from hesrl.experiments.sweeps.sweep_loop import SweepLoop
from hesrl.experiments.sweeps.sweep_table import write_tables
from hesrl.experiments.sweeps.trial import shared_settings
from hesrl.runs.directory import lock_folder
from hesrl.runs.interrupts import StopRequest

EXECUTORS = ("local", "ray")


@dataclass
class Running:
    """How the runs of a grid are run."""

    executor: str = "local"
    """local (processes of this machine) or ray (a Ray cluster)"""
    address: str | None = None
    """of the Ray cluster: auto or HOST:PORT; None: a cluster of this machine, for this sweep"""
    jobs: int | None = None
    """runs at the same time, each on one core; None: all cores"""
    dry_run: bool = False
    """whether to count the runs and measure how long they would take, without running them"""
    retry_failed: bool = False
    """whether runs that have failed run again"""


@dataclass(kw_only=True)
class Args(Running):
    """Run a grid of training runs; what has been interrupted goes on, what is done is kept."""

    file: tyro.conf.Positional[Path]
    """the grid, a YAML file (docs/experiments.md)"""
    out: Path | None = None
    """where runs, results.sqlite and table.md go; None: runs/NAME, by the name of the grid"""


def main(args: Args) -> int:
    """Run what is missing of a grid and tabulate the results; return the exit status.

    Raises:
        UserError: The grid, a setting or the store is impossible; nothing has run then.
    """
    grid = load_grid(args.file)
    folder = args.out if args.out is not None else Path("runs") / grid.name
    return run_and_report(grid, folder, args)


def run_and_report(grid: Grid, folder: Path, args: Running) -> int:
    """Run a grid, or measure how long it would take; print the results and what has failed."""
    console = Console()
    if args.dry_run:
        check(args.executor, args.jobs, args.address)
        estimate(grid, folder, args.jobs, console)
        return 0
    records = run_grid(
        grid,
        folder,
        args.executor,
        args.jobs,
        address=args.address,
        retry_failed=args.retry_failed,
        console=console,
    )
    console.print(write_tables(folder, records), markup=False, highlight=False, soft_wrap=True)
    failed = [record for record in records if record.status == "failed"]
    shared = shared_settings(record.trial for record in records)
    for record in failed:
        say(console, outcome(record, shared))
    if failed:
        say(console, f"{len(failed)} run(s) failed; --retry-failed runs them again")
    return 1 if failed else 0


def run_grid(
    grid: Grid,
    folder: Path,
    executor: str = "local",
    jobs: int | None = None,
    *,
    address: str | None = None,
    retry_failed: bool = False,
    console: Console | None = None,
) -> list[Record]:
    """Run the trials of a grid that are not done, and return the records of all of them.

    Args:
        grid: What to run.
        folder: The sweep's folder; made if missing.
        executor: ``local`` or ``ray``.
        jobs: Trials at the same time; None: one for each core.
        address: Of a Ray cluster: ``auto`` or ``HOST:PORT``; None: one of this machine.
        retry_failed: Whether trials that have failed run again.
        console: Where to show progress; standard output if None.

    Raises:
        UserError: A setting is impossible, the store cannot be used, another sweep uses it, or
            the cluster has gone.
        SystemExit: SIGINT or SIGTERM has come; all runs are saved.
    """
    check(executor, jobs, address)
    console = Console() if console is None else console
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Store.open(folder))
        stack.callback(os.close, lock_folder(folder))
        stack.callback(store.interrupt)  # whatever ends the sweep, and what a killed one has left
        pool: LocalProcesses | RayCluster
        if executor == "local":
            pool = LocalProcesses(jobs)
        else:
            pool = RayCluster(jobs, address, folder, partial(say, console))
        stack.callback(pool.close)
        display = stack.enter_context(Display(console))
        stop = stack.enter_context(StopRequest())
        loop = SweepLoop(grid, folder, store, pool, display, retry_failed)
        loop.run(stop)
        if not loop.stopped:
            return loop.results()
    say(console, "stopped; the same command goes on")
    raise SystemExit(stop.exit_code)


def check(executor: str, jobs: int | None, address: str | None) -> None:
    """Refuse an unknown executor and settings that do not go with it.

    Raises:
        UserError: The message names the setting.
    """
    if executor not in EXECUTORS:
        raise UserError(f"--executor {executor}: choose one of {', '.join(EXECUTORS)}")
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs {jobs}: must be at least 1")
    if address is not None and executor != "ray":
        raise UserError("--address goes with --executor ray only")
