"""A trial in a process of its own, which ends when the process that started it has gone.

A trial has a folder, with its one run directory and what the run prints. The run goes on from its
checkpoint where it has one, and begins anew where it has none.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hesrl.errors import EnvironmentFault, UserError, one_line
from hesrl.experiments.sweeps.run_results import record_of
from hesrl.experiments.sweeps.store import Record
from hesrl.experiments.sweeps.trial import Trial, module_of
from hesrl.runs.checkpoint import load_checkpoint
from hesrl.runs.directory import InUse, RunDirectory, lock_folder
from hesrl.runs.metrics import read_metric
from hesrl.settings import settings_in_force

OUTPUT = "output.txt"
"""File in a trial's folder with what its runs have printed."""
GRACE_SECONDS = 30.0
"""How long a run may take to save itself after its parent has gone."""
HELD_SECONDS = 600.0
"""How long a trial waits for its folder: a node of a Ray cluster that has lost its network goes on
with the run for 4 minutes, until Ray gives up there, and another node has got it after one."""


def be_trial(trial: Trial, folder: Path, retry: bool, results: Connection) -> None:
    """Be the process of a trial: run it, and send its record unless it was asked to stop.

    Args:
        trial: What to run.
        folder: Folder of the trial.
        retry: Whether a run that cannot go on begins anew.
        results: Takes the record.
    """
    # Ctrl-C in a terminal reaches the sweep alone, which then asks its runs to stop.
    os.setsid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    output = os.open(folder / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    record = run_trial(trial, folder, retry)
    if record is not None:
        results.send(record)


def _end_with_parent() -> None:
    """Wait until the parent has gone; stop as SIGTERM does, and after a grace in any case."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def run_trial(trial: Trial, folder: Path, retry: bool = False) -> Record | None:
    """Run a trial in this process to its end, from its checkpoint if it has one.

    Args:
        trial: What to run.
        folder: Folder of the trial.
        retry: Whether a run that cannot go on, such as a damaged one, begins anew.

    Returns:
        The record of a run that is done, failed or diverged; None if it was asked to stop.
    """
    try:
        with _locked(folder):
            return _run(trial, folder, retry)
    except (UserError, EnvironmentFault, OSError) as error:
        return Record(trial, "failed", one_line(error))


def _run(trial: Trial, folder: Path, retry: bool) -> Record | None:
    module = module_of(trial.agent)
    run = _run_in(folder)
    if retry and run is not None:
        run.summary.unlink(missing_ok=True)
        if not _goes_on(module, run):
            shutil.rmtree(run.path)
            run = None
    try:
        if run is None:
            status = module.main(trial.args(runs_dir=folder))
        elif run.summary.exists():
            status = 0  # it ended after the process that would have taken note of it
        else:
            status = module.main(module.Args(resume=run.path))
        return record_of(trial, opened_run(folder), "done") if status == 0 else None
    except FloatingPointError as error:
        return record_of(trial, opened_run(folder), "diverged", one_line(error))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes out; one whose sweep has lost it gets the time to save itself."""
    deadline = time.monotonic() + HELD_SECONDS
    while True:
        try:
            lock = lock_folder(folder)
            break
        except InUse:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    try:
        yield
    finally:
        os.close(lock)


def _run_in(folder: Path) -> RunDirectory | None:
    """Return the run that has a checkpoint; what was killed before its first one is removed.

    Raises:
        UserError: There are several.
    """
    runs = []
    for path in folder.iterdir():
        if path.is_dir():
            run = RunDirectory(path, "", {}, lock=None)
            if run.checkpoint.exists():
                runs.append(run)
            else:
                shutil.rmtree(path)
    if len(runs) > 1:
        raise UserError(f"{folder} has {len(runs)} run directories of one trial: keep one of them")
    return runs[0] if runs else None


def opened_run(folder: Path) -> RunDirectory:
    """Return the one run of a trial's folder.

    Raises:
        UserError: It is damaged.
    """
    (path,) = (path for path in folder.iterdir() if path.is_dir())
    return RunDirectory.open(path, read_only=True)


def _goes_on(module: Any, run: RunDirectory) -> bool:
    """Return whether nothing in a run directory keeps the run from going on."""
    try:
        settings_in_force(module.Args(resume=run.path))
        load_checkpoint(run.checkpoint)
        read_metric(run, "charts/episodic_return")
    except UserError:
        return False
    return True
