"""Notices when this program was halted: neither of its threads ran for a while."""

from __future__ import annotations

import threading
import time

_BEATS = 8
"""Beats of the thread within the time that is a halt."""


class Pulse:
    """A thread that does nothing but run, again and again.

    An agent that computes for long lets it run; SIGSTOP, or a machine that is suspended, does not.

    Args:
        longest: Time without a beat that is a halt (s).
    """

    def __init__(self, longest: float) -> None:
        self._pause, self._beat, self._gap = longest / _BEATS, time.monotonic(), 0.0
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="UR5 pulse", daemon=True).start()

    @property
    def gap(self) -> float:
        """The longest time without a beat so far (s); whoever asks is a beat himself."""
        # The thread that is halted last may be the first to run again.
        now = time.monotonic()
        self._gap, self._beat = max(self._gap, now - self._beat), now
        return self._gap

    def end(self) -> None:
        """End the thread; again is harmless."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._pause):
            self.gap  # noqa: B018
