"""What has to be true before an arm moves, and the way to the start."""

from __future__ import annotations

import contextlib

import numpy as np

from hesrl.envs.ur5.dashboard import LOCKED, UNLOCK, UNLOCKED, ask
from hesrl.envs.ur5.link import Link
from hesrl.envs.ur5.protocol import PROTECTIVE_STOP, State
from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.envs.ur5.way import OUTSIDE_BOX, Way, way_between
from hesrl.errors import EnvironmentFault

PATIENCE = 2.0
"""What every wait allows beyond the time that it should take (s)."""
FIRST_WAY = 0.3
"""By what a joint may turn in a reset from where the task has not brought the arm (rad)."""
MOVED = 0.02
"""A joint that has turned by more than this has not rested (rad)."""
STOP = 2.0
"""Deceleration of a stop that is no fault (rad/s²)."""
_ACCELERATION = 1.0
"""Acceleration of the movement to the start, where its time does not give it (rad/s²)."""
_ARRIVED = 0.01
"""A joint that is so near to an angle is there (rad)."""
_RESTING = 0.02
"""A joint that is so slow rests, if it is asked to: no measured speed is quite zero (rad/s)."""


def check_ready(link: Link, state: State | None = None, when: str = "") -> None:
    """Make sure that the arm obeys.

    Args:
        link: The link to the controller.
        state: The packet to look at; the newest if None.
        when: What the arm was doing, for the message, such as ``" on the way to the start"``.

    Raises:
        EnvironmentFault: The controller has stopped the arm.
    """
    if (stop := (state or link.state).stop) is not None:
        raise EnvironmentFault(
            f"{link.where}: {stop}{when}; find the cause and release the arm at the pendant"
        )


def unlock(link: Link, host: str, port: int) -> None:
    """End a protective stop, 5 s from now, and make sure that it has ended; if there is one.

    Args:
        link: The link to the controller.
        host: Its address.
        port: TCP port of its dashboard.

    Raises:
        EnvironmentFault: The dashboard does not answer or refuses, or the stop goes on.
    """
    if link.state.safety_mode != PROTECTIVE_STOP:
        return
    earliest = link.state.time + LOCKED
    link.wait(lambda state: state.time > earliest, LOCKED + PATIENCE, "the time to unlock")
    answer = ask(host, UNLOCK, port=port)
    if not answer.startswith(UNLOCKED):
        raise EnvironmentFault(f"{link.where}: protective stop not unlocked, but: {answer}")
    link.wait(lambda state: state.stop is None, PATIENCE, "the protective stop to end")


def stop(link: Link) -> State:
    """Bring the arm to rest, and return the first packet that shows it at rest.

    Raises:
        EnvironmentFault: The connection is lost, the controller has stopped the arm, or the arm
            does not come to rest.
    """
    link.stop(STOP)
    state = link.wait(_rests, PATIENCE, "the arm to come to rest")
    check_ready(link, state, " while the arm came to rest")
    return state


def checked_way(link: Link, settings: ReacherSettings, longest: float | None = None) -> Way:
    """Return the way of an arm to the start, before anything moves, if it may go there.

    Args:
        link: The link to the controller.
        settings: The start and the box.
        longest: Largest angle by which a joint may turn (rad); None where the task has brought
            the arm to where it is.

    Raises:
        EnvironmentFault: A joint is further off, or elbow, wrist or tool come too near to the
            floor or too far outside the box.
    """
    way = way_between(link.state.q_actual, settings.q_ref, settings)
    home = f"hesrl ur5 home --host {link.host} shows the way and goes it slowly"
    if longest is not None and (turn := float(way.turns.max())) > longest:
        joint = int(way.turns.argmax())
        raise EnvironmentFault(
            f"{link.where}: joint {joint} is {turn:.2f} rad from the start "
            f"({way.begin[joint]:.3f}, not {way.end[joint]:.3f} rad), and a first reset moves none "
            f"by more than {longest} rad; {home}"
        )
    if (too_low := way.too_low) is not None:
        raise EnvironmentFault(
            f"{link.where}: on the straight way to the start {too_low}; bring the arm nearer to "
            "the start at the pendant"
        )
    if way.outside > OUTSIDE_BOX:
        raise EnvironmentFault(
            f"{link.where}: on the straight way to the start the tool would come {way.outside:.2f} "
            f"m outside the box, more than {OUTSIDE_BOX} m; {home}"
        )
    return way


def go(link: Link, way: Way, speed: float) -> State:
    """Move an arm that rests along a way that has been checked.

    Args:
        link: The link to the controller.
        way: From where the arm rests.
        speed: Largest speed of a joint on the way (rad/s).

    Returns:
        What the first packet says that shows the arm at rest at the end.

    Raises:
        EnvironmentFault: The arm is somewhere else, is stopped or does not arrive.
    """
    moved = float(np.abs(link.state.q_actual - way.begin).max())
    if moved > MOVED:
        raise EnvironmentFault(f"{link.where}: moved by {moved:.2g} rad since its way was checked")
    duration = way.duration(speed)
    link.movej(tuple(way.end.tolist()), _ACCELERATION, speed, duration)

    def arrived(state: State) -> bool:
        return _rests(state) and bool(np.abs(state.q_actual - way.end).max() < _ARRIVED)

    try:
        state = link.wait(
            lambda state: state.stop is not None or arrived(state),
            duration + PATIENCE,
            "the arm to arrive at the start",
        )
    except EnvironmentFault:
        # Over a lost connection nothing can be sent; the link has tried.
        with contextlib.suppress(EnvironmentFault):
            link.stop(STOP)
        raise
    check_ready(link, state, " on the way to the start")
    return state


def _rests(state: State) -> bool:
    asked, measured = np.abs(state.qd_target).max(), np.abs(state.qd_actual).max()
    return bool(asked < 1e-6 and measured < _RESTING)
