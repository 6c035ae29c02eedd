"""The link to a UR controller: a thread reads its packets and answers each with a command.

The arm moves only while it is asked to: a speed that was sent holds for 8 ms, so that it is sent
again with every packet, and the controller lets the arm come to rest when that ends, whatever ended
it. The thread stops sending when

- the last `Driver.follow` is 0.5 s old: the arm gets ``stopj``,
- no new packet has come for 0.1 s, the connection is lost, or something else than packets comes:
  the arm gets ``stopj``, if it can still be reached, and the connection is closed for good,
- the controller has stopped the arm, or the process ends.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable

from hesrl.envs.ur5 import urscript
from hesrl.envs.ur5.motion import Law, Limits
from hesrl.envs.ur5.protocol import REALTIME_PORT, Frames, ProtocolError, State, unpack
from hesrl.errors import EnvironmentFault, one_line

_LAST_WORDS = 0.1
"""Longest time that the controller gets for reading the last line (s)."""


def address(host: str, port: int) -> str:
    """Return how errors name a controller."""
    return f"UR controller at {host}:{port}"


def connected(host: str, port: int, timeout: float) -> socket.socket:
    """Return a connection to the real-time interface of a controller.

    Args:
        host: Address of the controller.
        port: Of its real-time interface.
        timeout: Longest time to wait (s).

    Raises:
        EnvironmentFault: It cannot be reached.
    """
    try:
        connection = socket.create_connection((host, port), timeout)
    except OSError as error:
        raise EnvironmentFault(
            f"{address(host, port)} cannot be reached: {error.strerror or error}; is it on, and is "
            "the address right?"
        ) from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Driver:
    """A connection to the controller. Every way to lose it stops the arm.

    Args:
        host: Address of the controller.
        port: TCP port of its real-time interface.
        limits: What no law may exceed.
        t_min: How long a speed holds (s).
        stop_acceleration: Deceleration of a stop (rad/s²).
        stale_after: Largest age of the newest packet (s).
        silence: How long a law is followed unless it is given again (s).
        timeout: Longest time that connecting may take, and the first packet after it (s).

    Raises:
        EnvironmentFault: The controller cannot be reached, sends nothing, or is none.
    """

    def __init__(
        self,
        host: str,
        port: int = REALTIME_PORT,
        *,
        limits: Limits,
        t_min: float = 0.008,
        stop_acceleration: float = 3.0,
        stale_after: float = 0.1,
        silence: float = 0.5,
        timeout: float = 2.0,
    ) -> None:
        self.where = address(host, port)
        self.stale_after = stale_after
        self._limits, self._t_min, self._silence = limits, t_min, silence
        self._stop_line = urscript.stopj(stop_acceleration)
        self._fault: str | None = None
        self._law: Law | None = None
        self._law_given = -math.inf
        self._packets = 0
        self._socket = connected(host, port, timeout)
        self._socket.settimeout(stale_after)
        self._changed = threading.Condition()
        self._frames = Frames()
        self._state: State | None = None
        self._arrival = time.monotonic()
        self._deadline = self._arrival + timeout
        # Also when the interpreter exits.
        self._finalizer = weakref.finalize(
            self, _stop_and_close, self._socket, self._changed, self._stop_line
        )
        thread = threading.Thread(
            target=_read, args=(weakref.ref(self), self._socket), name="UR5 driver", daemon=True
        )
        thread.start()
        try:
            self.wait(lambda state: True, timeout, "the first packet")
        except EnvironmentFault:
            self.close()
            raise

    @property
    def fault(self) -> str | None:
        """What broke the connection, in one line, or None while it is fine."""
        return self._fault

    @property
    def state(self) -> State:
        """What the newest packet says."""
        assert self._state is not None
        return self._state

    @property
    def packets(self) -> int:
        """How many packets have come."""
        return self._packets

    @property
    def age(self) -> float:
        """Time since the newest packet came (s)."""
        return time.monotonic() - self._arrival

    def follow(self, law: Law) -> None:
        """Send what ``law`` says, now and with every packet, for half a second.

        Raises:
            EnvironmentFault: The connection is broken.
            ValueError: It asks for too much, or for what is not finite; the connection is closed.
        """
        with self._changed:
            self._check()
            self._law, self._law_given = law, time.monotonic()
            self._send_law()
            self._check()

    def movej(self, q: tuple[float, ...], a: float, v: float, t: float) -> None:
        """Move the joints to angles ``q`` (6,), rad, in ``t`` seconds.

        Raises:
            EnvironmentFault: The connection is broken.
        """
        self._command(urscript.movej(q, a, v, t))

    def stop(self, a: float | None = None) -> None:
        """Bring the arm to rest, with ``a`` in rad/s² or as a lost link does.

        Raises:
            EnvironmentFault: The connection is broken.
        """
        self._command(self._stop_line if a is None else urscript.stopj(a))

    def wait(self, condition: Callable[[State], bool], timeout: float, what: str) -> State:
        """Return what the first packet says that meets a condition; the newest is looked at first.

        Args:
            condition: Whether a packet meets it.
            timeout: Longest time to wait, s.
            what: Name of the condition, for the error.

        Raises:
            EnvironmentFault: The time is over, or the connection is broken.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._state is None or not condition(self._state):
                self._check()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise EnvironmentFault(f"{self.where}: waited {timeout:.3g} s for {what}")
                self._changed.wait(left)
            return self._state

    def close(self) -> None:
        """Stop the arm and close the connection; again is harmless."""
        with self._changed:
            self._fault = self._fault or f"{self.where}: the connection has been closed"
            self._law = None
            self._finalizer()
            self._changed.notify_all()

    def _check(self) -> None:
        if self._fault is not None:
            raise EnvironmentFault(self._fault)

    def _command(self, line: bytes) -> None:
        with self._changed:
            self._check()
            self._law = None
            self._send(line)
            self._check()

    def _fail(self, what: str) -> None:
        """Note a fault, stop the arm and close the connection."""
        self._fault = self._fault or f"{self.where}: {what}"
        self._law = None
        self._finalizer()
        self._changed.notify_all()

    def _send(self, line: bytes) -> None:
        try:
            self._socket.sendall(line)
        except OSError as error:
            self._fail(f"the connection is lost: {error.strerror or error}")

    def _send_law(self) -> None:
        """Send what the law says about the newest packet, or a stop if the agent is silent."""
        if self._law is None or self.state.stop is not None:
            self._law = None
            return
        if time.monotonic() - self._law_given > self._silence:
            self._law = None
            self._send(self._stop_line)
            return
        motion = self._law(self.state)
        try:
            self._limits.check(motion)
            line = urscript.speedj(*motion, self._t_min)
        except ValueError as error:
            self._fail(str(error))
            raise
        self._send(line)

    def _time_left(self) -> float:
        """Return how long the next packet may still take (s)."""
        return self._deadline - time.monotonic()

    def _received(self, data: bytes | OSError | None) -> bool:
        """Take what came of reading: bytes, none at the end, an error, or None for nothing yet.

        Returns:
            Whether to read on.
        """
        with self._changed:
            if self._fault is not None:
                return False
            try:
                if isinstance(data, bytes) and data:
                    self._take(self._frames.feed(data))
                elif data is not None:
                    cause = data.strerror if isinstance(data, OSError) else "closed by it"
                    self._fail(f"the connection is lost: {cause}")
                if self._time_left() <= 0:
                    self._fail(f"no new packet for {self.age:.2g} s")
            except ProtocolError as error:
                self._fail(str(error))
            except Exception as error:
                # Of the law. It would end the thread unseen; as the fault it reaches the user.
                self._fail(f"the law of the motion raised {one_line(repr(error))}")
            return self._fault is None

    def _take(self, packets: list[bytes]) -> None:
        """Take over the newest packet and answer it."""
        if not packets:
            return
        state, before = unpack(packets[-1]), self._state
        if before is not None and state.time < before.time:
            raise ProtocolError(f"its clock went back from {before.time} to {state.time} s")
        if before is None or state.time > before.time:
            self._state, self._arrival = state, time.monotonic()
            self._deadline = self._arrival + self.stale_after
            self._packets += len(packets)
            self._send_law()
            self._changed.notify_all()


def _read(reference: weakref.ref[Driver], connection: socket.socket) -> None:
    """Read packets, in the thread, until the connection breaks or nobody needs the driver."""
    # A driver that is not needed is collected, because this holds it only between two waits.
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    while (driver := reference()) is not None:
        left = driver._time_left()
        del driver
        data: bytes | OSError | None = None
        try:
            if poll.poll(max(0.0, left) * 1000):
                data = connection.recv(1 << 20)
        except OSError as error:
            data = error
        driver = reference()
        if driver is None or not driver._received(data):
            return
        del driver


def _stop_and_close(
    connection: socket.socket, changed: threading.Condition, stop_line: bytes
) -> None:
    """Stop the arm, if it can be reached, and close the connection."""
    # The lock lets no speed follow. What cannot be sent is why the connection closes, or the arm
    # has stopped without it.
    with changed, contextlib.suppress(OSError):
        connection.sendall(stop_line)
        connection.shutdown(socket.SHUT_WR)
        # Closed before the other side has read it, the connection would be reset, the line lost.
        end = time.monotonic() + _LAST_WORDS
        while time.monotonic() < end and connection.recv(1 << 16):
            pass
    connection.close()
