"""``hesrl ur5 jog``: move shoulder and elbow a little, slowly and within the box."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from hesrl.envs.real_time import confirm
from hesrl.envs.ur5.commands.connection import Connection
from hesrl.envs.ur5.driver import Driver
from hesrl.envs.ur5.foresight import DECELERATIONS
from hesrl.envs.ur5.guards import Guards
from hesrl.envs.ur5.kinematics import Command, Pair, in_base_frame
from hesrl.envs.ur5.motion import Limits, law_for, pair
from hesrl.envs.ur5.protocol import State
from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.envs.ur5.start import PATIENCE, check_ready, stop
from hesrl.errors import EnvironmentFault, UserError
from hesrl.runs.interrupts import HaltRequest

SLOWEST, FASTEST = 0.01, 0.1
"""Speeds of a joint that can be asked for (rad/s)."""
_IN_PLANE = 0.02
"""How far the other joints may be from the start for the box to be where it is said (rad)."""
_GAIN = 5.0
"""Speed per angle that is left to go (1/s)."""
_ARRIVED = 0.001
"""A joint so near to its goal is there (rad)."""


@dataclass
class Args(Connection):
    """Move the shoulder and the elbow of the arm slowly within the box, after a confirmation."""

    shoulder: float = 0.0
    """by which angle to turn the shoulder (rad)"""
    elbow: float = 0.0
    """by which angle to turn the elbow (rad)"""
    speed: float = 0.05
    """largest speed of a joint (rad/s), from 0.01 to 0.1"""


def move_by(driver: Driver, settings: ReacherSettings, goal: Pair, speed: float) -> State:
    """Bring shoulder and elbow to angles, with the guards of the task.

    Args:
        driver: The link to the controller.
        settings: Box, limits and the joints that move.
        goal: Angles of shoulder and elbow (rad).
        speed: Largest speed of a joint (rad/s).

    Returns:
        What the packet says with which they have arrived.

    Raises:
        EnvironmentFault: The connection is lost, or the arm is stopped or does not arrive.
    """
    guards = Guards(settings, settings.plane)

    def left(q_target: Pair) -> Pair:
        return goal[0] - q_target[0], goal[1] - q_target[1]

    def command(q_target: Pair, q: Pair, qd: Pair, qd_target: Pair) -> Command:
        way = left(q_target)
        scale = min(_GAIN, speed / max(map(abs, way))) if any(way) else 0.0
        wanted = Command(scale * way[0], scale * way[1], settings.acceleration)
        return guards(wanted, q_target, q, qd, qd_target)

    def distance() -> float:
        return max(map(abs, left(pair(driver.state.q_target, settings.joints))))

    law = law_for(settings.joints, command)
    patience = PATIENCE + 2 * distance() / speed
    deadline = driver.state.time + patience
    while distance() > _ARRIVED:
        if driver.state.time > deadline:
            raise EnvironmentFault(f"{driver.where}: not at the goal after {patience:.1f} s")
        driver.follow(law)
        driver.wait(_later_than(driver.state.time + settings.dt), PATIENCE, "the next packets")
        check_ready(driver)
    return stop(driver)


def _later_than(time: float) -> Callable[[State], bool]:
    return lambda state: state.time > time


def main(args: Args) -> int:
    """Ask for the confirmation, move, print where the arm is and return the exit status.

    Raises:
        EnvironmentFault: As `move_by` does.
        UserError: A setting is impossible, the goal is not allowed, or there is no confirmation.
    """
    if not SLOWEST <= args.speed <= FASTEST:
        raise UserError(f"--speed {args.speed}: must be from {SLOWEST} to {FASTEST} rad/s")
    if not (args.shoulder or args.elbow):
        raise UserError("give --shoulder or --elbow with an angle (rad)")
    settings = ReacherSettings(arm_model=args.arm_model)
    ranges = zip(settings.joint_low, settings.joint_high, strict=True)
    for name, (low, high) in zip(("shoulder", "elbow"), ranges, strict=True):
        angle, most = getattr(args, name), high - low
        if not abs(angle) <= most:
            raise UserError(
                f"--{name} {angle}: must be from {-most:.3f} to {most:.3f} rad, the width of the "
                "joint's range"
            )
    limits = Limits(FASTEST, max(DECELERATIONS))
    with closing(args.driver(limits)) as driver, HaltRequest(driver.close):
        check_ready(driver)
        _goal(driver, settings, args)
        confirm(
            f"shoulder by {args.shoulder:+.4f} and elbow by {args.elbow:+.4f} rad, at up to "
            f"{args.speed} rad/s"
        )
        check_ready(driver)
        # From where the arm is now: it may have been moved before the answer came.
        goal = _goal(driver, settings, args)
        state = move_by(driver, settings, goal, args.speed)
    x, y, z = in_base_frame(args.model.forward(state.q_actual))
    print(f"joints {', '.join(f'{q:.4f}' for q in state.q_actual)} rad")
    print(f"tool x {x:.4f}, y {y:.4f}, z {z:.4f} m in the base frame")
    return 0


def _goal(driver: Driver, settings: ReacherSettings, args: Args) -> Pair:
    """Return the angles to go to, if they are allowed."""
    q = driver.state.q_actual
    for joint in range(6):
        off = abs(q[joint] - settings.q_ref[joint])
        if joint not in settings.joints and off > _IN_PLANE:
            raise UserError(
                f"joint {joint} is {off:.3f} rad from the start, so that the box cannot be kept; "
                "use hesrl ur5 home first"
            )
    shoulder, elbow = pair(q, settings.joints)
    goal = (shoulder + args.shoulder, elbow + args.elbow)
    y, z = settings.plane.position(*goal)
    (y_low, z_low), (y_high, z_high) = settings.box_low, settings.box_high
    for name, values, low, high in (
        # In the base frame, whose y is the other way round.
        ("the tool to y, z", (-y, z), (-y_high, z_low), (-y_low, z_high)),
        ("shoulder, elbow to", goal, settings.joint_low, settings.joint_high),
    ):
        if not all(a <= value <= b for a, value, b in zip(low, values, high, strict=True)):
            written = [f"({first:.3f}, {second:.3f})" for first, second in (values, low, high)]
            raise UserError(
                f"this would bring {name} {written[0]}, which has to be from {written[1]} to "
                f"{written[2]}"
            )
    return goal
