"""What has to be true before an arm moves, and the way to the start."""

from __future__ import annotations

import numpy as np

from hesrl.envs.ur5.dashboard import LOCKED, UNLOCK, UNLOCKED, ask
from hesrl.envs.ur5.link import Link
from hesrl.envs.ur5.protocol import PROTECTIVE_STOP, State
from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.errors import EnvironmentFault

PATIENCE = 2.0
"""What every wait allows beyond the time that it should take (s)."""
SHORTEST_TIME = 2.0
"""Shortest time of the movement to the start (s)."""
STILL_TOLERANCE = 0.5
"""How far from the start the joints may be that the task does not move (rad)."""
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


def go_to_start(link: Link, settings: ReacherSettings, speed: float) -> State:
    """Move an arm that rests to ``settings.q_ref``.

    Args:
        link: The link to the controller.
        settings: The start, and the joints that move in the task.
        speed: Largest speed of a joint on the way (rad/s).

    Returns:
        What the first packet says that shows the arm at rest there.

    Raises:
        EnvironmentFault: A joint that does not move in the task is far off, so that somebody has
            to look first; or the arm is stopped or does not arrive.
    """
    start = np.array(settings.q_ref)
    way = np.abs(start - link.state.q_actual)
    for joint in range(6):
        if joint not in settings.joints and way[joint] > STILL_TOLERANCE:
            raise EnvironmentFault(
                f"{link.where}: joint {joint} is {way[joint]:.2f} rad from the start; bring it "
                f"within {STILL_TOLERANCE} rad of {start[joint]:.3f} rad at the pendant"
            )
    # The largest speed of a movement is less than twice the mean.
    duration = max(SHORTEST_TIME, 2 * float(way.max()) / speed)
    link.movej(settings.q_ref, _ACCELERATION, speed, duration)

    def arrived(state: State) -> bool:
        return _rests(state) and bool(np.abs(state.q_actual - start).max() < _ARRIVED)

    state = link.wait(
        lambda state: state.stop is not None or arrived(state),
        duration + PATIENCE,
        "the arm to arrive at the start",
    )
    check_ready(link, state, " on the way to the start")
    return state


def _rests(state: State) -> bool:
    asked, measured = np.abs(state.qd_target).max(), np.abs(state.qd_actual).max()
    return bool(asked < 1e-6 and measured < _RESTING)
