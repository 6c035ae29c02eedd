"""The driver of a UR controller: a thread reads its packets and answers each with a command.

A speed holds for 8 ms, and the driver sends it again with every packet. When none follows, for
whatever reason, the controller lets the arm come to rest. What packets and commands look like is
the wire's business. The thread stops sending when

- the last `Driver.follow` is 0.5 s old: the arm gets ``stopj``,
- no new packet has come for 0.1 s, the connection is lost, or data come that are no packets: the
  arm gets ``stopj``, if it can still be reached, and the connection is closed for good,
- the controller has stopped the arm, or the process ends.
"""

from __future__ import annotations

import math
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import NoReturn

from hesrl.envs.ur5.kinematics import UR5, ArmModel
from hesrl.envs.ur5.link import FIRST_PACKET, STOP_ACCELERATION, Link, PersonNeeded
from hesrl.envs.ur5.motion import Law, Limits
from hesrl.envs.ur5.obedience import Watch
from hesrl.envs.ur5.protocol import REALTIME_PORT, ProtocolError
from hesrl.envs.ur5.wire import OpenWire, RealTimeWire, Wire
from hesrl.errors import one_line


class Driver(Link):
    """A link whose thread is in this process.

    Args:
        host: Address of the controller.
        port: TCP port where packets come from.
        limits: What no law may exceed.
        t_min: How long a speed holds (s).
        stale_after: Largest age of the newest packet (s).
        silence: How long a law is followed unless it is given again (s).
        timeout: Longest time that connecting may take, and the first packet after it (s).
        clock_speed: How many times faster than ours the controller's clock runs.
        open_wire: Connects; takes the arguments of `RealTimeWire`.
        model: The arm that is expected.

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
        stale_after: float = 0.1,
        silence: float = 0.5,
        timeout: float = FIRST_PACKET,
        clock_speed: float = 1.0,
        open_wire: OpenWire = RealTimeWire,
        model: ArmModel = UR5,
    ) -> None:
        watch = Watch(limits.speed, clock_speed, stale_after)
        super().__init__(host, port, stale_after, watch, model)
        self._limits, self._silence = limits, silence
        self._law: Law | None = None
        self._law_given = -math.inf
        self._wire = open_wire(host, port, timeout, t_min, stale_after * clock_speed)
        connection = self._wire.connection
        connection.settimeout(stale_after)
        self._changed = threading.Condition()
        self._arrival = time.monotonic()
        self._deadline = self._arrival + timeout
        # Also when the interpreter exits.
        self._finalizer = weakref.finalize(self, _stop_and_close, self._wire, self._changed)
        thread = threading.Thread(
            target=_read, args=(weakref.ref(self), connection), name="UR5 driver", daemon=True
        )
        thread.start()
        self._wait_for_first_packet(timeout)

    @property
    def t_min(self) -> float:
        """How long a speed holds after it was sent, at most (s)."""
        return self._wire.t_min

    @property
    def is_ready(self) -> bool:
        """Whether what obeys commands runs on the controller."""
        return self._wire.is_ready

    def follow(self, law: Law) -> None:
        """Send what ``law`` says, now and with every packet, for half a second.

        Raises:
            EnvironmentFault: The connection is broken.
            ValueError: It asks for too much, or for what is not finite; the connection is closed.
        """
        with self._changed:
            self._check()
            self._law, self._law_given = law, time.monotonic()
            # After a halt of this program, the thread looks at a new packet first.
            if self._time_left() > 0:
                self._send_law()
            self._check()

    def movej(self, q: tuple[float, ...], a: float, v: float, t: float) -> None:
        """Do what `Link.movej` says."""
        with self._changed:
            if self._time_left() <= 0:
                self._fail(f"this program was halted for {self._age():.2g} s")
            self._command(
                lambda: self._wire.movej(q, a, v, t),
                lambda: self.watch.sent_way(self.state.q_target, q),
            )

    def stop(self, a: float = STOP_ACCELERATION) -> None:
        """Do what `Link.stop` says."""
        self._command(
            lambda: self._wire.stopj(a), lambda: self.watch.sent_stop(a, time.monotonic())
        )

    def refuse(self, what: str) -> NoReturn:
        """Do what `Link.refuse` says."""
        with self._changed:
            super().refuse(what)

    def close(self) -> None:
        """Do what `Link.close` says."""
        with self._changed:
            super().close()

    def _looking(self) -> threading.Condition:
        return self._changed

    def _pause(self, seconds: float) -> None:
        self._changed.wait(seconds)

    def _stop_and_close(self) -> None:
        self._law = None
        self._finalizer()
        self._changed.notify_all()

    def _command(self, send: Callable[[], None], note: Callable[[], None]) -> None:
        with self._changed:
            self._check()
            self._law = None
            self._send(send)
            note()
            self._check()

    def _send(self, send: Callable[[], None]) -> None:
        try:
            send()
        except OSError as error:
            self._fail(f"the connection is lost: {error.strerror or error}")

    def _send_law(self) -> None:
        """Send what the law says about the newest packet, or a stop if the agent is silent."""
        if self._law is None or self.state.stop is not None:
            self._law = None
            self._send(self._wire.alive)
            return
        if time.monotonic() - self._law_given > self._silence:
            self._law = None
            self._send(lambda: self._wire.stopj(STOP_ACCELERATION))
            self.watch.sent_stop(STOP_ACCELERATION, time.monotonic())
            return
        motion = self._law(self.state)
        try:
            self._limits.check(motion)
            self._send(lambda: self._wire.speedj(*motion))
        except ValueError as error:
            self._fail(str(error), needs_person=True)
            raise
        self.watch.sent_speeds(motion.qd, motion.a, self.t_min, time.monotonic())

    def _age(self) -> float:
        """Return how long ago the newest packet came (s)."""
        return time.monotonic() - self._arrival

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
                if self._time_left() < -self.stale_after:
                    # Packets have come meanwhile, but nobody looked at them.
                    self._fail(f"this program was halted for {self._age():.2g} s")
                    return False
                if isinstance(data, bytes) and data:
                    self._take(self._wire.feed(data))
                elif data is not None:
                    cause = data.strerror if isinstance(data, OSError) else "closed by it"
                    self._fail(f"the connection is lost: {cause}")
                if self._time_left() <= 0:
                    self._fail(f"no new packet for {self._age():.2g} s")
            except ProtocolError as error:
                self._fail(str(error))
            except PersonNeeded as error:
                self._fail(str(error), needs_person=True)
            except Exception as error:
                # Of the law. It would end the thread unseen; as the fault it reaches the user.
                what = f"the law of the motion raised {one_line(repr(error))}"
                self._fail(what, needs_person=True)
            return self._fault is None

    def _take(self, packets: list[bytes]) -> None:
        """Take over the newest packet and answer it."""
        if not packets:
            return
        state, before = self._wire.unpack(packets[-1]), self._state
        if before is None or state.time != before.time:
            gap = self._age()
            self._state, self._arrival = state, time.monotonic()
            self._deadline = self._arrival + self.stale_after
            self._packets += len(packets)
            if (fault := self.watch.fault(state, self._arrival)) is not None:
                # Whether the controller obeyed in a gap between packets is not known.
                lost = before is not None and gap > self.stale_after
                what = f"no new packet for {gap:.2g} s" if lost else fault
                self._fail(what, needs_person=not lost)
                return
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


def _stop_and_close(wire: Wire, changed: threading.Condition) -> None:
    """Stop the arm, if it can be reached, and close the connection."""
    # The lock lets no speed follow.
    with changed:
        wire.end()
