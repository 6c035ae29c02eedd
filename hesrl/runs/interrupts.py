"""Signals: a request to stop after the update, or at once where something moves."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

STOP_MESSAGE = "stopping after this update; press Ctrl-C again to abort at once"
HALT_MESSAGE = "interrupted: what moves is stopped; what was not saved is lost"
END_MESSAGE = "stopping"


class StopRequest:
    """Turns the first SIGINT or SIGTERM into a flag that a training loop can look at.

    The first signal prints one line to standard error and sets `requested`; a SIGINT after it
    raises `KeyboardInterrupt` where the program is. The handlers that were there come back at the
    end of the ``with`` block::

        with StopRequest() as stop:
            while global_step < total_timesteps and not stop.requested:
                ...
        sys.exit(stop.exit_code)

    Python lets only the main thread install signal handlers: in another thread this does nothing,
    and `requested` stays False.
    """

    def __init__(self) -> None:
        self._signum: int | None = None
        self._signals = [signal.SIGINT, signal.SIGTERM]
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._signum is not None

    @property
    def signal_name(self) -> str | None:
        """Name of the signal that came first, such as ``SIGINT``; None if none has."""
        return None if self._signum is None else signal.Signals(self._signum).name

    @property
    def exit_code(self) -> int:
        """128 plus the number of the first signal, as a shell reports it; 0 if none has come."""
        return 0 if self._signum is None else 128 + self._signum

    def __enter__(self) -> StopRequest:
        """Install the handlers."""
        if threading.current_thread() is threading.main_thread():
            for signum in self._signals:
                self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        """Restore the previous handlers."""
        while self._previous:
            signal.signal(*self._previous.popitem())

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._signum is None:
            self._take_note(signum, STOP_MESSAGE)
        elif signum == signal.SIGINT:
            raise KeyboardInterrupt

    def _take_note(self, signum: int, message: str) -> None:
        self._signum = signum
        # Straight to the descriptor: a signal can arrive inside a buffered write, which must not
        # be entered twice. A terminal has echoed ^C on this line; and a reader that has gone, as
        # `tee` does on the same Ctrl-C, must not cost the checkpoint.
        start = "\n" if os.isatty(2) else ""
        with contextlib.suppress(OSError):
            os.write(2, f"{start}{message}\n".encode())


class HaltRequest(StopRequest):
    """Brings to rest what moves on a signal, and raises `SystemExit` where the program is.

    The signals are SIGINT, SIGTERM and, where something moves, SIGHUP: a terminal that is closed,
    or a connection to it that is lost. SIGHUP stays ignored where it is, as after ``nohup``.

    Args:
        halt: Brings to rest what moves; it may be called while any other code runs. None where
            nothing moves.
    """

    def __init__(self, halt: Callable[[], None] | None) -> None:
        super().__init__()
        self._halt = halt
        hangup = getattr(signal, "SIGHUP", None)  # which Windows has not
        if halt is not None and hangup and signal.getsignal(hangup) != signal.SIG_IGN:
            self._signals.append(hangup)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._halt is not None:
            self._halt()
        if self._signum is None:
            self._take_note(signum, END_MESSAGE if self._halt is None else HALT_MESSAGE)
        raise SystemExit(self.exit_code)
