"""The connection to a controller over RTDE: its outputs, and the registers of our program.

The program is uploaded through the secondary interface, with the first command and again when it
has ended. Until then nothing is uploaded, so that who only listens disturbs nobody.
"""

from __future__ import annotations

import contextlib
import math
import struct
from secrets import randbelow

from hesrl.envs.ur5 import urscript
from hesrl.envs.ur5.link import (
    STOP_ACCELERATION,
    PersonNeeded,
    address,
    close_after_reading,
    connect,
    send_last,
)
from hesrl.envs.ur5.protocol import SCRIPT_PORT, ProtocolError, State, checked_state
from hesrl.envs.ur5.rtde import ANY_SIZE, Kind, Packages, Recipe
from hesrl.envs.ur5.rtde_program import (
    ACCELERATION,
    BEAT,
    COMMAND,
    ECHO,
    END,
    INPUTS,
    JOINTS,
    NUMBER,
    RUNNING,
    SPEEDS,
    STOP,
    TIME,
    WAY,
    program,
)
from hesrl.envs.ur5.rtde_session import OUTPUTS, agree
from hesrl.envs.ur5.wire import Wire
from hesrl.errors import EnvironmentFault

_START = 2.0
"""Longest time from the upload of the program to its first cycle (s)."""
_UNHEARD = 0.05
"""Age of the program's echo from which another program may run in its place (s)."""
_LONGER = 0.1
"""By what the program's echo may be late beyond the watchdog's time (s)."""


class RtdeWire(Wire):
    """A wire over RTDE.

    Args:
        host: Address of the controller.
        port: TCP port of RTDE.
        timeout: Longest time that connecting may take, and an answer (s).
        t_min: How long speeds hold without a heartbeat (s).
        lost: Time without a heartbeat after which the program on the controller stops the arm (s).
        script_port: TCP port of the secondary interface.

    Attributes:
        session: What has been agreed on with the controller.

    Raises:
        EnvironmentFault: The controller cannot be reached, does not speak RTDE, is too old, or
            another client writes the registers.
    """

    def __init__(
        self,
        host: str,
        port: int,
        timeout: float,
        t_min: float,
        lost: float,
        script_port: int = SCRIPT_PORT,
    ) -> None:
        connection = connect(host, port, timeout)
        try:
            self.session = agree(connection)
        except (OSError, ProtocolError, struct.error) as error:
            connection.close()
            cause = getattr(error, "strerror", None) or error
            raise ProtocolError(f"{address(host, port)}: {cause}") from error
        except EnvironmentFault:
            connection.close()
            raise
        # The program looks once in a cycle, so that a heartbeat may be late by one.
        super().__init__(connection, t_min + 1 / self.session.frequency)
        self._host, self._script_port, self._timeout = host, script_port, timeout
        self._lost = lost
        self._packages = Packages({Kind.DATA: _exactly(self.session.outputs), Kind.TEXT: ANY_SIZE})
        self._values: dict[str, float] = dict.fromkeys(INPUTS, 0)
        self._values |= {BEAT: randbelow(1 << 30), COMMAND: STOP}
        self._name: int | None = None
        self._runs = False
        self._since, self._echo, self._echoed, self._now = math.nan, -1, math.nan, math.nan

    @property
    def is_ready(self) -> bool:
        """Whether our program was seen to run since its upload."""
        return self._name is not None and self._runs

    def feed(self, data: bytes) -> list[bytes]:
        """Do what `Wire.feed` says."""
        return [payload for kind, payload in self._packages.feed(data) if kind is Kind.DATA]

    def unpack(self, packet: bytes) -> State:
        """Do what `Wire.unpack` says."""
        values = self.session.outputs.unpack(packet)
        state = checked_state(values[name] for name in OUTPUTS)
        self._look_at_program(state, values[ECHO], values[RUNNING])
        return state

    def speedj(self, qd: tuple[float, ...], a: float) -> None:
        """Do what `Wire.speedj` says."""
        self._command(SPEEDS, qd, a)

    def movej(self, q: tuple[float, ...], a: float, v: float, t: float) -> None:
        """Do what `Wire.movej` says."""
        self._command(WAY, q, a, t)

    def stopj(self, a: float) -> None:
        """Do what `Wire.stopj` says."""
        self._command(STOP, (0.0,) * 6, a)

    def alive(self) -> None:
        """Do what `Wire.alive` says."""
        self.connection.sendall(self._next_package())

    def end(self) -> None:
        """Do what `Wire.end` says."""
        if self._name is not None and self._now > self._echoed + _UNHEARD:
            # Another program does not read the registers, but a new one replaces it.
            with contextlib.suppress(EnvironmentFault):
                self._run(urscript.stopj(STOP_ACCELERATION))
        self._values |= {COMMAND: END, NUMBER: self._values[NUMBER] + 1}
        send_last(self.connection, self._next_package())
        close_after_reading(self.connection)

    def _command(self, what: int, joints: tuple[float, ...], a: float, t: float = 0.0) -> None:
        if len(joints) != 6 or not all(map(math.isfinite, (*joints, a, t))):
            raise ValueError(f"{joints}, a={a}, t={t}: six joints and finite numbers are needed")
        if what != SPEEDS or self._values[COMMAND] != SPEEDS:
            self._values[NUMBER] += 1
        self._values |= {COMMAND: what, ACCELERATION: a, TIME: t}
        self._values |= dict(zip(JOINTS, joints, strict=True))
        self.connection.sendall(self._next_package())
        if self._name is None:
            self._upload()

    def _next_package(self) -> bytes:
        self._values[BEAT] = (int(self._values[BEAT]) + 1) % (1 << 31)
        return self.session.inputs.pack(self._values)

    def _upload(self) -> None:
        """Let the controller run our program, instead of any other."""
        self._name, self._runs, self._since = 1 + randbelow(1 << 30), False, math.nan
        try:
            self._run(program(self._name, self.t_min, self._lost))
        except EnvironmentFault:
            self._name = None
            raise

    def _run(self, script: bytes) -> None:
        """Let the controller run a program, instead of any other."""
        with connect(self._host, self._script_port, self._timeout) as connection:
            send_last(connection, script)
            close_after_reading(connection)

    def _look_at_program(self, state: State, echo: int, running: int) -> None:
        """Make sure that our program runs, from when it was uploaded to a stop.

        Raises:
            ProtocolError: Its watchdog has stopped the arm.
            PersonNeeded: It was not started, or somebody else has ended it.
        """
        self._now = state.time
        if self._name is None:
            return
        if state.stop is not None:
            # A stop of the controller ends programs; the next command uploads it again.
            self._name = None
        elif not self._runs:
            self._since = state.time if math.isnan(self._since) else self._since
            self._runs, self._echo, self._echoed = running == self._name, echo, state.time
            if not self._runs and state.time > self._since + _START + self._lost:
                raise PersonNeeded(
                    f"it does not run our program, which came through port {self._script_port}; "
                    "is it in remote control?"
                )
        elif running != self._name:
            raise ProtocolError(
                f"its watchdog has stopped the arm: no heartbeat came for {self._lost:g} s"
            )
        elif echo != self._echo:
            self._echo, self._echoed = echo, state.time
        elif state.time > self._echoed + self._lost + _LONGER:
            raise PersonNeeded("our program was ended: by another client, or at the pendant")


def _exactly(recipe: Recipe) -> range:
    return range(recipe.size, recipe.size + 1)
