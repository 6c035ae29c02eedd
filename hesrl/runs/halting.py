"""Ctrl-C and SIGTERM where something moves: it is brought to rest before anything else."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from types import FrameType

from hesrl.runs.interrupts import StopRequest

MESSAGE = "stopped what was moving; the rollout that was running is lost"


class HaltRequest(StopRequest):
    """On SIGINT or SIGTERM calls a function and raises `SystemExit`, where the program is.

    Args:
        halt: Brings to rest what moves; it may be called while any other code runs.
    """

    def __init__(self, halt: Callable[[], None]) -> None:
        super().__init__()
        self._halt = halt

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self._halt()
        if self._signum is None:
            self._signum = signum
            # Straight to the descriptor, as in `StopRequest`.
            start = "\n" if os.isatty(2) else ""
            with contextlib.suppress(OSError):
                os.write(2, f"{start}{MESSAGE}\n".encode())
        raise SystemExit(self.exit_code)
