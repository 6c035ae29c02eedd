"""An emulated UR controller: a controller's ports, packets and commands, and a simulated arm.

It serves the real-time interface at 125 Hz and the dashboard, and knows protective and emergency
stops. Its control port takes one fault per line:

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

from hesrl.envs.ur5.controller import Controller
from hesrl.envs.ur5.dashboard import DASHBOARD_PORT
from hesrl.envs.ur5.emulated_faults import set_fault
from hesrl.envs.ur5.line_server import Client, LineServer
from hesrl.envs.ur5.protocol import CYCLE, PROTECTIVE_STOP, REALTIME_PORT, SAFETY_MODES
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
        dashboard_port: Port of the dashboard.
        control_port: Port that takes faults; None for no such port.
        speed: How many times faster than real time the controller's clock runs.
        log: Called with a line for each event.

    Attributes:
        port: The real-time interface's port in use; ``dashboard_port`` and ``control_port``
            likewise.
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
        dashboard_port: int = DASHBOARD_PORT,
        control_port: int | None = None,
        speed: float = 1.0,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        if not 0 < speed < math.inf:
            raise UserError(f"--speed {speed}: must be above 0")
        self.controller = Controller(q)
        self.refused, self.speed = 0, speed
        self._period, self._log = CYCLE / speed, log
        self._outbox: deque[tuple[float, bytes]] = deque()
        self._end = threading.Event()
        self._server = LineServer()
        try:
            listen = self._server.listen
            self.port = listen(host, port, self._obey)
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
            "connections": len(self._server.clients(self.port)),
            "faults": asdict(controller.faults),
        }

    def close(self) -> None:
        """Stop serving and close all ports; again is harmless."""
        if not self._end.is_set():
            self._end.set()
            self._server.close()

    def _cycle(self) -> None:
        """Let a cycle pass, and send its packet when it is due."""
        packet, faults, now = self.controller.cycle(), self.controller.faults, time.monotonic()
        if not faults.silent:
            self._outbox.append((now + faults.delay, packet))
        clients = self._server.clients(self.port)
        while self._outbox and self._outbox[0][0] <= now:
            packet = self._outbox.popleft()[1]
            for client in clients:
                for piece in self._pieces(client, packet):
                    self._server.send(client, piece)
        if faults.refuses:
            for client in clients:
                self._server.drop(client)

    def _pieces(self, client: Client, packet: bytes) -> list[bytes]:
        """Cut the stream into pieces; what is left of the last one waits for the next cycle."""
        data = client.held_back + packet
        length = self.controller.faults.fragment or len(data)
        whole = len(data) // length * length
        client.held_back = data[whole:]
        return [data[i : i + length] for i in range(0, whole, length)]

    def _obey(self, line: str) -> None:
        try:
            self.controller.obey(line)
        except ValueError as error:
            self.refused += 1
            self._log(f"refused {line!r}: {error}")

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
            for client in self._server.clients(self.port):
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
