"""The link to the controller through SenseAct, and the supervision of it.

`SenseActLink` takes the place of `hesrl.envs.ur5.driver.Driver` and behaves like it. SenseAct sends
the speeds of an action again with every packet, for half a second.

Importing this needs SenseAct; `hesrl.envs.ur5.senseact` does it.
"""

from __future__ import annotations

import math
import socket
import time
import warnings
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from senseact.devices.ur import ur_utils

from hesrl.envs.ur5.driver import address, connected
from hesrl.envs.ur5.kinematics import Pair
from hesrl.envs.ur5.protocol import State, unpack
from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.envs.ur5.senseact import gymnasium_as_gym
from hesrl.envs.ur5.senseact_communicator import END_TIME
from hesrl.envs.ur5.senseact_reacher import Reacher
from hesrl.errors import EnvironmentFault

_POLL = 0.0005
"""Time between two looks for a new packet (s)."""


class SenseActLink:
    """A connection to the controller through SenseAct. Every way to lose it stops the arm.

    Args:
        host: Address of the controller.
        port: TCP port of its real-time interface.
        settings: The numbers of the task.
        stale_after: Largest age of the newest packet (s).
        timeout: Longest time that connecting may take, and the first packet after it (s).

    Attributes:
        where: Name of the controller, for messages.
        reacher: SenseAct's environment.

    Raises:
        EnvironmentFault: The controller cannot be reached, sends nothing, or is none.
    """

    def __init__(
        self,
        host: str,
        port: int,
        settings: ReacherSettings,
        *,
        stale_after: float = 0.1,
        timeout: float = 2.0,
    ) -> None:
        self.where = address(host, port)
        self._stale_after = stale_after
        self._fault: str | None = None
        self.reacher = _made(settings, host, connected(host, port, timeout))
        self._communicator = self.reacher.communicator
        self.reacher.start()
        # Also when the interpreter exits.
        self._finalizer = weakref.finalize(self, self._communicator.end)
        self._window: tuple[Any, ...] | None = None
        self._state: State | None = None
        self._packets = 0
        self._arrival = self._deadline = math.inf
        try:
            self.wait(lambda state: True, timeout, "the first packet")
        except EnvironmentFault:
            self.close()
            raise

    @property
    def fault(self) -> str | None:
        """What broke the connection, in one line, or None while it is fine."""
        return self._fault

    @property
    def state(self) -> State:
        """What the newest packet says, the newest before the fault if there is one."""
        if self._fault is None:
            self._look()
        assert self._state is not None
        return self._state

    @property
    def packets(self) -> int:
        """How many packets have come, as of `state`."""
        return self._packets

    def act(self, speeds: Pair) -> None:
        """Let SenseAct follow an action, for half a second unless another follows.

        Args:
            speeds: Of shoulder and elbow, within the limit (rad/s).

        Raises:
            EnvironmentFault: The connection is broken.
        """
        self._check()
        # SenseAct would acknowledge a protective stop.
        if self.state.stop is None:
            self._locked(lambda: self.reacher.act(np.array(speeds)))

    def movej(self, q: tuple[float, ...], a: float, v: float, t: float) -> None:
        """Move the joints to angles ``q`` (6,), rad, in ``t`` seconds.

        Raises:
            EnvironmentFault: The connection is broken.
        """
        self._command("MOVEJ", *q, a, v, t, 0.0)

    def stop(self, a: float) -> None:
        """Bring the arm to rest, with ``a`` in rad/s².

        Raises:
            EnvironmentFault: The connection is broken.
        """
        self._command("STOPJ", a)

    def wait(self, condition: Callable[[State], bool], timeout: float, what: str) -> State:
        """Return what the first packet says that meets a condition; the newest is looked at first.

        Args:
            condition: Whether a packet meets it.
            timeout: Longest time to wait, s.
            what: Name of the condition, for the error.

        Raises:
            EnvironmentFault: The time is over, or the connection is broken.
        """
        deadline = time.monotonic() + timeout
        while True:
            self._check()
            if self._state is not None and condition(self._state):
                return self._state
            if time.monotonic() > deadline:
                raise EnvironmentFault(f"{self.where}: waited {timeout:.3g} s for {what}")
            time.sleep(_POLL)

    def close(self) -> None:
        """Stop the arm and close the connection; again is harmless."""
        self._fault = self._fault or f"{self.where}: the connection has been closed"
        self._finalizer()

    def _check(self) -> None:
        """Make sure that the communicator lives and that the newest packet is not too old."""
        if self._fault is not None:
            raise EnvironmentFault(self._fault)
        if self._communicator.faults.poll():
            self._fail(self._reported())
        self._look()
        if (now := time.monotonic()) > self._deadline:
            self._fail(f"no new packet for {now - self._arrival:.2g} s")

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
            self._deadline = self._arrival + self._stale_after

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
            self._fail(str(error))

    def _fail(self, what: str) -> NoReturn:
        """Note a fault, stop the arm and close the connection.

        Raises:
            EnvironmentFault: Always.
        """
        self._fault = f"{self.where}: {what}"
        self._finalizer()
        raise EnvironmentFault(self._fault)


def _made(settings: ReacherSettings, host: str, connection: socket.socket) -> Reacher:
    with gymnasium_as_gym(), warnings.catch_warnings():
        # Of the space that SenseAct declares, which is not the one of its observations.
        warnings.filterwarnings("ignore", ".*Box .* precision lowered", UserWarning)
        return Reacher(settings, host, connection)
