"""Where trials run: in processes of this machine, or on a Ray cluster (`ray_cluster`)."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple

from hesrl.errors import one_line
from hesrl.experiments.sweeps.store import Record
from hesrl.experiments.sweeps.trial import Trial
from hesrl.experiments.sweeps.trial_process import OUTPUT, be_trial
from hesrl.rl.threads import cores

PRELOADED = [
    "hesrl.agents.ppo",
    "hesrl.agents.a2c",
    "hesrl.agents.stream_ac",
    "hesrl.experiments.sweeps.trial_process",
    "hesrl.runs.event_file",
    "matplotlib.backends.backend_agg",
    "torch._dynamo",
    "matplotlib.figure",
]
"""What the processes of trials share in memory."""


class _Running(NamedTuple):
    trial: Trial
    folder: Path
    process: SpawnProcess
    results: Connection


class LocalProcesses:
    """Processes of this machine, as many as there are jobs.

    On Linux a server that has imported the agents forks them, which saves some seconds of each.

    Args:
        jobs: Trials at the same time; None: one for each core that this process may use.
    """

    def __init__(self, jobs: int | None = None) -> None:
        self._jobs = cores() if jobs is None else jobs
        self._running: list[_Running] = []
        self._context: Any = multiprocessing.get_context(
            "forkserver" if sys.platform == "linux" else "spawn"
        )
        self._context.set_forkserver_preload(PRELOADED)

    def slots(self) -> int:
        """Return the number of jobs."""
        return self._jobs

    def submit(self, trial: Trial, folder: Path, retry: bool) -> None:
        """Start a trial in its folder."""
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=be_trial, args=(trial, folder, retry, sender))
        with _no_main():
            process.start()
        sender.close()
        self._running.append(_Running(trial, folder, process, receiver))

    def wait(self, seconds: float) -> list[Record]:
        """Return the records of trials that have ended, after some seconds at the latest.

        The status of a trial that was stopped or killed is ``pending``, with a line that says how.
        """
        # A record that is longer than the pipe has to be read before its process can end.
        ready = wait([running.results for running in self._running], seconds)
        ended = [running for running in self._running if running.results in ready]
        self._running = [running for running in self._running if running not in ended]
        return [_record(running) for running in ended]

    def stop(self) -> None:
        """Ask all trials to save themselves and end."""
        for running in self._running:
            running.process.terminate()

    def close(self) -> None:
        """End what still runs, at once."""
        for running in self._running:
            running.process.kill()
            running.process.join()
        self._running.clear()


def run_in_process(trial: Trial, folder: Path, retry: bool = False) -> Record:
    """Run one trial in a process of its own and return its record; Ctrl-C stops it."""
    pool = LocalProcesses(1)
    try:
        pool.submit(trial, folder, retry)
        while True:
            try:
                if records := pool.wait(0.5):
                    return records[0]
            except KeyboardInterrupt:
                pool.stop()
    finally:
        pool.close()


def _record(running: _Running) -> Record:
    """Return the record that a process has sent, or what its end says."""
    trial, folder, process, results = running
    try:
        record: Record = results.recv()
        process.join()
    except EOFError:
        process.join()
        code = process.exitcode
        stopped = code in (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGTERM, 0)
        if stopped or code is None or code < 0 or code == 255:
            how = "stopped" if stopped else "killed, perhaps for want of memory"
            record = Record(trial, "pending", how)
        else:
            record = Record(trial, "failed", last_line(folder / OUTPUT))
    finally:
        results.close()
        process.close()
    return record


def last_line(output: Path) -> str:
    """Return the last line that a run has printed."""
    lines = output.read_text(errors="replace").strip().splitlines() if output.exists() else []
    return one_line(lines[-1]) if lines else "ended without a word"


@contextmanager
def _no_main() -> Iterator[None]:
    """Keep a new process from importing the program of this one, which it does not need.

    A script that starts a sweep needs no ``if __name__ == "__main__"`` therefore.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
