"""The motions of ``hesrl ur5 verify``: each is small, and says in a line what it found.

Each raises `EnvironmentFault` when it fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hesrl.envs.ur5.commands.connection import Connection
from hesrl.envs.ur5.driver import Driver
from hesrl.envs.ur5.foresight import DECELERATIONS
from hesrl.envs.ur5.guards import Guards
from hesrl.envs.ur5.kinematics import Command, Pair
from hesrl.envs.ur5.link import PersonNeeded, close_after_reading, connect, send_last
from hesrl.envs.ur5.motion import Law, Limits, Motion, law_for
from hesrl.envs.ur5.obedience import LATEST
from hesrl.envs.ur5.protocol import State
from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.envs.ur5.start import FIRST_WAY, PATIENCE, STOP, check_ready, checked_way, go, stop
from hesrl.envs.ur5.urscript import speedj
from hesrl.envs.ur5.way import way_between
from hesrl.errors import EnvironmentFault

SPEED = 0.1
"""Largest speed of a joint (rad/s)."""
_ACCELERATION = 1.4
_HALT = 0.15
"""For how long the driver is halted while the arm moves (s): a shorter time than a fault."""
_BOX = 0.02
"""Half of the side of the box that the arm must not leave (m)."""
_OUTSIDE = 0.01
"""How far outside it the tool may come (m)."""
_ROUNDING = 0.002
"""What an angle may be off (rad)."""
_ELBOW = 2
_ELBOW_TURNS = tuple(SPEED if joint == _ELBOW else 0.0 for joint in range(6))
"""Speeds of all joints (rad/s)."""
_MOMENT = 0.5
"""For how long another client turns the elbow at most (s)."""


class Trial:
    """The link to the controller for all motions, and where the arm was.

    Args:
        at: Where the controller is.

    Attributes:
        settings: The task of this arm.
        is_over: Whether a motion has failed, so that no other follows.
    """

    def __init__(self, at: Connection) -> None:
        self._at = at
        self._driver: Driver | None = None
        self.settings = ReacherSettings(arm_model=at.arm_model)
        self.begin: NDArray[np.float64] | None = None
        self.is_over = False

    @property
    def driver(self) -> Driver:
        """The link, which is made when it is first needed, and again after a fault of the link."""
        if self._driver is None or self._driver.is_broken:
            self._driver = self._at.driver(Limits(SPEED, max(DECELERATIONS)))
        return self._driver

    def send_as_another(self, line: bytes) -> None:
        """Send a line over a connection of its own, as another client would.

        Raises:
            EnvironmentFault: The controller cannot be reached.
        """
        with connect(self._at.host, self._at.line_port) as connection:
            send_last(connection, line)
            close_after_reading(connection)

    def close(self) -> None:
        """Stop the arm and close the link; the next motion makes a new one."""
        if self._driver is not None:
            self._driver.close()
            self._driver = None


def starts(trial: Trial) -> str:
    """Make sure that the arm is near the start and obeys a stop; over RTDE a program then runs."""
    driver = trial.driver
    check_ready(driver)
    checked_way(driver, trial.settings, FIRST_WAY)
    trial.begin = stop(driver).q_actual
    what = "the controller to run our program; is it in remote control?"
    driver.wait(lambda state: driver.is_ready, 2 * PATIENCE, what)
    return "at rest, within 0.3 rad of the start"


def obeys(trial: Trial) -> str:
    """Turn the elbow for half a second: how soon it obeys, and how fast it gets."""
    driver = trial.driver
    begin = driver.state.time
    seen = _turn(driver, 0.5)
    first = next((state.time for state in seen if abs(state.qd_target[_ELBOW]) > 1e-6), None)
    if first is None:
        raise EnvironmentFault("the elbow does not turn")
    asked = max(float(state.qd_target[_ELBOW]) for state in seen)
    measured = max(float(np.abs(state.qd_actual).max()) for state in seen)
    found = (
        f"after {1e3 * (first - begin):.0f} ms (at most {1e3 * LATEST:.0f}), asks {asked:.3f} and "
        f"measures {measured:.3f} of {SPEED} rad/s"
    )
    if first - begin > LATEST or not all(0.9 < x / SPEED < 1.1 for x in (asked, measured)):
        raise EnvironmentFault(found)
    return found


def stops(trial: Trial) -> str:
    """Stop the elbow while it turns: by which angle it goes on."""
    driver = trial.driver
    before = _turn(driver, 0.3)[-1].q_actual
    after = stop(driver).q_actual
    return _turned(before, after, SPEED * LATEST + SPEED**2 / (2 * STOP))


def watchdog(trial: Trial) -> str:
    """Halt the driver while the elbow turns: the controller has to stop the arm by itself."""
    driver = trial.driver
    halted: list[NDArray[np.float64]] = []

    def law(state: State) -> Motion:
        if not halted:
            halted.append(state.q_actual)
            time.sleep(_HALT)
        return Motion((0.0,) * 6, _ACCELERATION)

    _turn(driver, 0.3)
    try:
        driver.follow(law)
        later = driver.state.time + _HALT
        driver.wait(lambda state: state.time > later, PATIENCE, "packets after a halt")
    except EnvironmentFault:
        # Over RTDE the watchdog has ended the program, and the link with it.
        if not driver.is_broken:
            raise
    after = stop(trial.driver).q_actual
    least = driver.t_min + LATEST
    return _turned(halted[0], after, SPEED * least + SPEED**2 / (2 * _ACCELERATION))


def box(trial: Trial) -> str:
    """Turn the elbow against the border of a small box: the guards must hold the tool inside."""
    driver, model = trial.driver, trial.settings.model
    begin = driver.state.q_actual
    _, y, z = model.forward(begin).tolist()
    low, high = (y - _BOX, z - _BOX), (y + _BOX, z + _BOX)
    joints = begin[list(trial.settings.joints)]
    limits: dict[str, Any] = {"box_low": low, "box_high": high, "speed_limit": SPEED}
    limits |= {"joint_low": tuple(joints - FIRST_WAY), "joint_high": tuple(joints + FIRST_WAY)}
    settings = replace(trial.settings, q_ref=tuple(begin.tolist()), **limits)
    guards = Guards(settings, settings.plane)
    acted: list[str] = []

    def command(q_target: Pair, q: Pair, qd: Pair, qd_target: Pair) -> Command:
        guarded = guards(Command(0.0, SPEED, _ACCELERATION), q_target, q, qd, qd_target)
        if guards.active is not None:
            acted.append(guards.active)
        return guarded

    seen = [*_follow(driver, law_for(settings.joints, command), 2.0), stop(driver)]
    tools = model.forward(np.array([state.q_actual for state in seen]))[:, 1:]
    outside = float(np.maximum(low - tools, tools - high).max())
    found = f"the tool came to {1e3 * outside:+.1f} mm of its border (at most {1e3 * _OUTSIDE:g})"
    if outside > _OUTSIDE or "box" not in acted:
        raise EnvironmentFault(found if acted else f"{found}, and no guard acted")
    return found


def second_client(trial: Trial) -> str:
    """Let another client turn the elbow for a moment: that must be noticed."""
    trial.close()
    driver = trial.driver
    before = stop(driver)
    trial.send_as_another(speedj(_ELBOW_TURNS, _ACCELERATION, _MOMENT))
    end, noticed = before.time + 2 * _MOMENT, None
    try:
        driver.wait(lambda state: state.time > end, PATIENCE, "packets after another's command")
    except PersonNeeded as error:
        noticed = str(error).removeprefix(f"{driver.where}: ")
    trial.close()
    # A link to an arm that moves would hold that against the controller.
    time.sleep(2 * _MOMENT)
    turned = float(np.abs(stop(trial.driver).q_actual - before.q_actual).max())
    if noticed is None and turned > _ROUNDING:
        raise EnvironmentFault(f"the elbow turned by {turned:.4f} rad, and nobody noticed")
    return f"{noticed or 'the arm does not obey it'}; it turned by {turned:.4f} rad"


def back(trial: Trial) -> str:
    """Go back to where the arm was."""
    driver, begin = trial.driver, trial.begin
    assert begin is not None
    way = way_between(driver.state.q_actual, begin, trial.settings)
    state = go(driver, way, SPEED)
    off = float(np.abs(state.q_actual - begin).max())
    return f"within {off:.4f} rad, in {way.duration(SPEED):.1f} s"


MOTIONS: dict[str, Callable[[Trial], str]] = {
    "near the start": starts,
    "speedj": obeys,
    "stop": stops,
    "watchdog": watchdog,
    "box": box,
    "second client": second_client,
    "movej": back,
}
"""Motions by name, in their order."""


def _turn(driver: Driver, seconds: float) -> list[State]:
    """Turn the elbow for a time (s, the controller's clock), and return what is seen meanwhile."""
    return _follow(driver, lambda state: Motion(_ELBOW_TURNS, _ACCELERATION), seconds)


def _follow(driver: Driver, law: Law, seconds: float) -> list[State]:
    seen = [driver.state]
    end = seen[0].time + seconds
    while seen[-1].time < end:
        driver.follow(law)
        last = seen[-1].time
        seen.append(driver.wait(lambda state: state.time > last, PATIENCE, "the next packet"))  # noqa: B023
        check_ready(driver)
    return seen


def _turned(before: NDArray[np.float64], after: NDArray[np.float64], most: float) -> str:
    """Return by which angle the arm went on.

    Raises:
        EnvironmentFault: It is more than allowed.
    """
    turned = float(np.abs(after - before).max())
    found = f"went on by {turned:.4f} rad (at most {most + _ROUNDING:.4f})"
    if turned > most + _ROUNDING:
        raise EnvironmentFault(found)
    return found
