"""An emulated UR controller: a controller's ports, packets and commands, and a simulated arm.

It serves the real-time interface and RTDE at 125 or 500 Hz, the secondary interface, as far as it
takes commands and programs, and the dashboard. It knows protective and emergency stops. Its control
port takes one fault per line:

    protective_stop        emergency_stop        safety_mode 1        drop
    silent on              fragment 700          delay 0.3            clear            state
    put_back

`hesrl.envs.ur5.emulated_faults` lists the faults. ``clear`` ends all faults, ``put_back``
puts the arm where it began, ``state`` is answered with the arm's state as JSON, and ``commands``
with the last commands, each with the time at which it came.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from numpy.typing import ArrayLike

from hesrl.envs.ur5.arm import TICK
from hesrl.envs.ur5.controller import E_SERIES_TICK, Controller
from hesrl.envs.ur5.dashboard import DASHBOARD_PORT
from hesrl.envs.ur5.emulated_faults import set_fault
from hesrl.envs.ur5.emulated_program import ProgramText
from hesrl.envs.ur5.line_server import Client, LineServer, Take
from hesrl.envs.ur5.protocol import PROTECTIVE_STOP, REALTIME_PORT, SAFETY_MODES, SCRIPT_PORT
from hesrl.envs.ur5.rtde import RTDE_PORT
from hesrl.envs.ur5.rtde_server import RtdeServer
from hesrl.errors import UserError

_CATCH_UP = 0.1
"""A delay beyond this is not made up for (s)."""
_GREETING = "Connected: Universal Robots Dashboard Server"


class Emulator:
    """The controller with its ports.

    Args:
        q: Joint angles in the beginning (6,), rad.
        host: Address to listen on.
        port: Port of the real-time interface; 0 for any that is free, as with the others.
        rtde_port: Port of RTDE.
        script_port: Port of the secondary interface.
        dashboard_port: Port of the dashboard.
        control_port: Port that takes faults; None for no such port.
        speed: How many times faster than real time the controller's clock runs.
        e_series: Whether it is an e-Series controller, with 500 cycles per second and a UR5e, or a
            CB3 with a UR5.
        log: Called with a line for each event.

    Attributes:
        port: The real-time interface's port in use; ``rtde_port``, ``script_port``,
            ``dashboard_port`` and ``control_port`` likewise.
        controller: What stands behind the ports.
        refused: How many lines were no commands.
        speed: How many times faster than real time its clock runs.

    Raises:
        UserError: A port is in use, or the speed is not above 0.
    """

    def __init__(
        self,
        q: ArrayLike,
        *,
        host: str = "127.0.0.1",
        port: int = REALTIME_PORT,
        rtde_port: int = RTDE_PORT,
        script_port: int = SCRIPT_PORT,
        dashboard_port: int = DASHBOARD_PORT,
        control_port: int | None = None,
        speed: float = 1.0,
        e_series: bool = False,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        if not 0 < speed < math.inf:
            raise UserError(f"--speed {speed}: must be above 0")
        self.controller = Controller(q, E_SERIES_TICK if e_series else TICK, log)
        self.refused, self.speed = 0, speed
        self._period, self._log = self.controller.tick / speed, log
        self._outbox: deque[tuple[float, bytes, dict[str, Any]]] = deque()
        self._end = threading.Event()
        self._server = LineServer()
        try:
            listen, listen_for_bytes = self._server.listen, self._server.listen_for_bytes
            self.port = listen_for_bytes(host, port, self._takes_script)
            self._rtde = RtdeServer(self._server, self.controller, host, rtde_port)
            self.rtde_port = self._rtde.port
            self.script_port = listen_for_bytes(host, script_port, self._takes_script)
            self.dashboard_port = listen(host, dashboard_port, self.controller.dashboard, _GREETING)
            self.control_port = (
                None if control_port is None else listen(host, control_port, self._answer_control)
            )
        except UserError:
            self._server.close()
            raise

    def run(self) -> None:
        """Serve until an exception, such as Ctrl-C, or until ``_end`` is set."""
        due = time.monotonic()
        while not self._end.is_set():
            due += self._period
            is_due = False
            while not is_due:
                # Also where a cycle is late, lines are read before it.
                ready = self._server.wait(max(0.0, due - time.monotonic()))
                is_due = time.monotonic() >= due
                self._server.serve(ready)
            self._cycle()
            due = max(due, time.monotonic() - _CATCH_UP)

    def state(self) -> dict[str, Any]:
        """Return what ``state`` answers: the arm, its mode, its extremes and the faults."""
        controller, arm = self.controller, self.controller.arm
        return {
            "time": arm.time,
            "q_actual": arm.q_actual.tolist(),
            "qd_actual": arm.qd_actual.tolist(),
            "is_moving": arm.is_moving,
            "safety_mode": controller.safety_mode,
            "max_speed": controller.max_speed,
            "max_acceleration": controller.max_acceleration,
            "last_command": controller.commands[-1][1] if controller.commands else None,
            "refused": self.refused,
            "inputs": dict(controller.inputs),
            "connections": len(self._linked()),
            "faults": asdict(controller.faults),
        }

    def close(self) -> None:
        """Stop serving and close all ports; again is harmless."""
        if not self._end.is_set():
            self._end.set()
            self._server.close()

    def _linked(self) -> list[Client]:
        """Return the connections over which the state is told."""
        return self._server.clients(self.port) + self._server.clients(self.rtde_port)

    def _cycle(self) -> None:
        """Let a cycle pass, and send its packets when they are due."""
        packet, faults, now = self.controller.cycle(), self.controller.faults, time.monotonic()
        if not faults.silent:
            self._outbox.append((now + faults.delay, packet, self.controller.report))
        while self._outbox and self._outbox[0][0] <= now:
            _, packet, report = self._outbox.popleft()
            to_all = [(client, packet) for client in self._server.clients(self.port)]
            for client, data in to_all + self._rtde.packages(report):
                for piece in self._pieces(client, data):
                    self._server.send(client, piece)
        if faults.refuses:
            for client in self._linked():
                self._server.drop(client)

    def _pieces(self, client: Client, packet: bytes) -> list[bytes]:
        """Cut the stream into pieces; what is left of the last one waits for the next cycle."""
        data = client.held_back + packet
        length = self.controller.faults.fragment or len(data)
        whole = len(data) // length * length
        client.held_back = data[whole:]
        return [data[i : i + length] for i in range(0, whole, length)]

    def _takes_script(self, client: Client) -> Take:
        text = ProgramText()

        def answer(line: str) -> None:
            if (complete := text.take(line)) is not None:
                self._obey(complete)

        return self._server.lines(client, answer)

    def _obey(self, text: str) -> None:
        try:
            self.controller.obey(text)
        except ValueError as error:
            self.refused += 1
            self._log(f"refused {text!r}: {error}")

    def _answer_control(self, line: str) -> str:
        try:
            return self._control(line)
        except UserError as error:
            return f"error: {error}"

    def _control(self, line: str) -> str:
        name, _, value = line.strip().partition(" ")
        if name == "state":
            return json.dumps(self.state())
        if name == "commands":
            return json.dumps(list(self.controller.commands))
        if name == "drop":
            for client in self._linked():
                self._server.drop(client)
        elif name == "clear":
            self.controller.clear()
            self._outbox.clear()
        elif name == "put_back":
            self.controller.put_back()
        elif name == "protective_stop":
            self.controller.enter(PROTECTIVE_STOP)
        elif name == "emergency_stop":
            self.controller.enter(7)
        elif name == "safety_mode":
            if not value.isdecimal() or int(value) not in SAFETY_MODES:
                raise UserError(f"safety_mode {value!r}: must be 1 to 9")
            self.controller.enter(int(value))
        else:
            set_fault(self.controller.faults, name, value)
        self._log(line)
        return "ok"
