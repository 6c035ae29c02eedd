"""What hesrl and a controller agree on when a connection over RTDE begins."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from hesrl.envs.ur5.protocol import ProtocolError
from hesrl.envs.ur5.rtde import ANY_SIZE, VERSION, Kind, Packages, Recipe, package
from hesrl.envs.ur5.rtde_program import ECHO, INPUTS, RUNNING

OUTPUTS = (
    "timestamp", "target_q", "target_qd", "actual_q", "actual_qd", "actual_TCP_pose",
    "speed_scaling", "robot_mode", "safety_mode",
)  # fmt: skip
"""What a packet has, in the order of `State`; `ECHO` and `RUNNING` follow."""
OLDEST = (3, 9), (5, 3)
"""Oldest software, of CB3 and e-Series, that has all the registers."""


class Session(NamedTuple):
    """What has been agreed on with a controller."""

    version: tuple[int, int, int, int]
    """Major, minor, bugfix and build number of its software."""
    outputs: Recipe
    """Of what it sends."""
    inputs: Recipe
    """Of what it takes."""

    @property
    def frequency(self) -> float:
        """Packets per second."""
        return frequency_of(self.version)


def frequency_of(version: tuple[int, ...]) -> float:
    """Return the packets per second of a controller with a version: 500 of an e-Series."""
    return 500.0 if version[0] >= 5 else 125.0


def agree(connection: socket.socket) -> Session:
    """Agree with a controller on what is sent either way, and let it begin to send.

    Raises:
        OSError: The connection is lost, or there is no answer in time.
        ProtocolError: It does not speak RTDE, is too old, or the registers are taken.
    """
    ask = _Questions(connection)
    if ask(Kind.VERSION, struct.pack(">H", VERSION)) != b"\1":
        raise ProtocolError(f"it does not speak version {VERSION} of RTDE")
    major, minor, bugfix, build = struct.unpack(">4I", ask(Kind.CONTROLLER))
    if (major, minor) < OLDEST[major >= 5]:
        raise ProtocolError(
            f"its software is {major}.{minor}; registers need 3.9 (CB3) or 5.3 (e-Series)"
        )
    frequency = struct.pack(">d", frequency_of((major, minor)))
    names = (*OUTPUTS, ECHO, RUNNING)
    outputs = _recipe(ask(Kind.OUTPUTS, frequency + ",".join(names).encode()), names)
    inputs = _recipe(ask(Kind.INPUTS, ",".join(INPUTS).encode()), INPUTS)
    if ask(Kind.START) != b"\1":
        raise ProtocolError("it does not start to send")
    return Session((major, minor, bugfix, build), outputs, inputs)


def _recipe(answer: bytes, names: tuple[str, ...]) -> Recipe:
    types = answer[1:].decode("ascii", errors="replace").split(",")
    for name, kind in zip(names, types, strict=False):
        if kind == "IN_USE":
            raise ProtocolError(f"{name} is in use by another client or a field bus")
        if kind == "NOT_FOUND":
            raise ProtocolError(f"it has no {name}")
    return Recipe(answer[0], names, types)


class _Questions:
    """Asks a controller and waits for the answer."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._packages = Packages(dict.fromkeys(Kind, ANY_SIZE))

    def __call__(self, kind: Kind, payload: bytes = b"") -> bytes:
        self._connection.sendall(package(kind, payload))
        # No byte beyond the answer is taken: after the last answer it begins to send.
        while data := self._connection.recv(self._packages.lacking):
            for answered, answer in self._packages.feed(data):
                if answered is kind:
                    return answer
        raise ProtocolError("the connection is lost: closed by it")
