"""Whether a controller does what it is told, and when it tells of it.

The controller's clock is held against ours, its joints against their range and the speed limit, and
the speeds that it asks of the joints against those that were sent. What is sent at t is obeyed at
t + δ, and δ is not known. So there is an expectation for each δ, and the controller has to be near
to one of those up to 48 ms, on average over half a second, and not much nearer to a later one.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hesrl.envs.ur5.protocol import State

LATENCIES = np.array([0, 8, 16, 24, 32, 40, 48, 80, 120, 160, 200]) / 1000
"""Times after which a command may have been obeyed (s)."""
LATEST = 0.048
"""The longest of them that is allowed (s)."""
SECONDS = 0.5
"""Time over which the difference from what is expected is averaged (s)."""
SHARE = 0.2
"""Largest difference of the speeds, as a part of the speed limit."""
OFF_WAY = 0.02
"""How far a joint may be from the straight way of a ``movej`` (rad)."""
RANGE = 2 * math.pi + 0.1
"""Largest angle of a joint (rad)."""
_OVER = 0.1
"""By what a measured speed may exceed the limit (rad/s)."""
_DRIFT = 1e-3
"""By what two clocks may drift apart, per second."""
_BUSY = 2.3
"""The same at an emulator whose clock is faster: a busy machine may slow it down to 0.3 times."""
_CALM = 0.005
"""Speed that is no motion (rad/s)."""


class _Sent(NamedTuple):
    """A command."""

    at: float
    """When it was sent, on the controller's clock (s)."""
    until: float
    """When it ends unless another follows, likewise (s)."""
    qd: NDArray[np.float64]
    """Speeds (6,), rad/s."""
    a: float
    """Acceleration (rad/s²)."""
    brake: float
    """Deceleration when it has ended (rad/s²)."""


