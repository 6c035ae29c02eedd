"""``hesrl ur5 check``: read a controller's packets and report on them; nothing is sent."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from hesrl.envs.ur5.commands.connection import Connection
from hesrl.envs.ur5.kinematics import SAME_PLACE, other_place
from hesrl.envs.ur5.link import FIRST_PACKET, address
from hesrl.envs.ur5.protocol import (
    CYCLE,
    RUNNING,
    SAFETY_MODES,
    ProtocolError,
    State,
)
from hesrl.errors import EnvironmentFault, UserError


@dataclass
class Args(Connection):
    """Read a UR controller's packets and print what they say; nothing moves."""

    seconds: float = 2.0
    """how long to listen"""


class Reception(NamedTuple):
    """What was received."""

    size: int
    """Bytes of a packet."""
    state: State
    """What the last packet says."""
    rate: float
    """Packets per second."""
    clock_speed: float
    """How many times faster than ours the controller's clock runs."""
    cycle: float
    """Time between two packets by the controller's clock, the median (s)."""
    jitter: float
    """Standard deviation of the time between two arrivals (s)."""
    longest: float
    """Longest time between two arrivals (s)."""
    other_place: str | None
    """Where the tool is, if not where the arm's joints bring it."""


def listen(at: Connection, seconds: float) -> Reception:
    """Receive packets for a while.

    Args:
        at: Where the controller is.
        seconds: For how long.

    Raises:
        EnvironmentFault: The controller cannot be reached, sends nothing, or is none.
        UserError: There can be no such port.
    """
    where = f"{address(at.host, at.packet_port)}:"
    packet = b""
    states: list[State] = []
    arrivals: list[float] = []
    wire = at.open_wire(at.host, at.packet_port, FIRST_PACKET, CYCLE, FIRST_PACKET)
    try:
        # Closed without a stop: another program may move the arm.
        with wire.connection as connection:
            end = time.monotonic() + seconds
            while time.monotonic() < end or len(arrivals) < 3:
                if not (data := connection.recv(1 << 16)):
                    raise EnvironmentFault(f"{where} closed the connection")
                for packet in wire.feed(data):
                    arrivals.append(time.monotonic())
                    states.append(wire.unpack(packet))
    except ProtocolError as error:
        raise ProtocolError(f"{where} {error}") from error
    except OSError as error:
        raise EnvironmentFault(f"{where} cannot be read: {error.strerror or error}") from error
    times, last = [state.time for state in states], states[-1]
    gaps = [after - before for before, after in pairwise(arrivals)]
    return Reception(
        len(packet),
        last,
        len(gaps) / (arrivals[-1] - arrivals[0]),
        (times[-1] - times[0]) / (arrivals[-1] - arrivals[0]),
        statistics.median(after - before for before, after in pairwise(times)),
        statistics.pstdev(gaps),
        max(gaps),
        other_place(last.q_actual, last.tool_vector_actual[:3], at.model),
    )


def main(args: Args) -> int:
    """Listen, print the report and return the exit status: 0 if the arm would obey, else 1.

    Raises:
        EnvironmentFault: As `listen` does.
        UserError: A setting is impossible.
    """
    if not 0 < args.seconds <= 3600:
        raise UserError(f"--seconds {args.seconds}: must be above 0 and at most 3600")
    received = listen(args, args.seconds)
    state = received.state
    x, y, z, *rotation = state.tool_vector_actual
    running = "running" if state.robot_mode == RUNNING else "not running"
    safety = SAFETY_MODES.get(state.safety_mode, "unknown")
    for name, value in {
        "controller": f"{args.host}:{args.packet_port}, packets of {received.size} bytes",
        "packets": f"{received.rate:.1f} per second, cycle {1e3 * received.cycle:.1f} ms",
        "arrivals": f"jitter {1e3 * received.jitter:.2f} ms, longest gap "
        f"{1e3 * received.longest:.1f} ms",
        "clock": f"{state.time:.3f} s",
        "joints": ", ".join(f"{angle:.4f}" for angle in state.q_actual) + " rad",
        "tool": f"x {x:.4f}, y {y:.4f}, z {z:.4f} m, rotation vector "
        + ", ".join(f"{angle:.4f}" for angle in rotation)
        + " rad (base frame)",
        "kinematics": received.other_place
        or f"as a {args.model.name}'s, within {1e3 * SAME_PLACE:g} mm",
        "robot mode": f"{state.robot_mode} ({running})",
        "safety mode": f"{state.safety_mode} ({safety})",
        "the arm": "would obey" if state.stop is None else f"would not obey: {state.stop}",
    }.items():
        print(f"{name:12} {value}")
    return 0 if state.stop is None and received.other_place is None else 1
