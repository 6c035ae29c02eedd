"""RTDE, the Real-Time Data Exchange of UR controllers: its packages and its recipes.

Both sides send packages on TCP port 30004. A client asks for outputs and inputs by name. The answer
is a recipe: its number and the types of the values, in whose order data packages hold the values.
All numbers are big-endian. This is version 2 of the protocol (Universal Robots, RTDE guide), which
CB3 controllers speak since software 3.5 and e-Series controllers always.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any

from hesrl.envs.ur5.protocol import ProtocolError

RTDE_PORT = 30004
"""TCP port of RTDE."""
VERSION = 2
"""Version of the protocol."""


class Kind(IntEnum):
    """What a package is; answers have the kind of their question."""

    VERSION = ord("V")
    """Asks for a version of the protocol."""
    CONTROLLER = ord("v")
    """Asks for the version of the controller's software."""
    TEXT = ord("M")
    """A message of the controller."""
    DATA = ord("U")
    """Values of outputs or inputs."""
    OUTPUTS = ord("O")
    """Asks for outputs."""
    INPUTS = ord("I")
    """Asks for inputs."""
    START = ord("S")
    """Asks for data packages."""
    PAUSE = ord("P")
    """Asks for no more of them."""


TYPES = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT32": "I",
    "UINT64": "Q",
    "INT32": "i",
    "DOUBLE": "d",
    "VECTOR3D": "3d",
    "VECTOR6D": "6d",
    "VECTOR6INT32": "6i",
    "VECTOR6UINT32": "6I",
}
"""Types of values by their name, as `struct` has them."""
ANY_SIZE = range(3, 1 << 16)
"""Sizes of a package (bytes)."""
_HEADER = struct.Struct(">HB")


def package(kind: Kind, payload: bytes = b"") -> bytes:
    """Return a package with what it has to hold."""
    return _HEADER.pack(_HEADER.size + len(payload), kind) + payload


class Recipe:
    """The order and the types of the values of a data package.

    Args:
        number: The recipe's number, 1 to 255.
        names: Names of the values.
        types: Their types, keys of `TYPES`.
    """

    def __init__(self, number: int, names: Iterable[str], types: Iterable[str]) -> None:
        self.number, self.names = number, tuple(names)
        formats = [TYPES[name] for name in types]
        self._counts = [int(code[:-1] or 1) for code in formats]
        self._values = struct.Struct(">B" + "".join(formats))

    @property
    def size(self) -> int:
        """Size of its data package (bytes)."""
        return _HEADER.size + self._values.size

    def pack(self, values: Mapping[str, Any]) -> bytes:
        """Return a data package with the values by their names; a vector is a sequence."""
        numbers: list[Any] = []
        for name, count in zip(self.names, self._counts, strict=True):
            numbers.extend([values[name]] if count == 1 else values[name])
        return package(Kind.DATA, self._values.pack(self.number, *numbers))

    def unpack(self, payload: bytes) -> dict[str, Any]:
        """Return the values of a data package by their names; a vector is a tuple.

        Raises:
            ProtocolError: The package is of another recipe.
        """
        if len(payload) != self._values.size or payload[0] != self.number:
            raise ProtocolError(f"a data package of another recipe: {payload[:8]!r}")
        numbers, values, place = self._values.unpack(payload), {}, 1
        for name, count in zip(self.names, self._counts, strict=True):
            values[name] = numbers[place] if count == 1 else numbers[place : place + count]
            place += count
        return values


class Packages:
    """Cuts a stream of bytes into packages, in whatever pieces it arrives.

    Args:
        sizes: Sizes that a package of each kind may have (bytes); there are no other kinds.
    """

    def __init__(self, sizes: Mapping[Kind, range]) -> None:
        self.sizes = sizes
        self._buffer = bytearray()

    @property
    def lacking(self) -> int:
        """Bytes that the package to come lacks, as far as its size is known."""
        has_size = len(self._buffer) >= _HEADER.size
        size = _HEADER.unpack_from(self._buffer)[0] if has_size else _HEADER.size
        return int(size) - len(self._buffer)

    def feed(self, data: bytes) -> list[tuple[Kind, bytes]]:
        """Return the packages that are complete with ``data``, oldest first, and what they hold.

        Raises:
            ProtocolError: A package has an unknown kind, or a size that its kind cannot have.
        """
        self._buffer += data
        packages = []
        while len(self._buffer) >= _HEADER.size:
            size, kind = _HEADER.unpack_from(self._buffer)
            if kind not in self.sizes or size not in self.sizes[Kind(kind)]:
                raise ProtocolError(
                    f"a packet of {size} bytes (first bytes {bytes(self._buffer[:8])!r}), which is "
                    f"none of RTDE (port {RTDE_PORT})"
                )
            if len(self._buffer) < size:
                break
            packages.append((Kind(kind), bytes(self._buffer[_HEADER.size : size])))
            del self._buffer[:size]
        return packages
