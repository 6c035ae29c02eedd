"""What goes over a connection to a controller: packets that come, and commands that go."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable

from hesrl.envs.ur5 import urscript
from hesrl.envs.ur5.link import STOP_ACCELERATION, close_after_reading, connect, send_last
from hesrl.envs.ur5.protocol import Frames, State, unpack


class Wire(ABC):
    """A connection. Every command raises `OSError` when it cannot be sent.

    Args:
        connection: Where packets come from.
        t_min: How long speeds hold after they were sent (s).

    Attributes:
        connection: Where packets come from.
        t_min: How long speeds hold after they were sent (s).
    """

    def __init__(self, connection: socket.socket, t_min: float) -> None:
        self.connection, self.t_min = connection, t_min

    @property
    @abstractmethod
    def is_ready(self) -> bool:
        """Whether what obeys commands runs on the controller."""

    @abstractmethod
    def feed(self, data: bytes) -> list[bytes]:
        """Return the packets that are complete with ``data``, oldest first.

        Raises:
            ProtocolError: These are no packets.
        """

    @abstractmethod
    def unpack(self, packet: bytes) -> State:
        """Return what the newest packet says.

        Raises:
            ProtocolError: It says what cannot be.
            PersonNeeded: Somebody else uses the controller.
        """

    @abstractmethod
    def speedj(self, qd: tuple[float, ...], a: float) -> None:
        """Turn the joints at speeds (6,), rad/s, reached with ``a`` (rad/s²).

        Raises:
            ValueError: A number is not finite, or there are not six; nothing is sent.
        """

    @abstractmethod
    def movej(self, q: tuple[float, ...], a: float, v: float, t: float) -> None:
        """Move the joints to angles (6,), rad, in ``t`` seconds."""

    @abstractmethod
    def stopj(self, a: float) -> None:
        """Bring the arm to rest, with the deceleration ``a`` (rad/s²)."""

    @abstractmethod
    def alive(self) -> None:
        """Say that this program lives, where no speeds answer a packet; if that is of use."""

    @abstractmethod
    def end(self) -> None:
        """Stop the arm, if it can be reached, and close the connection."""


class RealTimeWire(Wire):
    """The real-time interface: packets, and lines of URScript over the same connection.

    Args:
        host: Address of the controller.
        port: TCP port.
        timeout: Longest time that connecting may take (s).
        t_min: How long speeds hold (s).
        lost: Not needed here: without a new command no speed holds longer.

    Raises:
        EnvironmentFault: The controller cannot be reached.
    """

    def __init__(self, host: str, port: int, timeout: float, t_min: float, lost: float) -> None:
        super().__init__(connect(host, port, timeout), t_min)
        self._frames = Frames()

    @property
    def is_ready(self) -> bool:
        """Always: the controller obeys lines."""
        return True

    def feed(self, data: bytes) -> list[bytes]:
        """Do what `Wire.feed` says."""
        return self._frames.feed(data)

    def unpack(self, packet: bytes) -> State:
        """Do what `Wire.unpack` says."""
        return unpack(packet)

    def speedj(self, qd: tuple[float, ...], a: float) -> None:
        """Do what `Wire.speedj` says."""
        self.connection.sendall(urscript.speedj(qd, a, self.t_min))

    def movej(self, q: tuple[float, ...], a: float, v: float, t: float) -> None:
        """Do what `Wire.movej` says."""
        self.connection.sendall(urscript.movej(q, a, v, t))

    def stopj(self, a: float) -> None:
        """Do what `Wire.stopj` says."""
        self.connection.sendall(urscript.stopj(a))

    def alive(self) -> None:
        """Do what `Wire.alive` says: nothing, since no command needs it."""

    def end(self) -> None:
        """Do what `Wire.end` says."""
        send_last(self.connection, urscript.stopj(STOP_ACCELERATION))
        close_after_reading(self.connection)


OpenWire = Callable[[str, int, float, float, float], Wire]
"""Connects; takes the arguments of `RealTimeWire`."""
