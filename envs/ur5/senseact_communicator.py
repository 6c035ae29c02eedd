"""SenseAct's communicator with a UR controller, which ends at the first fault and reports it.

SenseAct's own communicator takes whatever it reads as packets, and the end of a connection as
zeros. Then it connects again without a message. The communicator here cuts and checks packets as
`hesrl.envs.ur5.driver` does. At the first fault it sends ``stopj``, reports the fault to the
agent's process and closes the connection. It has no connection to the dashboard, so that SenseAct
cannot acknowledge a protective stop.

Importing this needs SenseAct; `hesrl.envs.ur5.senseact` does it.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from multiprocessing import Lock, Pipe
from multiprocessing.context import ForkProcess
from typing import Any

import numpy as np
from senseact.devices.ur import ur_utils
from senseact.devices.ur.ur_communicator import URCommunicator
from senseact.sharedbuffer import SharedBuffer

from hesrl.envs.ur5.link import close_after_reading, send_last
from hesrl.envs.ur5.protocol import Frames, ProtocolError, unpack
from hesrl.errors import EnvironmentFault

LOCK_TIME = 1.0
"""Longest time that a process may hold a buffer (s); it takes microseconds."""
_LONGEST_LOOK = 0.2
"""Longest time for which SenseAct waits for a packet (s)."""
END_TIME = 2.0
"""Longest time that the communicator gets for its end (s)."""


class BoundedLock:
    """A lock between processes which is not waited for if the one that holds it has died."""

    def __init__(self) -> None:
        self._lock = Lock()

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            EnvironmentFault: It is not free in time.
        """
        if not self._lock.acquire(timeout=LOCK_TIME):
            raise EnvironmentFault(f"a buffer of SenseAct's is locked for {LOCK_TIME:g} s")

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()


class Buffer(SharedBuffer):
    """A buffer between processes that loses no command and whose lock has a deadline.

    SenseAct asks whether a command is new and then reads the newest command. A command that is
    written in between would count as read and would never be sent. Here it stays new.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._access_lock = BoundedLock()
        self._seen = True

    def updated(self) -> bool:
        """Return whether there is something new."""
        self._seen = bool(super().updated())
        return self._seen

    def read_update(self, window_len: int = 1) -> Any:
        """Return the newest entries, which are not new any more if `updated` has seen them."""
        return super().read_update(window_len) if self._seen else self.read(window_len)


class Communicator(URCommunicator):
    """The process between the controller and SenseAct's environment.

    Args:
        connection: To the controller's real-time interface.
        stale_after: Largest age of the newest packet (s).
        **options: As SenseAct's communicator takes them.

    Attributes:
        faults: Where the agent's process reads the fault; at its end without one, the process has
            died.
    """

    # SenseAct's buffers are inherited, also where another start method is the default.
    _Popen = staticmethod(ForkProcess._Popen)

    def __init__(self, connection: socket.socket, stale_after: float, **options: Any) -> None:
        connect = vars(URCommunicator)["make_connection"]

        def connected(host: str, port: int, disable_nagle_algorithm: bool) -> socket.socket:
            is_dashboard = port == ur_utils.DASHBOARD_SERVER_PORT
            return socket.socket() if is_dashboard else connection

        URCommunicator.make_connection = staticmethod(connected)
        try:
            super().__init__(**options)
        finally:
            URCommunicator.make_connection = connect
        self.daemon = True
        self.faults, self._report = Pipe(duplex=False)
        self.sensor_buffer: Buffer = _buffer_like(self.sensor_buffer)
        self.actuator_buffer: Buffer = _buffer_like(self.actuator_buffer)
        self._frames = Frames()
        self._time = -np.inf
        self._stale_after, self._looked = stale_after, np.inf

    def start(self) -> None:
        """Start the process and leave the connection to it alone."""
        super().start()
        self._report.close()
        self._sock.close()
        self._dashboard_sock.close()

    def end(self) -> None:
        """End the process, which stops the arm, with or without its consent; again is harmless."""
        self.terminate()
        self.join(END_TIME)
        if self.is_alive():
            self.kill()
            self.join(END_TIME)

    def run(self) -> None:
        """Read packets and send commands until a fault, SIGTERM or the end of the agent."""
        # Ctrl-C and the end of a terminal go to the agent as well, which ends this process.
        for signum in (signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        super().run()

    def _sensor_handler(self) -> None:
        try:
            try:
                data = self._sock.recv(1 << 16)
            finally:
                halted, self._looked = time.monotonic() - self._looked, time.monotonic()
            if halted > _LONGEST_LOOK + self._stale_after:
                self._end(f"this program was halted for {halted:.2g} s")
                return
            if not data:
                self._end("the connection is lost: closed by it")
            for packet in self._frames.feed(data):
                self._take(packet)
        except TimeoutError:
            # The agent's process looks at the age of the packets.
            return
        except OSError as error:
            self._end(f"the connection is lost: {error.strerror or error}")
        except ProtocolError as error:
            self._end(str(error))

    def _take(self, packet: bytes) -> None:
        now = unpack(packet).time
        # The agent's process looks at clocks that go back.
        if now != self._time:
            self._time = now
            layout = ur_utils.REALTIME_COMM_PACKET
            # The clock that no one sets is the same in all processes.
            self.sensor_buffer.write(np.frombuffer(packet, layout, count=1), time.monotonic())
            with self._num_read_lock:
                self._num_reads += 1

    def _actuator_handler(self) -> None:
        try:
            super()._actuator_handler()
        except OSError as error:
            self._end(f"the connection is lost: {error.strerror or error}")

    def _end(self, fault: str) -> None:
        """Report the first fault and end both threads."""
        if not self._stop:
            self._stop_arm()
            # Without an agent there is nobody to be told.
            with contextlib.suppress(BrokenPipeError):
                self._report.send_bytes(fault.encode())
        self._sensor_running = self._actuator_running = False

    def _stop_arm(self) -> None:
        """Stop the arm, if it can be reached; no command follows."""
        self._stop = True
        send_last(self._sock)

    def _close(self, *args: Any) -> None:
        """Stop the arm, end both threads and close the connection: at SIGTERM, or without agent."""
        if not self._stop:
            self._stop_arm()
        super()._close()
        close_after_reading(self._sock)


def _buffer_like(buffer: Any) -> Buffer:
    return Buffer(buffer.array_len, buffer._array_type, buffer.np_array_type, buffer._buffer_len)
