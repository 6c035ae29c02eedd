"""``hesrl ur5 verify``: try out a controller, or URSim, before anything learns on it.

First come checks that only listen. The checks that move the arm follow if all these have passed and
a person has confirmed: the elbow turns by a few degrees at up to 0.1 rad/s, and goes back.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from hesrl.envs.real_time import confirm
from hesrl.envs.ur5.commands.check import Reception, listen
from hesrl.envs.ur5.commands.connection import Connection
from hesrl.envs.ur5.commands.verify_motions import MOTIONS, SPEED, Trial
from hesrl.envs.ur5.kinematics import SAME_PLACE
from hesrl.envs.ur5.link import FIRST_PACKET
from hesrl.envs.ur5.protocol import CYCLE
from hesrl.envs.ur5.rtde_wire import RtdeWire
from hesrl.errors import EnvironmentFault, UserError
from hesrl.runs.interrupts import HaltRequest

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
RATES = 125.0, 500.0
"""Packets per second of CB3 and e-Series controllers."""
_RATE_OFF = 0.05
"""By which part the rate of packets and the speed of the clock may be off."""
_LONGEST_GAP = 0.05
"""Longest time between two packets (s), half of the age at which a packet is too old."""


@dataclass
class Args(Connection):
    """Check a UR controller, or URSim, and print what passed and what failed.

    The arm moves only after a confirmation.
    """

    seconds: float = 3.0
    """how long to listen"""
    yes: bool = False
    """whether the motions are confirmed already"""


class Table:
    """Prints each check as it ends, and counts those that have not passed."""

    def __init__(self) -> None:
        self.not_passed = 0

    def row(self, state: str, name: str, detail: str) -> None:
        """Print a row."""
        self.not_passed += state != PASSED
        print(f"{state:8} {name:22} {detail}", flush=True)

    def check(self, name: str, run: Callable[[], str]) -> bool:
        """Run a check, which returns what it found or raises, and return whether it passed."""
        try:
            detail = run()
        except EnvironmentFault as error:
            self.row(FAILED, name, str(error))
            return False
        self.row(PASSED, name, detail)
        return True


def _require(holds: bool, detail: str) -> str:
    """Return what was found.

    Raises:
        EnvironmentFault: The check has failed.
    """
    if not holds:
        raise EnvironmentFault(detail)
    return detail


def _rate(received: Reception) -> str:
    nearest = min(RATES, key=lambda rate: abs(rate - received.rate))
    return _require(
        abs(received.rate / nearest - 1) < _RATE_OFF and abs(received.cycle * nearest - 1) < 0.01,
        f"{received.rate:.1f} per second, cycle {1e3 * received.cycle:.1f} ms (125 or 500)",
    )


def _gaps(received: Reception) -> str:
    return _require(
        received.longest < _LONGEST_GAP,
        f"jitter {1e3 * received.jitter:.2f} ms, longest gap {1e3 * received.longest:.1f} ms "
        f"(below {1e3 * _LONGEST_GAP:g})",
    )


def _clock(received: Reception) -> str:
    return _require(
        abs(received.clock_speed - 1) < _RATE_OFF,
        f"{received.clock_speed:.3f} times as fast as ours",
    )


def _modes(received: Reception) -> str:
    state = received.state
    return _require(state.stop is None, state.stop or "running, no stop")


def _scaling(received: Reception) -> str:
    scaling = received.state.speed_scaling
    return _require(scaling > 0.99, f"{100 * scaling:.0f} % (the speed at the pendant: 100 %)")


def _frame(received: Reception) -> str:
    other = received.other_place
    return _require(
        other is None,
        other or f"the tool is where the joints bring it, within {1e3 * SAME_PLACE:g} mm",
    )


LISTENING = {
    "packets": _rate,
    "gaps between packets": _gaps,
    "clock": _clock,
    "modes": _modes,
    "speed scaling": _scaling,
    "frame": _frame,
}
"""Checks of what was received, by name."""


def _recipe(args: Args) -> str:
    """Check the software, the fields and the registers of RTDE; a second client is refused."""
    wire = args.open_wire(args.host, args.packet_port, FIRST_PACKET, CYCLE, FIRST_PACKET)
    assert isinstance(wire, RtdeWire)
    with wire.connection:
        session = wire.session
        found = (
            f"software {'.'.join(map(str, session.version[:3]))}, {len(session.outputs.names)} "
            f"outputs, {len(session.inputs.names)} inputs"
        )
        try:
            second = args.open_wire(args.host, args.packet_port, FIRST_PACKET, CYCLE, FIRST_PACKET)
        except EnvironmentFault as error:
            return _require("in use" in str(error), f"{found}; a second client is refused")
        second.connection.close()
    raise EnvironmentFault(f"{found}; a second client may write the same registers")


def main(args: Args) -> int:
    """Check, print the table and return the exit status: 0 if all checks have passed, else 1.

    Raises:
        UserError: A setting is impossible, or there is no confirmation.
    """
    if not 1 <= args.seconds <= 3600:
        raise UserError(f"--seconds {args.seconds}: must be from 1 to 3600")
    table, received = Table(), []
    args.open_wire  # noqa: B018  # refuses an impossible port, which is no failed check

    def connect() -> str:
        received.append(listen(args, args.seconds))
        return f"packets of {received[0].size} bytes from {args.host}:{args.packet_port}"

    if table.check("connection", connect):
        for name, look in LISTENING.items():
            table.check(name, lambda: look(received[0]))  # noqa: B023
        if args.backend == "rtde":
            table.check("recipe and registers", lambda: _recipe(args))
    if table.not_passed:
        for name in MOTIONS:
            table.row(NOT_RUN, name, "because of what failed before")
    else:
        _move(args, table)
    print("all checks passed" if not table.not_passed else f"{table.not_passed} not passed")
    return 1 if table.not_passed else 0


def _move(args: Args, table: Table) -> None:
    what = f"the elbow by a few degrees and back, at up to {SPEED:g} rad/s"
    if args.yes:
        print(f"moving {what}")
    else:
        confirm(what)
    with closing(Trial(args)) as trial, HaltRequest(trial.close):
        for name, motion in MOTIONS.items():
            if trial.is_over:
                table.row(NOT_RUN, name, "because of what failed before")
            elif not table.check(name, lambda: motion(trial)):  # noqa: B023
                trial.is_over = True
