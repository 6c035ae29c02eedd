"""The emulated controller behind the ports: commands, stops and packets, in virtual time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hesrl.envs.ur5.arm import COMMAND_DELAY_TICKS, TICK, Arm
from hesrl.envs.ur5.dashboard import LOCKED, UNLOCK, UNLOCKED
from hesrl.envs.ur5.emulated_faults import Faults
from hesrl.envs.ur5.emulated_program import Program
from hesrl.envs.ur5.kinematics import UR5, UR5E, in_base_frame
from hesrl.envs.ur5.protocol import (
    NORMAL,
    PACKET,
    PROTECTIVE_STOP,
    pack,
)
from hesrl.envs.ur5.urscript import movej, parse, speedj, stopj

RELEASING = 0.4
"""Time from the command that unlocks the arm until it obeys (s)."""
_BRAKE = 20.0
"""Deceleration of the controller's own stops (rad/s²)."""
_STOPPED, _PLAYING = 1, 2
"""Whether a program runs."""
_FOR_EVER = 3600.0
"""Longest time that speeds hold (s)."""
E_SERIES_TICK = 0.002
"""Cycle of an e-Series controller (s)."""


class Controller:
    """A controller in normal mode, with an arm at rest.

    Args:
        q: Joint angles of the arm (6,), rad.
        tick: Its cycle (s): that of a CB3 controller with a UR5, or `E_SERIES_TICK` with a UR5e.
        log: Called with a line when a program ends with an error.

    Attributes:
        arm: The arm.
        tick: Its cycle (s).
        model: The lengths of the arm.
        version: Major, minor, bugfix and build number of its software.
        faults: What it does wrong.
        safety_mode: A key of `SAFETY_MODES`.
        commands: The last commands, each with the time at which it came (s).
        inputs: Registers that clients of RTDE write, by name.
        outputs: Registers that programs write.
        report: What is told of the last cycle: fields of `PACKET`, and ``"registers"``.
        max_speed: Largest target speed of a joint so far (rad/s).
        max_acceleration: Largest target acceleration (rad/s²), its own stops not counted.
    """

    def __init__(
        self, q: ArrayLike, tick: float = TICK, log: Callable[[str], None] = lambda line: None
    ) -> None:
        self.arm, self.faults, self.tick, self._log = Arm(q, tick), Faults(), tick, log
        is_e_series = tick == E_SERIES_TICK
        self.model = UR5E if is_e_series else UR5
        self.version = (5, 15, 0, 0) if is_e_series else (3, 15, 8, 0)
        self.inputs: dict[str, float] = {}
        self.outputs: dict[str, float] = {}
        self.report: dict[str, Any] = {}
        self._program: Program | None = None
        self._start = self.arm.q_target
        self.safety_mode = NORMAL
        self.commands: deque[tuple[float, str]] = deque(maxlen=4096)
        self.max_speed = self.max_acceleration = 0.0
        self._stopped_at, self._released_at, self._gained = 0.0, math.inf, 0.0

    def cycle(self) -> bytes:
        """Let a cycle pass and return the packet that says what is then."""
        self._run_program()
        self.arm.tick()
        if self.safety_mode == NORMAL:
            self.max_speed = max(self.max_speed, float(np.abs(self.arm.qd_target).max()))
            acceleration = float(np.abs(self.arm.qdd_target).max())
            self.max_acceleration = max(self.max_acceleration, acceleration)
        elif self.arm.time >= self._released_at:
            self.enter(NORMAL)
        if not self.faults.frozen:
            self.report = self._make_report()
        return self._packet()

    def enter(self, safety_mode: int) -> None:
        """Go into a safety mode; in all but the first the arm brakes and obeys no more."""
        self.safety_mode, self._released_at = safety_mode, math.inf
        if safety_mode != NORMAL:
            self._program = None
            self.arm.brake(_BRAKE)
            self._stopped_at = self.arm.time

    def clear(self) -> None:
        """Go back to normal mode, do nothing wrong any more and forget the extremes."""
        self.faults = Faults()
        self.max_speed = self.max_acceleration = 0.0
        self.enter(NORMAL)

    def put_back(self) -> None:
        """Let the arm be where it began, at rest, without a way there."""
        self.arm.put(self._start)

    def obey(self, text: str) -> None:
        """Take a line of URScript, or a program; either ends the program that runs.

        Raises:
            ValueError: It is neither.
        """
        if text.startswith("def "):
            program = Program(text, self._functions())
            if self.safety_mode == NORMAL and not self.faults.deaf:
                self._program = program
            return
        self._move(text)
        self._program = None

    def _move(self, line: str) -> None:
        """Do what a line says.

        Raises:
            ValueError: It is no command.
        """
        name, joints, options = parse(line)
        if self.safety_mode == NORMAL and not self.faults.deaf:
            if name == "speedj":
                speeds = np.multiply(joints, self.faults.scale)
                if self.faults.ignored >= 0:
                    speeds[self.faults.ignored] = 0.0
                hold = math.inf if self.faults.dead_watchdog else options.get("t", self.tick)
                self.arm.speedj(speeds, options.get("a", math.nan), min(hold, _FOR_EVER))
            elif name == "movej":
                a, v = options.get("a", 1.4), options.get("v", 1.05)
                self.arm.movej(joints, a, v, options.get("t", 0.0))
            else:
                self.arm.stopj(options.get("a", math.nan))
        self.commands.append((self.arm.time, line.strip()))

    def _run_program(self) -> None:
        if self._program is None:
            return
        try:
            if not self._program.cycle():
                self._program = None
        except (ValueError, TypeError, KeyError) as error:
            self._program = None
            self._log(f"a program ended: {error}")

    def _functions(self) -> dict[str, Callable[..., Any]]:
        """Return what a program may call."""

        def moved(line: bytes, wait: Callable[[], bool]) -> Generator[None, None, None]:
            self._move(line.decode())
            for _ in range(COMMAND_DELAY_TICKS + 1):
                yield
            while wait():
                yield

        def one_cycle(line: bytes = b"") -> Generator[None, None, None]:
            if line:
                self._move(line.decode())
            yield

        return {
            "sync": one_cycle,
            # What counts no time never misses the heartbeat.
            "get_steptime": lambda: 0.0 if self.faults.dead_watchdog else self.tick,
            "read_input_integer_register": lambda n: self.inputs.get(f"input_int_register_{n}", 0),
            "read_input_float_register": lambda n: self.inputs.get(f"input_double_register_{n}", 0),
            "write_output_integer_register": lambda n, value: self.outputs.update(
                {f"output_int_register_{n}": int(value)}
            ),
            # Other times than a cycle would need more of this emulator.
            "speedj": lambda qd, a, t: one_cycle(speedj(qd, a, max(t, self.tick))),
            "movej": lambda q, a=1.4, v=1.05, t=0.0: moved(
                movej(q, a, v, t), lambda: self.arm.is_moving
            ),
            "stopj": lambda a: moved(stopj(a), lambda: self.arm.is_moving),
        }

    def dashboard(self, line: str) -> str | None:
        """Take a line of the dashboard and return the answer, or None for none."""
        if self.faults.dashboard_silent:
            return None
        if line != UNLOCK:
            return f"could not understand: {line}"
        if self.safety_mode != PROTECTIVE_STOP:
            return "No protective stop to unlock"
        if self.arm.time - self._stopped_at < LOCKED:
            return f"Cannot unlock protective stop until {LOCKED:g}s after occurrence"
        if not self.faults.stays_locked:
            self._released_at = self.arm.time + RELEASING
        return UNLOCKED

    def _make_report(self) -> dict[str, Any]:
        arm, faults = self.arm, self.faults
        self._gained += (faults.clock_rate - 1) * self.tick
        # Rotations are not emulated.
        tools = np.zeros((2, 6))
        tools[:, :3] = in_base_frame(self.model.forward([arm.q_actual, arm.q_target]))
        tools[:, 2] += faults.tool_offset
        return {
            "size": faults.size,
            "time": arm.time + self._gained + faults.clock_ahead,
            "q_target": arm.q_target,
            "qd_target": arm.qd_target,
            "qdd_target": arm.qdd_target,
            "q_actual": np.full(6, np.nan) if faults.not_finite else arm.q_actual + faults.turns,
            "qd_actual": arm.qd_actual,
            "tool_vector_actual": tools[0],
            "tool_vector_target": tools[1],
            "robot_mode": faults.robot_mode,
            "joint_modes": 253,
            "safety_mode": self.safety_mode,
            "speed_scaling": faults.speed_scaling,
            "runtime_state": _STOPPED if self._program is None else _PLAYING,
            "registers": dict(self.outputs),
        }

    def _packet(self) -> bytes:
        size = self.report["size"]
        fields = {name: self.report[name] for name in PACKET.names or () if name in self.report}
        packet = pack(**fields | {"size": max(size, PACKET.itemsize)})
        return size.to_bytes(4, "big", signed=True) + packet[4:]