class Watch:
    """Looks at every packet.

    Args:
        speed: Largest speed of a joint that is ever asked for (rad/s).
        clock_speed: How many times faster than ours the controller's clock runs. What is obeyed is
            looked at only if it is 1: delays of this machine would be too long otherwise.
        tolerance: By how much packets may be late (s), and by half of it early.
    """

    def __init__(self, speed: float, clock_speed: float = 1.0, tolerance: float = 0.1) -> None:
        self._speed, self._clock_speed, self._tolerance = speed, clock_speed, tolerance
        self._first: tuple[float, float] | None = None
        self._time, self._delay = -math.inf, math.inf
        self._way: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
        self._is_known = False
        self._forget()

    def sent_speeds(
        self, qd: tuple[float, ...], a: float, hold: float, now: float, brake: float | None = None
    ) -> None:
        """Note speeds that are sent now.

        Args:
            qd: The speeds (6,), rad/s.
            a: Acceleration towards them (rad/s²).
            hold: How long they hold on the controller's clock (s).
            now: On the clock of `time.monotonic` (s).
            brake: Deceleration when they have ended (rad/s²); ``a`` if None.
        """
        at = self._on_its_clock(now)
        self._way = None
        brake = a if brake is None else brake
        self._sent.append(_Sent(at, at + hold + 0.004, np.array(qd), a, brake))

    def sent_stop(self, a: float, now: float) -> None:
        """Note a stop with a deceleration (rad/s²)."""
        # It ends a way, whose speed at the moment is known from the next packet only.
        self._is_known = self._is_known and self._way is None
        self._way = None
        self._sent.append(_Sent(self._on_its_clock(now), math.inf, np.zeros(6), a, a))

    def sent_way(self, begin: NDArray[np.float64], end: tuple[float, ...]) -> None:
        """Note a movement from angles to others (6,), rad."""
        self._way = begin, np.array(end)
        self._forget()

    def sent_unknown(self) -> None:
        """Note that something was sent of which nothing is known."""
        self._forget()

    def clock_fault(self, state: State, arrival: float) -> str | None:
        """Return what is wrong with the speed of the clock after the first packets, or None."""
        if self._first is None:
            return None
        first_time, first_arrival = self._first
        speed = (state.time - first_time) / (arrival - first_arrival)
        expected = self._clock_speed
        # A busy machine slows an emulator down.
        low, high = (0.7, 1.4) if expected == 1 else (1.2, 2 * expected)
        if low <= speed <= high:
            return None
        return f"its clock runs {speed:.2g} times as fast as ours, not {expected:g} times"

    def fault(self, state: State, arrival: float) -> str | None:
        """Return what is wrong with a packet, or None.

        Args:
            state: What it says.
            arrival: When it came, on the clock of `time.monotonic` (s).
        """
        before, self._time = self._time, state.time
        if state.time < before:
            return f"its clock went back from {before} to {state.time} s"
        if self._first is None:
            self._first = state.time, arrival
        return (
            self._clock(state, arrival, state.time - before)
            or self._joints(state)
            or self._obedience(state, state.time - before)
        )

    def _on_its_clock(self, now: float) -> float:
        """Return a time of ours on the controller's clock, as far as packets tell it (s)."""
        return (now - self._delay) * self._clock_speed

    def _clock(self, state: State, arrival: float, elapsed: float) -> str | None:
        delay = arrival - state.time / self._clock_speed
        if self._delay == math.inf or self._first is None or arrival - self._first[1] < 0.2:
            self._delay = min(self._delay, delay)
            return None
        late = delay - self._delay
        if late > self._tolerance:
            return f"its packets come {late:.2f} s late, or its clock is slow"
        if late < -0.5 * self._tolerance:
            return f"its clock has gained {-late:.2f} s on ours"
        drift = _DRIFT * elapsed if self._clock_speed == 1 else _BUSY * elapsed / self._clock_speed
        self._delay += min(max(late, -drift), drift)
        return None

    def _joints(self, state: State) -> str | None:
        joint = int(np.abs(state.q_actual).argmax())
        if abs(angle := float(state.q_actual[joint])) > RANGE:
            return f"joint {joint} is at {angle:.4g} rad, where no joint can be"
        joint = int(np.abs(state.qd_actual).argmax())
        if abs(speed := float(state.qd_actual[joint])) > self._speed + _OVER:
            return f"joint {joint} turns at {speed:.2g} rad/s; the limit is {self._speed:g}"
        return None

    def _forget(self) -> None:
        """Expect nothing until the next command."""
        self._sent: deque[_Sent] = deque()
        self._expected = np.zeros((len(LATENCIES), 6))
        self._difference = np.zeros((len(LATENCIES), 6))
        self._is_known = False

    def _obedience(self, state: State, elapsed: float) -> str | None:
        if self._clock_speed != 1:
            return None
        if state.stop is not None:
            self._way = None
            self._forget()
            return None
        if self._way is not None:
            return self._scaling(state, state.qd_target) or self._on_way(state, *self._way)
        if not self._is_known:
            self._expected[:] = state.qd_target
            self._difference[:] = 0.0
            self._is_known = True
            return None
        if self._sent and (fault := self._scaling(state, self._sent[-1].qd)) is not None:
            return fault
        self._advance(state.time, elapsed)
        weight = 1 - math.exp(-elapsed / SECONDS)
        self._difference += weight * (state.qd_target - self._expected - self._difference)
        magnitude = np.abs(self._difference).max(axis=1)
        allowed = max(_CALM, SHARE * self._speed * (1 - math.exp(-1)))
        best = int(magnitude[LATENCIES <= LATEST].argmin())
        is_late = magnitude.min() < 0.2 * allowed and magnitude[best] > 0.6 * allowed
        if magnitude[best] <= allowed and not is_late:
            return None
        joint = int(np.abs(self._difference[best]).argmax())
        asked, sent = float(state.qd_target[joint]), float(self._expected[best, joint])
        if not self._expected.any():
            return (
                f"somebody else moves it: joint {joint} at {asked:.2g} rad/s, and nothing was sent"
            )
        return (
            f"it does not do what was sent within {LATEST} s: it asks {asked:.2g} rad/s of joint "
            f"{joint}, and {sent:.2g} is expected"
        )

    def _scaling(self, state: State, qd: NDArray[np.float64]) -> str | None:
        """Return that the pendant slows speeds (6,), rad/s, down; None if it does not."""
        if state.speed_scaling >= 0.99 or not qd.any():
            return None
        return f"speed_scaling is {state.speed_scaling:.2g}: set the speed at the pendant to 100 %"

    def _on_way(
        self, state: State, begin: NDArray[np.float64], end: NDArray[np.float64]
    ) -> str | None:
        """Return by how much the arm has left the straight way of a movement, or None."""
        way = end - begin
        length = float(way @ way)
        part = float((state.q_target - begin) @ way) / length if length > 0 else 0.0
        off = np.abs(state.q_target - begin - min(max(part, 0.0), 1.0) * way)
        joint = int(off.argmax())
        if off[joint] <= OFF_WAY:
            return None
        return f"it is not on its way: joint {joint} is {off[joint]:.2g} rad off"

    def _advance(self, time: float, elapsed: float) -> None:
        """Let what is expected follow what was sent, for each latency, until a time (s)."""
        while len(self._sent) > 1 and self._sent[1].at + LATENCIES[-1] < time - elapsed:
            self._sent.popleft()
        for number, latency in enumerate(LATENCIES):
            command = next((c for c in reversed(self._sent) if c.at + latency < time), None)
            if command is None:
                continue
            has_ended = time > command.until + latency
            goal = np.zeros(6) if has_ended else command.qd
            change = goal - self._expected[number]
            largest = float(np.abs(change).max())
            most = (command.brake if has_ended else command.a) * elapsed
            self._expected[number] += change if largest <= most else change * (most / largest)
