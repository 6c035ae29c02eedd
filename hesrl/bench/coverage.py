"""Model families of other libraries, each run natively and armed with AdaHesScale.

Every family is a small model with random weights and data: forward, backward and a step, in a
process of its own. `hesrl.bench.coverage_examine` describes the rows. Nothing is downloaded
or installed: a library that is not there is left out.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from hesrl.bench import coverage_diffusers, coverage_graphs, coverage_transformers, coverage_vision
from hesrl.bench.coverage_examine import MISSING, NO_MODEL, OK, Library, Row, examine
from hesrl.bench.turns import begin
from hesrl.errors import UserError
from hesrl.measuring.tables import read_csv, write_csv
from hesrl.runs.atomic import require_writable
from hesrl.settings import require_between, require_positive

LIBRARIES = {
    library.package: library
    for library in (
        coverage_vision.TORCHVISION, coverage_vision.TIMM, coverage_transformers.TRANSFORMERS,
        coverage_diffusers.DIFFUSERS, coverage_graphs.GEOMETRIC,
    )
}  # fmt: skip


@dataclass
class Args:
    """Run model families natively and with AdaHesScale, and write a table of both."""

    libraries: tuple[str, ...] = tuple(LIBRARIES)
    """torchvision, timm, transformers, diffusers, torch_geometric: those that are installed"""
    families: tuple[str, ...] = ()
    """only these families; by default all"""
    out: Path = Path("coverage.csv")
    """the table, which gets a row as soon as a family is done"""
    resume: bool = False
    """keep the rows that the table has already"""
    rounds: int = 5
    """updates of each kind that are timed; 0 for none"""
    timeout: float = 180.0
    """seconds that a family may take"""


def main(args: Args) -> int:
    """Run the families, print the summary and return the exit status.

    Raises:
        UserError: A setting is impossible.
    """
    require_between(args, "rounds", 0, float("inf"))
    require_positive(args, "timeout")
    require_writable(args.out)  # before a word on libraries
    libraries = installed(args.libraries)
    known = {family for library in libraries for family in library.families()}
    for family in args.families:
        if family not in known:
            near = get_close_matches(family, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "another library may have it"
            raise UserError(f"there is no family {family}: {hint}")
    console = begin(args.out)
    rows = read_rows(args.out) if args.resume and args.out.exists() else []
    for row in run_families(libraries, args, rows):
        line = f"{row.library} {row.family}: {row.result} {row.missing or row.detail}"
        print(line, flush=True)
        rows.append(row)
    for table in summary(rows):
        console.print(table)
    return 0


def installed(names: Iterable[str]) -> list[Library]:
    """Return the libraries that are there, which download nothing from now on; name the others.

    Raises:
        UserError: There is no library of a name.
    """
    if unknown := [name for name in names if name not in LIBRARIES]:
        raise UserError(f"--libraries {unknown[0]}: must be among {', '.join(LIBRARIES)}")
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    there = {name: importlib.util.find_spec(name) is not None for name in names}
    for name in names:
        if not there[name]:
            print(f"{name} is not installed and left out: pip install {name}")
    return [LIBRARIES[name] for name in names if there[name]]


def run_families(libraries: Iterable[Library], args: Args, done: list[Row]) -> Iterator[Row]:
    """Yield a row for each family, after it has been written to the table.

    Args:
        libraries: Where the families come from.
        args: The settings.
        done: The rows that the table has already; without any, it is begun anew.
    """
    rows = list(done)
    known = {(row.library, row.family) for row in done}
    for library in libraries:
        preload(library)
        families = list(library.families())
        for family in args.families or families:
            if family in families and (library.package, family) not in known:
                job = partial(_examine, library, family, args.rounds)
                row = in_own_process(job, Row(library.package, family), args.timeout)
                rows.append(row)
                write_csv(args.out, Row._fields, rows)
                yield row


def preload(library: Library) -> None:
    """Have the processes of `in_own_process` begin with the imports of a library."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *library.preload])
    first = context.Process()  # after it, the imports are done
    first.start()
    first.join()


def in_own_process(job: Callable[[], Any], row: Any, timeout: float) -> Any:
    """Return the row that a job makes in a process of its own, whatever happens there.

    Args:
        job: Returns the row; it can be pickled.
        row: Of ``result`` and ``detail`` at least: the row if the job makes none.
        timeout: Seconds that the job may take.
    """
    context = multiprocessing.get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(job, sender))
    process.start()
    sender.close()
    try:
        if receiver.poll(timeout):
            row = receiver.recv()
        else:
            row = row._replace(result="timeout", detail=f"more than {timeout:g} s")
            process.kill()
    except EOFError:
        process.join()
        row = row._replace(result="crash", detail=f"exit status {process.exitcode}")
    process.join()
    return row


def _send(job: Callable[[], Any], sender: Connection) -> None:
    """Send a job's row: what runs in its process. The models' own words are dropped."""
    warnings.simplefilter("ignore")
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        os.dup2(nowhere.fileno(), sys.stderr.fileno())
        sender.send(job())


def _examine(library: Library, family: str, rounds: int) -> Row:
    return examine(library.package, family, library.find(family), rounds)


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a table.

    Raises:
        UserError: It is not one of this command.
    """
    try:
        return [Row(*cells) for cells in read_csv(path, dict.fromkeys(Row._fields, str))]
    except ValueError as error:
        raise UserError(
            f"{path} is not a table of hesrl bench coverage: choose another --out"
        ) from error


def summary(rows: list[Row]) -> Iterator[Table]:
    """Yield a table of the libraries and a table of the missing operations."""
    table = Table(
        "library", "families", "ok", "missing", "other", "time ratio", "memory ratio",
        title="families that run natively, and with AdaHesScale; ratios to torch's Adam (median)",
    )  # fmt: skip
    rows = [row for row in rows if row.result != NO_MODEL]
    for library in [*dict.fromkeys(row.library for row in rows), "all"]:
        own = [row for row in rows if library in (row.library, "all")]
        counts = Counter(row.result if row.result in (OK, MISSING) else "" for row in own)
        numbers = len(own), counts[OK], counts[MISSING], counts[""]
        ratios = [_median(getattr(row, f"{x}_ratio") for row in own) for x in ("time", "memory")]
        table.add_row(library, *map(str, numbers), *ratios)
    yield table
    names = Counter(name for row in rows for name in row.missing.split())
    if names:
        table = Table("operation without a rule", "families")
        for name, count in names.most_common():
            table.add_row(name, str(count))
        yield table


def _median(texts: Iterable[str]) -> str:
    values = [float(text) for text in texts if text]
    return f"{median(values):.2f}" if values else ""
