"""RTDE as the emulated controller speaks it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from hesrl.envs.ur5.controller import Controller
from hesrl.envs.ur5.line_server import Client, LineServer, Take
from hesrl.envs.ur5.protocol import PACKET, ProtocolError
from hesrl.envs.ur5.rtde import ANY_SIZE, VERSION, Kind, Packages, Recipe, package

OUTPUTS = {
    "timestamp": ("DOUBLE", "time"),
    "target_q": ("VECTOR6D", "q_target"),
    "target_qd": ("VECTOR6D", "qd_target"),
    "target_qdd": ("VECTOR6D", "qdd_target"),
    "actual_q": ("VECTOR6D", "q_actual"),
    "actual_qd": ("VECTOR6D", "qd_actual"),
    "actual_TCP_pose": ("VECTOR6D", "tool_vector_actual"),
    "target_TCP_pose": ("VECTOR6D", "tool_vector_target"),
    "speed_scaling": ("DOUBLE", "speed_scaling"),
    "robot_mode": ("INT32", "robot_mode"),
    "safety_mode": ("INT32", "safety_mode"),
    "runtime_state": ("UINT32", "runtime_state"),
}
"""Outputs by their names: type, and name in the controller's report. Registers come in addition."""
INPUTS = {
    "speed_slider_mask": "UINT32",
    "speed_slider_fraction": "DOUBLE",
    "standard_digital_output_mask": "UINT8",
    "standard_digital_output": "UINT8",
    "configurable_digital_output_mask": "UINT8",
    "configurable_digital_output": "UINT8",
    "tool_digital_output_mask": "UINT8",
    "tool_digital_output": "UINT8",
    "standard_analog_output_mask": "UINT8",
    "standard_analog_output_type": "UINT8",
    "standard_analog_output_0": "DOUBLE",
    "standard_analog_output_1": "DOUBLE",
}
"""Inputs beside the registers, which other clients want; they have no effect."""
_REGISTERS = {"bit": "BOOL", "int": "INT32", "double": "DOUBLE"}
_CLIENTS_KINDS = (
    Kind.VERSION, Kind.CONTROLLER, Kind.OUTPUTS, Kind.INPUTS, Kind.START, Kind.PAUSE, Kind.DATA,
)  # fmt: skip


class RtdeServer:
    """The port and the sessions of its clients.

    Args:
        server: What serves the port.
        controller: What stands behind it.
        host: Address to listen on.
        port: Port, or 0 for any that is free.

    Attributes:
        port: The port in use.

    Raises:
        UserError: The port is in use.
    """

    def __init__(self, server: LineServer, controller: Controller, host: str, port: int) -> None:
        self._server, self.controller = server, controller
        self._sessions: dict[Client, Session] = {}
        self.port = server.listen_for_bytes(host, port, self._connected)

    def packages(self, report: Mapping[str, Any]) -> list[tuple[Client, bytes]]:
        """Return the data packages of a cycle, each with the client that gets it."""
        clients = self._server.clients(self.port)
        self._sessions = {client: self._sessions[client] for client in clients}
        sessions = self._sessions.items()
        return [(client, data) for client, one in sessions if (data := one.data(report))]

    def is_used(self, name: str, by: Session) -> bool:
        """Return whether another client that is connected writes an input."""
        others = [self._sessions[client] for client in self._server.clients(self.port)]
        return any(name in one.input_names for one in others if one is not by)

    def _connected(self, client: Client) -> Take:
        session = self._sessions[client] = Session(self)

        def take(data: bytes) -> None:
            try:
                for answer in session.take(data):
                    self._server.send(client, answer)
            except (ProtocolError, struct.error, UnicodeDecodeError):
                self._server.drop(client)

        return take


class Session:
    """What a client has asked for.

    Args:
        server: Knows the controller and the other clients.

    Attributes:
        input_names: Inputs that the client writes.
    """

    def __init__(self, server: RtdeServer) -> None:
        self._server = server
        self._packages = Packages(dict.fromkeys(_CLIENTS_KINDS, ANY_SIZE))
        self._outputs: Recipe | None = None
        self._inputs: dict[int, Recipe] = {}
        self._every, self._count, self._started = 1, 0, False

    @property
    def input_names(self) -> set[str]:
        """Inputs that the client writes."""
        return {name for recipe in self._inputs.values() for name in recipe.names}

    def take(self, data: bytes) -> list[bytes]:
        """Return the answers to what a client sends.

        Raises:
            ProtocolError: It is not RTDE.
        """
        answers = []
        for kind, payload in self._packages.feed(data):
            if kind is Kind.DATA:
                self._write(payload)
            else:
                answers.append(package(kind, self._answer(kind, payload)))
        return answers

    def data(self, report: Mapping[str, Any]) -> bytes:
        """Return the data package of a cycle, or nothing where none is due."""
        if not self._started or self._outputs is None:
            return b""
        self._count += 1
        if self._count % self._every:
            return b""
        names, registers = self._outputs.names, report["registers"]
        values = {
            name: report[OUTPUTS[name][1]] if name in OUTPUTS else registers.get(name, 0)
            for name in names
        }
        data = self._outputs.pack(values)
        if (size := report["size"]) != PACKET.itemsize:
            data = struct.pack(">H", size % (1 << 16)) + data[2:]
        return data

    def _write(self, payload: bytes) -> None:
        recipe = self._inputs.get(payload[0]) if payload else None
        if recipe is None:
            raise ProtocolError("a data package without a recipe")
        self._server.controller.inputs.update(recipe.unpack(payload))

    def _answer(self, kind: Kind, payload: bytes) -> bytes:
        match kind:
            case Kind.VERSION:
                return bytes([payload == struct.pack(">H", VERSION)])
            case Kind.CONTROLLER:
                return struct.pack(">4I", *self._server.controller.version)
            case Kind.OUTPUTS:
                (frequency,) = struct.unpack_from(">d", payload)
                rate = 1 / self._server.controller.tick
                self._every = max(1, round(rate / frequency)) if frequency > 0 else 1
                names = _names(payload[8:])
                types = [_output_type(name) for name in names]
                if "NOT_FOUND" not in types:
                    self._outputs = Recipe(1, names, types)
                return bytes([self._outputs is not None]) + ",".join(types).encode()
            case Kind.INPUTS:
                names = _names(payload)
                types = [
                    "IN_USE" if self._server.is_used(name, self) else _input_type(name)
                    for name in names
                ]
                if {"IN_USE", "NOT_FOUND"} & set(types):
                    return b"\0" + ",".join(types).encode()
                number = len(self._inputs) + 1
                self._inputs[number] = Recipe(number, names, types)
                return bytes([number]) + ",".join(types).encode()
            case _:
                self._started = kind is Kind.START
                return b"\1"


def _names(text: bytes) -> list[str]:
    # A comma may follow the last.
    return [name for name in text.decode().split(",") if name]


def _output_type(name: str) -> str:
    return OUTPUTS[name][0] if name in OUTPUTS else _register_type(name, "output")


def _input_type(name: str) -> str:
    return INPUTS[name] if name in INPUTS else _register_type(name, "input")


def _register_type(name: str, way: str) -> str:
    """Return the type of a register such as ``output_int_register_24``, or ``NOT_FOUND``."""
    match name.split("_"):
        case [first, kind, "register", number] if first == way and number.isdecimal():
            most = 128 if kind == "bit" else 48
            return _REGISTERS.get(kind, "NOT_FOUND") if int(number) < most else "NOT_FOUND"
    return "NOT_FOUND"
