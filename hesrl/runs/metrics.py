"""Metrics of a run, for TensorBoard and as a tidy table in ``metrics.csv``."""

from __future__ import annotations

import csv
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hesrl.errors import UserError
from hesrl.runs.atomic import AppendFile, write_atomically
from hesrl.runs.directory import RunDirectory
from hesrl.runs.tracking import Tracker

HEADER = "global_step,wall_time,key,value\n"
FLUSH_SECONDS = 5.0
NOT_COMPARED = ("runs_dir", "robot_host", "track", "wandb_project", "capture_video")
"""Settings that TensorBoard does not show among the hyperparameters."""


class MetricsLog:
    """Writes scalars to ``metrics.csv`` (full precision) and to a TensorBoard event file.

    Rows are kept in memory and handed to the operating system by `flush`, which `log` also calls
    when the last one is `FLUSH_SECONDS` ago. Call `flush` before saving a checkpoint, so that a
    run resumed from it misses no row.
    """

    def __init__(
        self,
        run: RunDirectory,
        *,
        resume_step: int | None = None,
        logged_again: Collection[str] = (),
        tracker: Tracker | None = None,
    ) -> None:
        """Start the log of a new run, or continue the log of an interrupted run.

        Args:
            run: The run, locked by this process.
            resume_step: Environment step of the checkpoint that the run continues from: rows of
                later steps are dropped here and in TensorBoard, since they will be logged again.
                None for a new run.
            logged_again: Keys that are logged again for that step itself, so that their rows of
                the step are dropped, too.
            tracker: Gets all scalars too, and is closed along with the log.

        Raises:
            UserError: A new run has metrics already, the ``metrics.csv`` to continue is foreign
                or missing, or the directory is not writable.
        """
        # TensorBoard's messages take 0.1 s to import, which only training needs.
        from hesrl.runs.event_file import EventFile

        if resume_step is not None:
            _drop_after(run.metrics_csv, resume_step, logged_again)
        elif run.metrics_csv.exists():
            raise UserError(f"{run.metrics_csv} exists: resume that run or start a new one")
        else:
            write_atomically(run.metrics_csv, HEADER.encode())
        self._rows: list[str] = []
        self._keys: set[str] = set()
        self._csv = AppendFile(run.metrics_csv)
        purge_step = None if resume_step is None else resume_step + 1
        self._events = EventFile(run.path, purge_step=purge_step)
        if resume_step is None:
            self._events.add_hyperparameters(
                {name: value for name, value in run.settings.items() if name not in NOT_COMPARED}
            )
        self._tracker = tracker
        self._last_flush = time.time()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record scalars of one environment step.

        Args:
            step: Environment steps so far.
            values: Scalars by key, such as ``charts/episodic_return``; not finite ones too.

        Raises:
            ValueError: A key has a comma, a quote or a line break.
            UserError: The disk is full; what was flushed before is safe.
        """
        wall_time = time.time()
        scalars = {key: float(value) for key, value in values.items()}
        if not self._keys.issuperset(scalars):
            self._add_keys(scalars)
        for key, value in scalars.items():
            self._rows.append(_line(step, wall_time, key, value))
        self._events.add(step, wall_time, scalars)
        if self._tracker is not None:
            self._tracker.add(step, scalars)
        if wall_time - self._last_flush >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Hand all rows to the operating system, so that they outlive this process.

        Raises:
            UserError: The disk is full. The files end with the last whole row as before, and the
                rows that did not fit are tried again by the next call.
        """
        self._csv.append("".join(self._rows).encode())
        self._rows.clear()
        self._events.flush()
        self._last_flush = time.time()

    def close(self) -> None:
        """Flush and close both files.

        Raises:
            UserError: The disk is full; the files are closed nevertheless.
        """
        try:
            self.flush()
        finally:
            self._csv.close()
            self._events.close()
            if self._tracker is not None:
                self._tracker.close()

    def __enter__(self) -> MetricsLog:
        """Return the log itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Flush and close."""
        self.close()

    def _add_keys(self, keys: Mapping[str, float]) -> None:
        for key in keys:
            if any(character in key for character in ',"\r\n'):
                raise ValueError(f"metric key {key!r} has a comma, a quote or a line break")
        self._keys.update(keys)


def read_metric(run: RunDirectory, key: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Read one metric back, also from a run that is going on or was killed.

    Args:
        run: The run.
        key: A key that was logged; one that was not gives two empty arrays.

    Returns:
        Environment steps and values, both of shape (number of rows,), in the order logged.

    Raises:
        UserError: ``metrics.csv`` is missing or foreign.
    """
    found = [(step, value) for step, _, name, value in _read_rows(run.metrics_csv) if name == key]
    steps, values = zip(*found, strict=True) if found else ((), ())
    return np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64)


def _drop_after(path: Path, step: int, logged_again: Collection[str]) -> None:
    rows = [row for row in _read_rows(path) if row[0] <= step]
    kept = [_line(*row) for row in rows if row[0] < step or row[2] not in logged_again]
    write_atomically(path, "".join([HEADER, *kept]).encode())


def _line(step: int, wall_time: float, key: str, value: float) -> str:
    return f"{step},{wall_time!r},{key},{value!r}\n"


def _read_rows(path: Path) -> list[tuple[int, float, str, float]]:
    """Return step, time, key and value of each row."""
    try:
        header, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text: restore it, or start a new run") from error
    if lines and not lines[-1].endswith("\n"):
        lines.pop()  # cut short by a kill in the middle of a write
    try:
        if header != HEADER:
            raise ValueError(header)
        return [(int(s), float(t), key, float(value)) for s, t, key, value in csv.reader(lines)]
    except ValueError as error:
        raise UserError(
            f"{path} was not written by hesrl: restore it, or start a new run"
        ) from error
