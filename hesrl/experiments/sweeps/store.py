"""The results of a sweep: one SQLite file in its folder, which only the sweep writes.

After a crash at any moment the file is as after the last record that was written. Any number of
processes may read it meanwhile. It is one file, without others beside it, so that it can be copied
and lie on a shared file system; duckdb, pandas and the ``sqlite3`` command read it too.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hesrl.errors import UserError
from hesrl.experiments.sweeps.trial import Trial

FILE = "results.sqlite"
VERSION = 1
APPLICATION = 0x6E5B  # tells a store from any other SQLite file
WAIT_SECONDS = 30.0
STATUSES = ("pending", "running", "done", "failed", "diverged")

SCHEMA = f"""
BEGIN;
CREATE TABLE results (
    id TEXT PRIMARY KEY,
    agent TEXT NOT NULL,
    settings TEXT NOT NULL,
    seed INTEGER NOT NULL,
    role TEXT NOT NULL,
    status TEXT NOT NULL,
    line TEXT NOT NULL,
    final REAL,
    area REAL,
    evaluation REAL,
    seconds REAL,
    version TEXT NOT NULL,
    curve BLOB NOT NULL
);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""
COLUMNS = (
    "agent, settings, seed, role, status, line, final, area, evaluation, seconds, version, curve"
)
NO_CURVE = np.empty((0, 3))


class Record(NamedTuple):
    """What the store has of one trial."""

    trial: Trial
    status: str = "pending"
    """pending, running, done, failed or diverged"""
    line: str = ""
    """The error of a run that failed or diverged, in one line."""
    final: float = math.nan
    """Mean return of the training episodes in the last tenth of the run; if none ended there, the
    last value of the curve; NaN without any, and of a run that is not done."""
    area: float = math.nan
    """Mean of the curve over the whole run; NaN of a run that is not done."""
    evaluation: float = math.nan
    """Mean return of the evaluation episodes; NaN of a run that is not done."""
    seconds: float = math.nan
    """Time of training, all attempts together (s)."""
    version: str = ""
    """hesrl's version that trained."""
    curve: NDArray[np.float64] = NO_CURVE
    """Step, seconds of training until then, and mean return of the training episodes that ended
    since the point before, NaN without any (points, 3). The points of a run that is done are at
    1 %, 2 %, …, 100 % of ``total_timesteps``; a run that diverged has them as far as it came."""


class Store:
    """The results of a sweep; made by `open`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def open(cls, folder: Path, read_only: bool = False) -> Store:
        """Open the store of a sweep's folder; make it, unless ``read_only``, if it is missing.

        Raises:
            UserError: There is none, it is of a newer version or no store, or it cannot be written.
        """
        path = Path(folder) / FILE
        if read_only and not path.is_file():
            raise UserError(f"no results in {folder}: give the folder of a hesrl sweep")
        with _errors(path):
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
            # A killed writer leaves a journal, which even a reader has to roll back.
            mode = "rw" if read_only else "rwc"
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}",
                uri=True,
                timeout=WAIT_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            store = cls(path, connection)
            with contextlib.ExitStack() as undo:
                undo.callback(connection.close)
                store._check_version(read_only)
                if read_only:
                    connection.execute("PRAGMA query_only = ON")
                undo.pop_all()
        return store

    def _check_version(self, read_only: bool) -> None:
        tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not tables and read_only:
            raise UserError(f"no results in {self.path.parent} yet: the sweep is just beginning")
        if not tables:
            self._connection.executescript(SCHEMA)
        if self._pragma("application_id") != APPLICATION:
            raise UserError(f"{self.path} is not a store of hesrl: choose another folder")
        version = self._pragma("user_version")
        if version > VERSION:
            raise UserError(
                f"{self.path} has version {version}, this hesrl reads up to {VERSION}: take the "
                "hesrl that wrote it, or a newer one"
            )

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    def records(self) -> list[Record]:
        """Return all records, in the order in which the trials came into the store.

        Raises:
            UserError: The file is damaged.
        """
        with _errors(self.path):
            rows = self._connection.execute(f"SELECT {COLUMNS} FROM results ORDER BY rowid")
            return [_record(row) for row in rows]

    def write(self, *records: Record) -> None:
        """Write records, all or none; a record of the same trial is replaced in its place.

        Raises:
            UserError: The disk is full, or the file cannot be written.
        """
        names = COLUMNS.split(", ")
        marks = ", ".join("?" * (1 + len(names)))
        values = ", ".join(f"{name} = excluded.{name}" for name in names)
        command = (
            f"INSERT INTO results (id, {COLUMNS}) VALUES ({marks}) "
            f"ON CONFLICT (id) DO UPDATE SET {values}"
        )
        self._change(command, map(_row, records))

    def remove(self, trials: Iterable[Trial]) -> None:
        """Remove trials, all or none.

        Raises:
            UserError: As `write` does.
        """
        self._change("DELETE FROM results WHERE id = ?", ((trial.id,) for trial in trials))

    def interrupt(self) -> None:
        """Let what runs be pending, as nothing runs any more.

        Raises:
            UserError: As `write` does.
        """
        self._change("UPDATE results SET status = 'pending' WHERE status = ?", [("running",)])

    def _change(self, command: str, rows: Iterable[tuple[Any, ...]]) -> None:
        with _errors(self.path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(command, rows)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._connection.close()

    def __enter__(self) -> Store:
        """Return the store itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file."""
        self.close()


def _row(record: Record) -> tuple[Any, ...]:
    trial = record.trial
    numbers = record.final, record.area, record.evaluation, record.seconds
    return (
        trial.id, trial.agent, json.dumps(dict(trial.settings)), trial.seed, trial.role,
        record.status, record.line, *(None if math.isnan(x) else x for x in numbers),
        record.version, np.ascontiguousarray(record.curve, dtype="<f8").tobytes(),
    )  # fmt: skip


def _record(row: tuple[Any, ...]) -> Record:
    agent, settings, seed, role, status, line, *numbers, version, curve = row
    given = tuple((name, _plain(value)) for name, value in json.loads(settings).items())
    trial = Trial(agent, given, seed, role)
    final, area, evaluation, seconds = (math.nan if x is None else x for x in numbers)
    points = np.frombuffer(curve, dtype="<f8").reshape(-1, 3)
    return Record(trial, status, line, final, area, evaluation, seconds, version, points)


def _plain(value: Any) -> Any:
    return tuple(map(_plain, value)) if isinstance(value, list) else value


@contextlib.contextmanager
def _errors(path: Path) -> Any:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot use {path}: {error.strerror}; choose a writable folder") from error
    except sqlite3.OperationalError as error:
        raise UserError(
            f"cannot use {path}: {error}; check the folder and the free space on its disk"
        ) from error
    except sqlite3.DatabaseError as error:
        raise UserError(f"{path} is damaged or not a store: {error}; restore it") from error
