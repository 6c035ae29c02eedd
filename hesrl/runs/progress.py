"""Progress of a training run: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import time
from collections import deque
from statistics import fmean

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as RichProgress

RECENT_EPISODES = 20
BAR_SECONDS = 0.2
LINE_SECONDS = 30.0
RATE_SECONDS = 5.0
"""Steps per second are those of so many last seconds, or a little more."""


class Progress:
    """Shows steps, mean return of the last 20 episodes, steps per second and time left.

    In a terminal this is a bar, drawn at most five times a second and from `update` only: no
    thread competes with training. Elsewhere it is a line every 30 s, and one at the end::

        with Progress(args.total_timesteps) as progress:
            progress.update(global_step, episodic_return)
    """

    def __init__(
        self, total_steps: int, *, initial_step: int = 0, console: Console | None = None
    ) -> None:
        """Prepare; nothing is shown yet.

        Args:
            total_steps: Environment steps of the whole run.
            initial_step: Environment steps done before, for a resumed run.
            console: Where to show it; standard output if None.

        Raises:
            ValueError: ``total_steps`` is not positive.
        """
        if total_steps <= 0:
            raise ValueError(f"total_steps must be positive, got {total_steps}")
        self._total = total_steps
        self._step = self._shown = initial_step
        self._marks: deque[tuple[float, int]] = deque()
        self._returns: deque[float] = deque(maxlen=RECENT_EPISODES)
        self._console = Console() if console is None else console
        self._bar = _new_bar(self._console) if self._console.is_interactive else None
        self._next = time.monotonic()

    def update(self, global_step: int, episodic_return: float | None = None) -> None:
        """Take note of progress, and show it if it is time to.

        Args:
            global_step: Environment steps so far, those before a resume included.
            episodic_return: Return of an episode that ended there; None says that the step has
                just been reached, which an agent of rollouts learns of its episodes later.
        """
        now = time.monotonic()
        self._step = global_step
        if episodic_return is None:
            self._marks.append((now, global_step))
            while len(self._marks) > 2 and now - self._marks[1][0] >= RATE_SECONDS:
                self._marks.popleft()
        else:
            self._returns.append(episodic_return)
        due = self._bar is not None or episodic_return is None
        if due and now >= self._next:
            self._show()

    def __enter__(self) -> Progress:
        """Start the clock and show the bar."""
        self._next = time.monotonic()
        self._marks.append((self._next, self._step))
        if self._bar is None:
            self._next += LINE_SECONDS
        else:
            self._task = self._bar.add_task("", total=self._total, completed=self._step)
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Show the last state and leave it on the screen."""
        if self._bar is not None:
            self._show()
            self._bar.stop()
        elif self._step != self._shown:
            self._show()

    def _show(self) -> None:
        self._shown = self._step
        if self._bar is not None:
            self._next = time.monotonic() + BAR_SECONDS
            text = self.describe()
            self._bar.update(self._task, completed=self._step, description=text, refresh=True)
            return
        self._next = time.monotonic() + LINE_SECONDS
        line = f"step {self._step}/{self._total}  {self.describe()}"
        try:
            print(line.rstrip(), file=self._console.file, flush=True)
        except BrokenPipeError:
            # The reader, such as `tee`, has gone; Ctrl-C ends it along with us. The run and its
            # checkpoint matter more than its lines, so from here on they go nowhere.
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._console.file.fileno())

    def describe(self) -> str:
        """The state in one line, such as ``return 812.3  5100 steps/s  0:35 left``."""
        (start, first), (end, last) = self._marks[0], self._marks[-1]
        rate = (last - first) / max(end - start, 1e-9)
        parts = [f"return {fmean(self._returns):.1f}"] if self._returns else []
        if rate:
            left = max(self._total - self._step, 0) / rate
            parts += [f"{rate:.0f} steps/s", f"{format_duration(left)} left"]
        return "  ".join(parts)


def format_duration(seconds: float) -> str:
    """``m:ss``, or ``h:mm:ss`` from one hour on."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _new_bar(console: Console) -> RichProgress:
    return RichProgress(
        TextColumn("{task.completed}/{task.total} steps"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.description}"),
        console=console,
        auto_refresh=False,
    )
