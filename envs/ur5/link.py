"""A link to a UR controller: what the driver and SenseAct's link have in common."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NoReturn

from hesrl.envs.ur5 import urscript
from hesrl.envs.ur5.bounds import check
from hesrl.envs.ur5.kinematics import UR5, ArmModel, other_place
from hesrl.envs.ur5.obedience import Watch
from hesrl.envs.ur5.protocol import State
from hesrl.errors import EnvironmentFault

FIRST_PACKET = 2.0
"""Longest time that connecting may take, and the first packet after it (s)."""
STOP_ACCELERATION = 3.0
"""Deceleration of the stop that ends a link (rad/s²)."""
_FIRST_PACKETS = (0.3, 1.0)
"""When the speed of the controller's clock is measured: once more if it seems wrong (s)."""
_LAST_WORDS = 0.1
"""Longest time that the controller gets for reading the last line (s)."""


class PersonNeeded(EnvironmentFault):
    """The controller or the arm does what it should not: another connection mends nothing."""


def address(host: str, port: int) -> str:
    """Return how errors name a controller."""
    return f"UR controller at {host}:{port}"


def connect(host: str, port: int, timeout: float = FIRST_PACKET) -> socket.socket:
    """Return a connection to a controller.

    Args:
        host: Address of the controller.
        port: TCP port.
        timeout: Longest time to wait (s).

    Raises:
        EnvironmentFault: The controller cannot be reached.
        UserError: There can be no such port.
    """
    check("port", port)
    try:
        connection = socket.create_connection((host, port), timeout)
    except (OSError, ValueError) as error:
        # A ValueError is of a text that no address can be.
        cause = getattr(error, "strerror", None) or error
        raise EnvironmentFault(
            f"{address(host, port)} cannot be reached: {cause}; is it on, and is the address right?"
        ) from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def send_last(connection: socket.socket, data: bytes = urscript.stopj(STOP_ACCELERATION)) -> None:
    """Send what ends a link, a stop, if the controller can be reached, as the last data."""
    # What cannot be sent is why the connection closes, or the arm has stopped without it.
    with contextlib.suppress(OSError):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)


def close_after_reading(connection: socket.socket) -> None:
    """Close a connection whose sending side is shut, once the controller has read all of it.

    Closed earlier, the connection would be reset and the last data lost.
    """
    end = time.monotonic() + _LAST_WORDS
    with contextlib.suppress(OSError):
        while time.monotonic() < end and connection.recv(1 << 16):
            pass
    connection.close()


class Link(ABC):
    """A connection to the controller. Every way to lose the connection stops the arm.

    Args:
        host: Address of the controller.
        port: TCP port of its real-time interface.
        stale_after: Largest age of the newest packet (s).
        watch: Looks at what the controller does.

    Attributes:
        watch: Looks at what the controller does: whoever sends a command tells it.
        where: Name of the controller, for messages.
        host: Its address.
        stale_after: Largest age of the newest packet (s).
    """

    def __init__(
        self, host: str, port: int, stale_after: float, watch: Watch, model: ArmModel = UR5
    ) -> None:
        self.watch, self._model = watch, model
        self.where, self.host = address(host, port), host
        self.stale_after = stale_after
        self._fault: str | None = None
        self._needs_person = False
        self._state: State | None = None
        self._packets = 0
        self._arrival = math.inf

    @property
    def fault(self) -> str | None:
        """What broke the connection, in one line, or None while it is fine."""
        return self._fault

    @property
    def is_broken(self) -> bool:
        """Whether the connection is lost, and another connection may do."""
        return self._fault is not None and not self._needs_person

    @property
    def state(self) -> State:
        """What the newest packet says; after a fault, the newest packet before the fault."""
        assert self._state is not None
        return self._state

    @property
    def packets(self) -> int:
        """How many packets have come, as of `state`."""
        return self._packets

    @property
    def arrival(self) -> float:
        """When the packet of `state` came, on the clock of `time.monotonic` (s)."""
        return self._arrival

    @abstractmethod
    def movej(self, q: tuple[float, ...], a: float, v: float, t: float) -> None:
        """Move the joints to angles ``q`` (6,), rad, in ``t`` seconds.

        Raises:
            EnvironmentFault: The connection is broken.
        """

    @abstractmethod
    def stop(self, a: float = STOP_ACCELERATION) -> None:
        """Bring the arm to rest, with the deceleration ``a`` (rad/s²).

        Raises:
            EnvironmentFault: The connection is broken.
        """

    def wait(self, condition: Callable[[State], bool], timeout: float, what: str) -> State:
        """Return the first packet that meets a condition; the newest is looked at first.

        Args:
            condition: Whether a packet meets it.
            timeout: Longest time to wait (s).
            what: Name of the condition, for the error.

        Raises:
            EnvironmentFault: The time is over, or the connection is broken.
        """
        deadline = time.monotonic() + timeout
        with self._looking():
            while True:
                # First, as who waits may run again only after the packet that broke the connection.
                self._check()
                if self._state is not None and condition(self._state):
                    return self._state
                if (left := deadline - time.monotonic()) <= 0:
                    # Who waits may be the first to run again after a halt of this program.
                    if (age := time.monotonic() - self._arrival) > self.stale_after:
                        self._fail(f"no new packet for {age:.2g} s")
                        self._check()
                    raise EnvironmentFault(f"{self.where}: waited {timeout:.3g} s for {what}")
                self._pause(left)

    def refuse(self, what: str) -> NoReturn:
        """Stop the arm, close the connection and say what a person has to look at.

        Raises:
            PersonNeeded: Always.
        """
        self._fail(what, needs_person=True)
        raise PersonNeeded(f"{self.where}: {what}")

    def close(self) -> None:
        """Stop the arm and close the connection; again is harmless."""
        self._fail("the connection has been closed")

    def _wait_for_first_packet(self, timeout: float) -> None:
        try:
            self.wait(lambda state: True, timeout, "the first packet")
            begin = self.arrival
            # A busy machine may deliver the first ones late.
            for seconds in _FIRST_PACKETS:
                enough = begin + seconds
                state = self.wait(lambda _: self.arrival >= enough, timeout, "more packets")  # noqa: B023
                if (what := self.watch.clock_fault(state, self.arrival)) is None:
                    break
            place = state.tool_vector_actual[:3]
            what = what or other_place(state.q_actual, place, self._model)
            if what is not None:
                self.refuse(what)
        except EnvironmentFault:
            self.close()
            raise

    def _check(self) -> None:
        """Raise the fault, if there is one."""
        if self._fault is not None:
            raise (PersonNeeded if self._needs_person else EnvironmentFault)(self._fault)

    def _fail(self, what: str, *, needs_person: bool = False) -> None:
        """Note the first fault, stop the arm and close the connection."""
        if self._fault is None:
            self._fault, self._needs_person = f"{self.where}: {what}", needs_person
        self._stop_and_close()

    @abstractmethod
    def _looking(self) -> AbstractContextManager[object]:
        """Take over the newest packet; within the context only a wait takes over another."""

    @abstractmethod
    def _pause(self, seconds: float) -> None:
        """Wait for another packet, at most so long (s); it may return earlier."""

    @abstractmethod
    def _stop_and_close(self) -> None:
        """Stop the arm, if it can be reached, and close the connection; again is harmless."""
