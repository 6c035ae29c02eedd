"""The link to the controller through SenseAct, and its supervision.

SenseAct sends the speeds of an action again with every packet, for twice the time of an action.

Importing this needs SenseAct; `hesrl.envs.ur5.senseact` does it.
"""

from __future__ import annotations

import math
import socket
import time
import warnings
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

import numpy as np
from senseact.devices.ur import ur_utils

from hesrl.envs.ur5.guards import RETURN_SPEED
from hesrl.envs.ur5.kinematics import Pair
from hesrl.envs.ur5.link import FIRST_PACKET, STOP_ACCELERATION, Link, connect
from hesrl.envs.ur5.obedience import Watch
from hesrl.envs.ur5.protocol import State, unpack
from hesrl.envs.ur5.pulse import Pulse
from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.envs.ur5.senseact import gymnasium_as_gym
from hesrl.envs.ur5.senseact_communicator import END_TIME, Communicator
from hesrl.envs.ur5.senseact_reacher import Reacher
from hesrl.errors import EnvironmentFault

_POLL = 0.0005
"""Time between two looks for a new packet (s)."""


class SenseActLink(Link):
    """A link whose process is SenseAct's communicator.

    Args:
        host: Address of the controller.
        port: TCP port of its real-time interface.
        settings: The numbers of the task.
        hold: How long SenseAct sends an action again, on the controller's clock (s).
        stale_after: Largest age of the newest packet (s).
        clock_speed: How many times faster than ours the controller's clock runs.

    Attributes:
        reacher: SenseAct's environment.

    Raises:
        EnvironmentFault: The controller cannot be reached, sends nothing, or is none.
    """

    def __init__(
        self,
        host: str,
        port: int,
        settings: ReacherSettings,
        hold: float,
        *,
        stale_after: float = 0.1,
        clock_speed: float = 1.0,
    ) -> None:
        speed = max(settings.speed_limit, RETURN_SPEED)
        super().__init__(host, port, stale_after, Watch(speed, clock_speed, stale_after))
        self._acceleration, self._hold = settings.acceleration, hold
        connection = connect(host, port)
        self.reacher = _made(settings, host, connection, stale_after, hold / clock_speed)
        self._communicator = self.reacher.communicator
        self.reacher.start()
        # After the fork. SenseAct's process goes on while this one is halted.
        self._pulse = Pulse(2 * stale_after)
        # Also when the interpreter exits.
        self._finalizer = weakref.finalize(self, _end, self._pulse, self._communicator)
        self._window: tuple[Any, ...] | None = None
        self._deadline = math.inf
        self._wait_for_first_packet(FIRST_PACKET)

    @property
    def state(self) -> State:
        """What the newest packet says; after a fault, the newest packet before the fault."""
        if self._fault is None:
            self._look()
        return super().state

    def act(self, speeds: Pair) -> None:
        """Let SenseAct follow an action, until another follows or its time is over.

        Args:
            speeds: Of shoulder and elbow, within the limit (rad/s).

        Raises:
            EnvironmentFault: The connection is broken.
        """
        self._check()
        # SenseAct would acknowledge a protective stop.
        if self.state.stop is None:
            self._locked(lambda: self.reacher.act(np.array(speeds)))
            if self.reacher.guard is None:
                qd = (0.0, *speeds, 0.0, 0.0, 0.0)
                a, now = self._acceleration, time.monotonic()
                self.watch.sent_speeds(qd, a, self._hold, now, STOP_ACCELERATION)
            else:
                self.watch.sent_unknown()

    def movej(self, q: tuple[float, ...], a: float, v: float, t: float) -> None:
        """Do what `Link.movej` says."""
        self._command("MOVEJ", *q, a, v, t, 0.0)
        self.watch.sent_way(self.state.q_target, q)

    def stop(self, a: float = STOP_ACCELERATION) -> None:
        """Do what `Link.stop` says."""
        self._command("STOPJ", a)
        self.watch.sent_stop(a, time.monotonic())

    def _looking(self) -> AbstractContextManager[None]:
        self._check()
        return nullcontext()

    def _pause(self, seconds: float) -> None:
        time.sleep(min(_POLL, seconds))
        self._look()

    def _stop_and_close(self) -> None:
        self._finalizer()

    def _check(self) -> None:
        """Make sure that the communicator lives and that the newest packet is not too old."""
        super()._check()
        if (gap := self._pulse.gap) > 2 * self.stale_after:
            self._break(f"this program was halted for {gap:.2g} s")
        if self._communicator.faults.poll():
            self._break(self._reported())
        self._look()
        if (now := time.monotonic()) > self._deadline:
            self._break(f"no new packet for {now - self._arrival:.2g} s")

    def _reported(self) -> str:
        """Return the fault that the communicator reports, or that it has died."""
        try:
            return str(self._communicator.faults.recv_bytes().decode())
        except EOFError:
            self._communicator.join(END_TIME)
            return f"SenseAct's communicator has ended (exit code {self._communicator.exitcode})"

    def _look(self) -> None:
        """Take over the newest packet, if there is a new one."""
        self._locked(self.reacher.look)
        window = self.reacher.window
        if window is not None and window is not self._window:
            (packet,), (self._arrival,), (number,) = self._window = window
            self._state, self._packets = unpack(packet.tobytes()), number + 1
            self._deadline = self._arrival + self.stale_after
            if (fault := self.watch.fault(self._state, self._arrival)) is not None:
                self.refuse(fault)

    def _command(self, name: str, *numbers: float) -> None:
        self._check()
        buffer = self._communicator.actuator_buffer
        command = np.zeros(buffer.array_len)
        command[: 1 + len(numbers)] = ur_utils.COMMANDS[name]["id"], *numbers
        self._locked(lambda: buffer.write(command))

    def _locked(self, call: Callable[[], None]) -> None:
        """Call what takes a lock that the communicator may have died with."""
        try:
            call()
        except EnvironmentFault as error:
            self._break(str(error))

    def _break(self, what: str) -> NoReturn:
        """Note a fault, stop the arm, close the connection and raise the fault."""
        self._fail(what)
        raise EnvironmentFault(self._fault)


def _end(pulse: Pulse, communicator: Communicator) -> None:
    """Stop the arm and end what runs beside the agent."""
    pulse.end()
    communicator.end()


def _made(
    settings: ReacherSettings,
    host: str,
    connection: socket.socket,
    stale_after: float,
    hold: float,
) -> Reacher:
    with gymnasium_as_gym(), warnings.catch_warnings():
        # Of the space that SenseAct declares, which is not the one of its observations.
        warnings.filterwarnings("ignore", ".*Box .* precision lowered", UserWarning)
        return Reacher(settings, host, connection, stale_after, hold)
