"""The loop of a sweep: starts trials while there is room, and writes down how they end."""

from __future__ import annotations

import time
from collections import Counter, deque
from pathlib import Path

from hesrl.errors import UserError
from hesrl.experiments.sweeps.executors import LocalProcesses
from hesrl.experiments.sweeps.grid import Grid
from hesrl.experiments.sweeps.ray_cluster import RayCluster
from hesrl.experiments.sweeps.store import Record, Store
from hesrl.experiments.sweeps.sweep_display import Display
from hesrl.experiments.sweeps.trial import Trial, shared_settings
from hesrl.runs.atomic import make_folder
from hesrl.runs.interrupts import StopRequest

LIVES = 3
"""How often a trial is started whose process is killed each time."""
TICK_SECONDS = 0.5
"""Time between two looks at the display and at Ctrl-C."""
UNFINISHED = ("pending", "running")


class SweepLoop:
    """The trials of a grid on their way.

    Args:
        grid: What to run.
        folder: The sweep's folder.
        store: Gets a record of each trial.
        pool: Runs the trials.
        display: Shows the progress.
        retry_failed: Whether trials that failed in an earlier sweep run again.

    Attributes:
        stopped: Whether trials were stopped before their end.
    """

    def __init__(
        self,
        grid: Grid,
        folder: Path,
        store: Store,
        pool: LocalProcesses | RayCluster,
        display: Display,
        retry_failed: bool = False,
    ) -> None:
        self._grid, self._folder, self._store = grid, folder, store
        self._pool, self._display = pool, display
        self._records = {record.trial.id: record for record in store.records()}
        failed = {i for i, record in self._records.items() if record.status == "failed"}
        self._retried = failed if retry_failed else set()
        self._trials: dict[str, Trial] = {}
        self._queue: deque[Trial] = deque()
        self._started: dict[str, float] = {}
        self._lives: Counter[str] = Counter()
        self.stopped = False
        self._look_for_more()
        store.remove(
            record.trial
            for i, record in self._records.items()
            if i not in self._trials and record.status in UNFINISHED
        )

    def run(self, stop: StopRequest) -> None:
        """Run until nothing is left to do, or until all trials have stopped on request."""
        self._display.shared = shared_settings(self._trials.values())
        while self._queue or self._started:
            if stop.requested and not self.stopped:
                self.stopped = True
                self._queue.clear()
                self._pool.stop()
            while self._queue and len(self._started) < self._pool.slots():
                self._start(self._queue.popleft())
            self._display.show(self._status(), self._started, self._todo(), self._pool.slots())
            ended = self._pool.wait(TICK_SECONDS)
            for record in ended:
                self._take(record)
            if ended and not self._queue and not self.stopped:
                self._look_for_more()
        self._display.show(self._status(), {}, [], self._pool.slots())

    def results(self) -> list[Record]:
        """Return the records of all trials that are known, in the order of the grid."""
        return [self._records[i] for i in self._trials]

    def _look_for_more(self) -> None:
        """Queue the trials that are new; results may have decided which."""
        new = []
        for trial in self._grid.trials(self._records.values()):
            if trial.id in self._trials:
                continue
            self._trials[trial.id] = trial
            known = self._records.get(trial.id)
            record = Record(trial) if known is None else known._replace(trial=trial)
            if record.status in UNFINISHED or trial.id in self._retried:
                record = Record(trial)
                self._queue.append(trial)
            if known is None or (known.status, known.trial) != (record.status, trial):
                new.append(record)
        self._store.write(*new)
        self._records |= {record.trial.id: record for record in new}

    def _start(self, trial: Trial) -> None:
        folder = self._folder / "runs" / trial.id
        retry = trial.id in self._retried
        try:
            self._store.write(Record(trial, "running"))
            make_folder(folder)
        except UserError as error:
            self._take(Record(trial, "failed", str(error)))
            return
        self._started[trial.id] = time.monotonic()
        self._records[trial.id] = Record(trial, "running")
        self._pool.submit(trial, folder, retry)

    def _take(self, record: Record) -> None:
        """Write down how a trial has ended, or start it again if it was killed."""
        trial = record.trial
        seconds = time.monotonic() - self._started.pop(trial.id, time.monotonic())
        if record.status == "pending":
            self._lives[trial.id] += 1
            if self._lives[trial.id] == LIVES and not self.stopped:
                record = record._replace(status="failed")
            else:
                record = Record(trial)
                if not self.stopped:
                    self._queue.appendleft(trial)
        try:
            self._store.write(record)
        except UserError as error:
            # The run is on disk; another sweep finds it there.
            record = Record(trial, "failed", str(error))
        self._records[trial.id] = record
        if record.status != "pending":
            self._display.ended(record, seconds)

    def _status(self) -> Counter[str]:
        return Counter(self._records[i].status for i in self._trials)

    def _todo(self) -> list[Trial]:
        return [t for i, t in self._trials.items() if self._records[i].status in UNFINISHED]
