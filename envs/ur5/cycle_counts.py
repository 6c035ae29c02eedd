"""Counts of late actions, lost packets and faults: how well the cycle of an arm was kept."""

from __future__ import annotations

import numpy as np

from hesrl.envs.ur5.protocol import CYCLE

_FAST_CYCLE = 0.002
"""Time between two packets of an e-Series controller (s); a CB3 controller's is `CYCLE`."""


class CycleCounts:
    """Counts what went wrong in the episodes since `take` was last called.

    An episode is `begin`, any number of `acted`, `end`. `seen` goes with every packet that the
    environment waits for.

    Attributes:
        link_faults: How often the link has broken.
    """

    def __init__(self) -> None:
        self._first = self._last = (0.0, 0)
        self._late_steps = self._lost_packets = self._faults = self.link_faults = 0
        self._longest_delay = 0.0
        self._response_times: list[float] = []

    def seen(self, time: float, packets: int) -> None:
        """Note the time of the newest packet (s) and how many packets have come with it."""
        self._last = time, packets

    def begin(self) -> None:
        """Begin an episode with the packet that was last seen."""
        self._first = self._last

    def acted(self, delay: float, late: bool, response_time: float | None = None) -> None:
        """Note an action that was sent.

        Args:
            delay: From the observation to the action that answers it (s, the controller's clock).
            late: Whether that was too long.
            response_time: From the packet to the command (s, this machine's clock); None of an
                episode's first action, for which there is any time.
        """
        self._longest_delay = max(self._longest_delay, delay)
        self._late_steps += late
        if response_time is not None:
            self._response_times.append(response_time)

    def end(self, *, fault: bool, broken: bool) -> None:
        """End the episode with the packet that was last seen.

        Args:
            fault: Whether a fault cut it short.
            broken: Whether the link has broken.
        """
        elapsed, came = (last - first for last, first in zip(self._last, self._first, strict=True))
        # Either cycle has less than half of its packets missing.
        cycle = CYCLE if elapsed > came * (CYCLE + _FAST_CYCLE) / 2 else _FAST_CYCLE
        self._lost_packets += max(0, round(elapsed / cycle - came))
        self._faults += fault
        self.link_faults += broken

    def take(self) -> dict[str, float]:
        """Return the counts since the last call, and begin to count anew.

        Without an action that answers an observation there are no response times.
        """
        metrics: dict[str, float] = {
            "ur5/late_steps": self._late_steps,
            "ur5/longest_delay": round(self._longest_delay, 6),  # the clock has whole cycles
            "ur5/lost_packets": self._lost_packets,
            "ur5/faults": self._faults,
            "ur5/link_faults": self.link_faults,
        }
        if self._response_times:
            # Of few actions the second is the longest.
            median, p999 = np.quantile(self._response_times, (0.5, 0.999), method="higher")
            metrics["ur5/response_time_median"] = float(median)
            metrics["ur5/response_time_p999"] = float(p999)
        self._late_steps = self._lost_packets = self._faults = self.link_faults = 0
        self._longest_delay, self._response_times = 0.0, []
        return metrics
