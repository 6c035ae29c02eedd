"""Results that come piece by piece (a seed, a size): each is kept, and computed only once."""

from __future__ import annotations

import json
import multiprocessing
import signal
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_type_hints

import torch
from rich.console import Console

from hesrl.errors import UserError
from hesrl.measuring.tables import read_csv, to_csv
from hesrl.runs.atomic import make_folder, write_atomically

RowT = TypeVar("RowT", bound=tuple[Any, ...])
PieceT = TypeVar("PieceT", int, str)


@dataclass(frozen=True)
class Collected(Generic[RowT]):
    """The rows of all pieces, and the effort."""

    rows: list[RowT]
    computed: int
    """How many of them were computed now; the others were there."""
    seconds: float
    """How long all that is in the folder took, in this run and in those before."""


def collect(
    measure: Callable[[PieceT], list[RowT]],
    pieces: Sequence[PieceT],
    row_type: type[RowT],
    folder: Path,
    settings: Mapping[str, Any],
    jobs: int = 1,
) -> Collected[RowT]:
    """Compute the pieces that ``folder`` lacks and return the rows of all.

    Each piece is written to ``folder/parts/<piece>.csv`` as soon as it is there, so that a run
    that was interrupted goes on where it was; ``folder/settings.json`` tells whether the parts
    are of these settings.

    Args:
        measure: Computes a piece; a function that can be pickled if ``jobs`` is above 1.
        pieces: Names of the pieces, which measure takes.
        row_type: The class of the rows, a `NamedTuple` of int, float and str.
        folder: Where the results go; made if missing.
        settings: What the rows depend on, besides the piece; numbers, text, None.
        jobs: Processes; 1 computes in this one.

    Raises:
        UserError: The folder holds results of other settings or damaged ones, cannot be written,
            or a process died.
    """
    parts = folder / "parts"
    make_folder(parts)
    _check_settings(folder / "settings.json", settings)
    files = {piece: parts / f"{piece}.csv" for piece in pieces}
    missing = [piece for piece in pieces if not files[piece].exists()]
    clock = folder / "seconds.txt"
    try:
        before = float(clock.read_bytes()) if clock.exists() else 0.0
    except ValueError as error:
        raise UserError(f"{clock} is damaged: delete it ({error})") from error
    seconds, start = before, time.perf_counter()
    console = Console()
    console.print(f"{len(pieces)} parts, {len(missing)} to do, {jobs} at a time")
    with closing(_spread(measure, missing, jobs)) as results:
        for number, (piece, rows) in enumerate(results, start=1):
            write_atomically(files[piece], to_csv(get_type_hints(row_type), rows))
            seconds = before + time.perf_counter() - start
            write_atomically(clock, f"{seconds:.1f}\n".encode())
            console.print(f"{number}/{len(missing)} {piece}", highlight=False)
    rows = [row for file in files.values() for row in _read(file, row_type)]
    return Collected(rows, len(missing), seconds)


def _check_settings(file: Path, settings: Mapping[str, Any]) -> None:
    wanted = json.loads(json.dumps(settings))
    if not file.exists():
        write_atomically(file, json.dumps(wanted, indent=1).encode())
        return
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {file}: {error}; choose another --out") from error
    if found != wanted:
        differ = [f"{k} {found.get(k)}, not {v}" for k, v in wanted.items() if found.get(k) != v]
        raise UserError(
            f"{file.parent} holds results of other settings ({'; '.join(differ)}): "
            "choose another --out, or delete the folder"
        )


def _read(file: Path, row_type: type[RowT]) -> list[RowT]:
    try:
        return [row_type(*row) for row in read_csv(file, get_type_hints(row_type))]
    except ValueError as error:
        raise UserError(f"{file} is damaged: delete it ({error})") from error


def _spread(
    measure: Callable[[PieceT], list[RowT]], pieces: Sequence[PieceT], jobs: int
) -> Generator[tuple[PieceT, list[RowT]], None, None]:
    """Yield the pieces as they become ready; whatever ends this early ends the processes."""
    if jobs == 1:
        yield from ((piece, measure(piece)) for piece in pieces)
        return
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _start_process) as pool:
        futures = {pool.submit(measure, piece): piece for piece in pieces}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            if isinstance(error, BrokenProcessPool):
                raise UserError(
                    "a process died, perhaps for want of memory: try fewer --jobs"
                ) from error
            raise


def _start_process() -> None:
    # Ctrl-C reaches every process of a terminal; the one that was started ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
