"""The link between an environment and its arm, and what brings the arm to the start."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hesrl.envs.ur5.bounds import check
from hesrl.envs.ur5.link import Link, PersonNeeded
from hesrl.envs.ur5.protocol import State
from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.envs.ur5.start import FIRST_WAY, PATIENCE, check_ready, checked_way, go, stop, unlock
from hesrl.errors import EnvironmentFault, UserError

NOBODY_IS_NEAR = "nobody-is-near"
"""What `UR5ReacherReal` wants to be told before it unlocks an arm by itself."""
_STILL = 0.05
"""What a joint may be off that the task leaves at rest (rad)."""
_SILENCE = 0.6
"""Longest time that the last action is followed after it was observed (s)."""


class Homing:
    """The link to a controller, and what brings its arm to the start.

    Args:
        settings: The numbers of the task.
        dashboard_port: TCP port of the controller's dashboard.
        auto_unlock: `NOBODY_IS_NEAR` to end a protective stop.
        reconnects: As `UR5ReacherReal` takes it.
        reconnect_wait: Time between two attempts (s).
        reset_speed: As `UR5ReacherReal` takes it (rad/s).

    Attributes:
        link: The link; None before the first and after the last.
        left: Angles at which the task has last seen the arm (6,), rad; None if it has not.
        speed: Largest speed of a joint on the way (rad/s).

    Raises:
        UserError: An argument is impossible.
    """

    def __init__(
        self,
        settings: ReacherSettings,
        *,
        dashboard_port: int,
        auto_unlock: bool | str,
        reconnects: int,
        reconnect_wait: float,
        reset_speed: float | None,
    ) -> None:
        if auto_unlock not in (False, NOBODY_IS_NEAR):
            raise UserError(
                f"auto_unlock is {auto_unlock!r}; the arm moves without a person who has looked at "
                f"it, which Universal Robots forbid: write {NOBODY_IS_NEAR!r} to confirm, or False"
            )
        self.speed = settings.speed_limit if reset_speed is None else reset_speed
        check("reset_speed", self.speed, high=settings.speed_limit)
        check("reconnects", reconnects)
        check("reconnect_wait", reconnect_wait)
        check("dashboard_port", dashboard_port)
        self._settings, self._dashboard_port = settings, dashboard_port
        self._auto_unlock = bool(auto_unlock)
        self._reconnects, self._reconnect_wait = reconnects, reconnect_wait
        self._broken_in_a_row = 0
        self.link: Link | None = None
        self.left: NDArray[np.float64] | None = None

    def ended(self, *, broken: bool) -> None:
        """Note that an episode has ended, and whether the link broke it."""
        self._broken_in_a_row = self._broken_in_a_row + 1 if broken else 0

    def start(self, connect: Callable[[], Link]) -> tuple[State, list[str]]:
        """Bring the arm to the start.

        A connection that was lost, before or on the way, is made again a bounded number of times.

        Args:
            connect: Returns a new link. It is not kept: an environment that nobody needs is
                collected at once, and its driver stops the arm.

        Returns:
            What the first packet after the arrival says, and the faults that were mended.

        Raises:
            EnvironmentFault: The arm cannot be reached, is stopped or does not arrive.
            PersonNeeded: The controller or the arm did what it should not.
        """
        faults = []
        if self.link is not None and self.link.fault is not None:
            if (count := self._broken_in_a_row) > 1 + self._reconnects:
                self._broken_in_a_row = 0
                raise EnvironmentFault(f"{self.link.fault} ({count} episodes in a row broke off)")
            if not count:  # no step has told of it
                faults.append(self.link.fault)
        attempts = 1 if self.link is None else 1 + self._reconnects
        for attempt in range(1, attempts + 1):
            try:
                return self._start(connect), faults
            except PersonNeeded:
                # A reset after this one begins a new session.
                self.link = self.left = None
                raise
            except EnvironmentFault as error:
                if attempts == 1 or self.link is None or not self.link.is_broken:
                    raise
                if attempt == attempts:
                    raise EnvironmentFault(f"{error} (attempt {attempt} of {attempts})") from error
                faults.append(str(error))
            time.sleep(self._reconnect_wait)
        raise AssertionError("the last attempt returns or raises")

    def _start(self, connect: Callable[[], Link]) -> State:
        link = self._connected(connect)
        _next_packet(link, link.state)
        if self._auto_unlock:
            unlock(link, link.host, self._dashboard_port)
        check_ready(link)
        stop(link)
        longest = None if self._is_own(link.state) else FIRST_WAY
        way = checked_way(link, self._settings, longest)
        return _next_packet(link, go(link, way, self.speed))

    def _is_own(self, state: State) -> bool:
        """Whether the task can have brought the arm to where it is.

        That is between the start and where it was last observed, as far as a stop takes it.
        """
        if self.left is None:
            return False
        settings, start = self._settings, np.array(self._settings.q_ref)
        speed, room = settings.speed_limit, np.full(6, _STILL)
        room[list(settings.joints)] += speed * _SILENCE + speed**2 / (2 * settings.acceleration)
        low, high = np.minimum(self.left, start) - room, np.maximum(self.left, start) + room
        return bool(((low <= state.q_actual) & (state.q_actual <= high)).all())

    def _connected(self, connect: Callable[[], Link]) -> Link:
        """Return the link, a new one where its connection is lost.

        Raises:
            EnvironmentFault: The controller cannot be reached, sends nothing, or is none.
            PersonNeeded: The controller did what it should not.
        """
        if self.link is not None and self.link.fault is not None and not self.link.is_broken:
            raise PersonNeeded(f"{self.link.fault}; find the cause before the arm moves again")
        if self.link is None or self.link.fault is not None:
            self.link = connect()
        return self.link


def _next_packet(link: Link, before: State) -> State:
    return link.wait(lambda state: state.time > before.time, PATIENCE, "a new packet")
