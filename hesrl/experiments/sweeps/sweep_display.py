"""What a sweep shows: a live table in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from hesrl.experiments.sweeps.store import Record
from hesrl.experiments.sweeps.trial import Trial
from hesrl.runs.progress import format_duration

SHOWN = ("done", "running", "failed", "diverged", "pending")
LAST_RUNS = 20
"""Runs whose mean speed says how long the others will take."""
LINE_SECONDS = 30.0


class Display:
    """Shows how many trials are done, running, failed, diverged and pending, and the time left.

    A context manager.

    Args:
        console: Where to show it.

    Attributes:
        shared: Settings of all trials, which need not be said of each.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: deque[tuple[int, float]] = deque(maxlen=LAST_RUNS)
        self._next = time.monotonic() + LINE_SECONDS
        self._display = contextlib.ExitStack()
        self._live: Live | None = None
        self.shared: set[tuple[str, Any]] = set()

    def __enter__(self) -> Display:
        """Start the live table, in a terminal."""
        if self._console.is_interactive:
            self._live = Live(console=self._console, auto_refresh=False)
            self._display.enter_context(self._live)
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the last state on the screen."""
        self._display.close()

    def ended(self, record: Record, seconds: float) -> None:
        """Take note of a trial that has ended, and say how.

        Args:
            record: Its record.
            seconds: How long it ran (s).
        """
        if record.status != "failed":
            self._last.append((record.trial["total_timesteps"], seconds))
        say(self._console, outcome(record, self.shared))

    def show(
        self,
        count: Counter[str],
        started: Mapping[str, float],
        todo: Sequence[Trial],
        slots: int,
    ) -> None:
        """Show the state of the sweep, if it is time to.

        Args:
            count: Trials by status.
            started: When each running trial began, by its id (s, of the monotonic clock).
            todo: Trials that are running or pending.
            slots: How many can run at the same time.
        """
        if self._live is None and (time.monotonic() < self._next or not todo):
            return
        self._next = time.monotonic() + LINE_SECONDS
        left = format_duration(x) if math.isfinite(x := self._left(started, todo, slots)) else "–"
        if self._live is None:
            states = ", ".join(f"{count[status]} {status}" for status in SHOWN if count[status])
            say(self._console, f"{states}; {left} left")
            return
        table = Table(*SHOWN, "time left")
        table.add_row(*(str(count[status]) for status in SHOWN), left)
        self._live.update(table, refresh=True)

    def _left(self, started: Mapping[str, float], todo: Sequence[Trial], slots: int) -> float:
        """Return the time left by the mean speed of the last runs (s); NaN before the first."""
        steps, seconds = sum(s for s, _ in self._last), sum(s for _, s in self._last)
        if not steps:
            return 0.0 if not todo else math.nan
        now = time.monotonic()
        each = [
            max(
                0.0, trial["total_timesteps"] * seconds / steps - (now - started.get(trial.id, now))
            )
            for trial in todo
        ]
        return sum(each) / max(1, min(slots, len(each)))


def outcome(record: Record, shared: Collection[tuple[str, Any]] = ()) -> str:
    """Return how a trial has ended, in one line, without settings that all trials share."""
    how = f"{record.status}: {record.line}"
    if record.status == "done":
        how = f"{number(record.final)}, evaluation {number(record.evaluation)}"
    return f"{record.trial.label_without(shared)}: {how}"


def number(value: float) -> str:
    """Return a return without decimals, and a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:,.0f}"


def say(console: Console, line: str) -> None:
    """Print one line as it is."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)
