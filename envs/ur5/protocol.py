"""The packets of a UR controller's real-time interface: layout, packing and framing.

The controller sends a packet on TCP port 30003 in every cycle, 125 times per second. All numbers
are big-endian. The first number is the packet's size in bytes. Software newer than 3.4 appends
fields, so that all versions share only a prefix (Universal Robots, client interface manual).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hesrl.errors import EnvironmentFault

REALTIME_PORT = 30003
"""TCP port of the real-time interface."""
SCRIPT_PORT = 30002
"""TCP port of the secondary interface, which takes programs."""
CYCLE = 0.008
"""Time between two packets (s)."""

PACKET = np.dtype(
    [
        ("size", ">i4"),
        ("time", ">f8"),
        ("q_target", ">f8", 6),
        ("qd_target", ">f8", 6),
        ("qdd_target", ">f8", 6),
        ("i_target", ">f8", 6),
        ("m_target", ">f8", 6),
        ("q_actual", ">f8", 6),
        ("qd_actual", ">f8", 6),
        ("i_actual", ">f8", 6),
        ("i_control", ">f8", 6),
        ("tool_vector_actual", ">f8", 6),
        ("tcp_speed", ">f8", 6),
        ("tcp_force", ">f8", 6),
        ("tool_vector_target", ">f8", 6),
        ("tcp_speed_target", ">f8", 6),
        ("digital_in", ">f8"),
        ("motor_temperatures", ">f8", 6),
        ("controller_timer", ">f8"),
        ("test_value", ">f8"),
        ("robot_mode", ">f8"),
        ("joint_modes", ">f8", 6),
        ("safety_mode", ">f8"),
        ("reserved_820", ">f8", 6),
        ("tool_acceleration", ">f8", 3),
        ("reserved_892", ">f8", 6),
        ("speed_scaling", ">f8"),
        ("momentum", ">f8"),
        ("reserved_956", ">f8", 2),
        ("v_main", ">f8"),
        ("v_robot", ">f8"),
        ("i_robot", ">f8"),
        ("v_actual", ">f8", 6),
        ("digital_out", ">f8"),
        ("program_state", ">f8"),
    ]
)
"""The packet of software 3.2 to 3.4: 1060 bytes, with which every newer packet begins."""

SIZES = range(PACKET.itemsize, 4097)
"""Sizes that a packet can have: 1060 bytes, 1108 since software 3.5, up to 1220 of 5.10."""

RUNNING = 7
"""The robot mode in which the arm obeys."""
NORMAL, REDUCED, PROTECTIVE_STOP = 1, 2, 3
SAFETY_MODES = {
    NORMAL: "normal",
    REDUCED: "reduced",
    PROTECTIVE_STOP: "protective stop",
    4: "recovery",
    5: "safeguard stop",
    6: "system emergency stop",
    7: "robot emergency stop",
    8: "violation",
    9: "fault",
}
"""Names of the safety modes; the arm moves in the first two only."""


class ProtocolError(EnvironmentFault):
    """The data that came are not from the real-time interface of a UR controller."""


class State(NamedTuple):
    """What hesrl uses of a packet."""

    time: float
    """Time since the controller was started (s)."""
    q_target: NDArray[np.float64]
    """Joint angles that the controller asks of the motors (6,), rad."""
    qd_target: NDArray[np.float64]
    """Their speeds (6,), rad/s."""
    q_actual: NDArray[np.float64]
    """Joint angles (6,), rad."""
    qd_actual: NDArray[np.float64]
    """Their speeds (6,), rad/s."""
    tool_vector_actual: NDArray[np.float64]
    """Position of the tool (m) and its rotation vector (rad) in the base frame, (6,)."""
    speed_scaling: float
    """Part of the speed that the pendant allows."""
    robot_mode: int
    """`RUNNING` when the arm obeys."""
    safety_mode: int
    """A key of `SAFETY_MODES`."""

    @property
    def stop(self) -> str | None:
        """Why the arm does not obey, such as ``"protective stop"``, or None if it does."""
        if self.safety_mode not in (NORMAL, REDUCED):
            return SAFETY_MODES.get(self.safety_mode, f"safety mode {self.safety_mode}")
        return None if self.robot_mode == RUNNING else f"robot mode {self.robot_mode}, not running"


def pack(size: int = PACKET.itemsize, **fields: object) -> bytes:
    """Return a packet.

    Args:
        size: Its size in bytes; what exceeds the layout is zero.
        **fields: Fields of `PACKET`; all other fields are zero.

    Raises:
        ValueError: The size is smaller than the layout.
    """
    if size < PACKET.itemsize:
        raise ValueError(f"size {size}: a packet has at least {PACKET.itemsize} bytes")
    packet = np.zeros((), PACKET)
    packet["size"] = size
    for name, value in fields.items():
        packet[name] = value
    return packet.tobytes().ljust(size, b"\0")


def unpack(packet: bytes) -> State:
    """Return what a packet says.

    Args:
        packet: All of its bytes, or more than `PACKET` has.

    Raises:
        ProtocolError: A number is not finite, or a mode is not a small whole number.
    """
    fields = np.frombuffer(packet, PACKET, count=1)[0]
    return checked_state(fields[name] for name in State._fields)


def checked_state(values: Iterable[Any]) -> State:
    """Return what a packet says, from the values of `State` in their order.

    Raises:
        ProtocolError: A number is not finite, or a mode is not a small whole number.
    """
    named = dict(zip(State._fields, values, strict=True))
    for name in ("robot_mode", "safety_mode"):
        mode = float(named[name])
        if not (mode.is_integer() and -1 <= mode <= 255):
            raise ProtocolError(
                f"the {name} of a packet is {mode:g}, which is none: no UR controller?"
            )
        named[name] = int(mode)
    for name in State._fields[:7]:
        numbers = np.array(named[name], dtype=np.float64)
        if not np.isfinite(numbers).all():
            raise ProtocolError(f"{name} of a packet is {numbers.tolist()}: not finite")
        named[name] = numbers if numbers.ndim else float(numbers)
    return State(**named)


class Frames:
    """Cuts a stream of bytes into packets, in whatever pieces it arrives."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the packets that are complete with ``data``, oldest first.

        Raises:
            ProtocolError: A packet begins with a size that is not in `SIZES`.
        """
        self._buffer += data
        packets = []
        while len(self._buffer) >= 4:
            size = int.from_bytes(self._buffer[:4], "big", signed=True)
            if size not in SIZES:
                raise ProtocolError(
                    f"a packet of {size} bytes (first bytes {bytes(self._buffer[:8])!r}); those "
                    f"of the real-time interface (port {REALTIME_PORT}) have {SIZES[0]} to "
                    f"{SIZES[-1]}"
                )
            if len(self._buffer) < size:
                break
            packets.append(bytes(self._buffer[:size]))
            del self._buffer[:size]
        return packets
