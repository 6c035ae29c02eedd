"""The UR5 Reacher on the arm itself, or on the emulator of its controller, in real time.

A fault that ends an episode is never hidden: the step is truncated and ``info["fault"]`` names it.
Where the link broke, ``info["broken"]`` is true, and nothing of the step is to be learned from.
Every observation was measured after the observation before. If nothing more was measured,
observation and reward are NaN.

    what happens                          the step                  the next reset
    connection lost, packets too old,     stops the arm,            connects again, a bounded number
    data that are no packets: the link    truncates, "broken"       of times, else raises
    disobedience, a wrong clock           stops the arm, truncates  raises once
    protective stop, safeguard stop,      truncates                 raises while the arm is stopped,
    power off                                                       or unlocks (``auto_unlock``)
    one of these stops in the reset       —                         raises and names the stop
    emergency stop, violation, fault      raises                    raises while the arm is stopped
    an action that is NaN or malformed    ValueError, nothing sent  as usual
    no action for 0.5 s                   the arm rests meanwhile   as usual

The clock of an episode begins with its first action. Until then the arm rests at the start for as
long as the agent likes, such as for learning. Before the arm moves, a new packet has to show that
it still rests there.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from functools import partial
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import ArrayLike, NDArray

from hesrl.envs.real_time import RealTimeEnv
from hesrl.envs.ur5.bounds import check
from hesrl.envs.ur5.cycle_counts import CycleCounts
from hesrl.envs.ur5.dashboard import DASHBOARD_PORT
from hesrl.envs.ur5.driver import Driver
from hesrl.envs.ur5.foresight import DECELERATIONS
from hesrl.envs.ur5.guards import RETURN_SPEED
from hesrl.envs.ur5.homing import Homing
from hesrl.envs.ur5.kinematics import Pair, in_base_frame
from hesrl.envs.ur5.link import Link
from hesrl.envs.ur5.motion import Limits, law_for, pair
from hesrl.envs.ur5.protocol import NORMAL, PROTECTIVE_STOP, REALTIME_PORT, REDUCED, State
from hesrl.envs.ur5.reacher_settings import BOX_X, ReacherSettings
from hesrl.envs.ur5.rendering import FRAMES_PER_SECOND, Picture
from hesrl.envs.ur5.start import MOVED, PATIENCE, STOP
from hesrl.envs.ur5.task import Task, action_space, clipped_action, observation_space, target_of
from hesrl.envs.ur5.wire import RealTimeWire, Wire
from hesrl.errors import EnvironmentFault, UserError

HOST_VARIABLE = "HESRL_UR5_HOST"
"""Environment variable with the address of the controller, for programs that name none."""
_PATIENT = 10.0
"""Largest age of the newest packet that an emulator with a faster clock is allowed (s)."""
_ROUNDING = 1e-3
"""A packet that is this much early is in time (s); the shortest cycle is 2 ms."""
_HALT = 3.0
"""Deceleration of a stop from outside, which is also a lost link's (rad/s²)."""
_TRUNCATING = (NORMAL, REDUCED, PROTECTIVE_STOP, 5)
"""Safety modes that at most truncate an episode; the others are errors."""


class UR5ReacherReal(RealTimeEnv[NDArray[np.float32], NDArray[np.float32]]):
    """The task of `hesrl.envs.ur5.task` with an action every ``dt`` of the controller's clock.

    ``info`` has ``"distance"``, from tool to target (m), ``"guard"``: ``"box"``, ``"floor"`` or
    ``"joint"`` where one replaced the action, and, of a step, ``"late"``: whether the agent took
    longer than ``dt``, so that the step is later. Guards look at every packet, thus also
    between two actions. ``info`` of a reset has ``"faults"``: those of the link that it has mended.

    Args:
        host: Address of the controller; that in ``HESRL_UR5_HOST`` if None.
        port: TCP port of its real-time interface.
        render_mode: ``"rgb_array"`` for pictures, or None.
        dashboard_port: TCP port of its dashboard.
        auto_unlock: `NOBODY_IS_NEAR` lets a reset end a protective stop by itself, after 5 s.
            Universal Robots forbid this; it is for emulators, and for arms that nobody can be near.
        reconnects: How many more times a reset tries after a lost connection, and how many more
            episodes in a row may break.
        reconnect_wait: Time between two attempts (s).
        stale_after: Largest age of the newest packet (s).
        reset_speed: Largest speed of a joint on the way to the start (rad/s); ``speed_limit`` if
            None, which it cannot exceed.
        emulator_speed: How many times faster than real time the controller's clock runs; 1, or 2
            and more at an emulator, whose packets may then be older.
        **settings: Fields of `ReacherSettings`, such as ``speed_limit=1.0``.

    Attributes:
        settings: The numbers of the task.

    Raises:
        UserError: There is no address, or an argument is impossible.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": FRAMES_PER_SECOND}  # noqa: RUF012

    def __init__(
        self,
        host: str | None = None,
        port: int = REALTIME_PORT,
        render_mode: str | None = None,
        *,
        dashboard_port: int = DASHBOARD_PORT,
        auto_unlock: bool | str = False,
        reconnects: int = 3,
        reconnect_wait: float = 1.0,
        stale_after: float = 0.1,
        reset_speed: float | None = None,
        emulator_speed: float = 1.0,
        **settings: Any,
    ) -> None:
        host = host or os.environ.get(HOST_VARIABLE)
        if not isinstance(host, str) or not host:
            raise UserError(
                f"no address of a UR controller: pass host=…, or set {HOST_VARIABLE} (127.0.0.1 "
                "for hesrl ur5 emulator)"
            )
        if render_mode not in (None, "rgb_array"):
            raise UserError(f"render_mode {render_mode!r}: must be 'rgb_array' or None")
        self.settings = ReacherSettings(**settings)
        self._homing = Homing(
            self.settings,
            dashboard_port=dashboard_port,
            auto_unlock=auto_unlock,
            reconnects=reconnects,
            reconnect_wait=reconnect_wait,
            reset_speed=reset_speed,
        )
        check("emulator_speed", emulator_speed)
        if 1 < emulator_speed < 2:
            raise UserError(f"emulator_speed is {emulator_speed}; it must be 1, or at least 2")
        check("stale_after", stale_after, high=_PATIENT if emulator_speed > 1 else None)
        check("port", port)
        self.render_mode = render_mode
        self.observation_space = observation_space(self.settings)
        self.action_space = action_space()
        self._host, self._port = host, port
        self._stale_after, self._emulator_speed = stale_after, emulator_speed
        self._task = Task(self.settings)
        self._picture: Picture | None = None
        self._running = False
        self._steps = 0
        self._observed = self._due = self._arrived = -math.inf
        self._start_angles = np.array(self.settings.q_ref)
        self._counts = CycleCounts()

    @property
    def max_episode_steps(self) -> int:
        """Actions in an episode."""
        return self.settings.max_episode_steps

    @property
    def motion(self) -> str:
        """What moves and how fast, for the person who has to agree; in UR's base frame."""
        settings = self.settings
        corners = [[BOX_X[0], *settings.box_low], [BOX_X[1], *settings.box_high]]
        low, high = np.sort(in_base_frame(corners), axis=0)
        box = ", ".join(
            f"{axis} {a:g} … {b:g}" for axis, a, b in zip("xyz", low, high, strict=True)
        )
        return (
            f"shoulder and elbow of the arm at {self._host}:{self._port} at up to "
            f"{settings.speed_limit:g} rad/s, with the tool in the box {box} m (UR's base frame), "
            f"and all joints to the start before each episode at up to {self._homing.speed:g} rad/s"
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Bring the arm to the start and return what is measured after it has arrived there.

        Args:
            seed: Seed of the random generator, or None to go on with it.
            options: As `hesrl.envs.ur5.task.target_of` takes them.

        Raises:
            EnvironmentFault: The arm cannot be reached, is stopped or does not arrive.
            UserError: The options are impossible; nothing has moved then.
        """
        super().reset(seed=seed)
        self._running = False
        target_of(options, self.settings)
        state, faults = self._homing.start(self._connected)
        self._counts.link_faults += len(faults)
        # Not before: until it was stopped, the last action was being followed.
        self._begin(options)
        self._steps, self._start_angles, self._running = 0, state.q_actual, True
        if self._picture is not None:
            self._picture.clear()
        obs, _ = self._observe(state)
        return obs, self._info() | {"faults": faults}

    def step(
        self, action: ArrayLike
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Act for ``dt`` (s).

        Args:
            action: Speeds of shoulder and elbow (2,) in units of the limit, clipped to −1 … 1.

        Raises:
            EnvironmentFault: An emergency stop, a violation or a fault of the controller.
            ValueError: The action is not two finite numbers; nothing has been sent then.
            ResetNeeded: No episode is running.
        """
        clipped = clipped_action(action)
        if self._link is None or not self._running:
            raise ResetNeeded("UR5ReacherReal: no episode is running; call reset() before step()")
        link, dt = self._link, self.settings.dt
        late, broken, fault = False, False, None
        try:
            if self._steps == 0:
                self._start_clock(link)
            delay = link.state.time - self._due
            late = delay > dt - _ROUNDING
            self._due += dt + (delay if late else 0.0)
            self._act(clipped)
            # The first action of an episode may take any time.
            response_time = time.monotonic() - self._arrived if self._steps else None
            self._counts.acted(delay, late, response_time)
            state = self._wait(
                link, self._due - _ROUNDING, f"the controller's clock to advance by {dt:g} s"
            )
            if state.stop is not None:
                fault = f"{link.where}: {state.stop}"
        except EnvironmentFault as error:
            state, fault, broken = link.state, str(error), link.is_broken
        self._steps += 1
        obs, reward = self._observe(state)
        info = self._info() | {"late": late}
        truncated = fault is not None or self._steps == self.settings.max_episode_steps
        if truncated:
            self._running = False
            # Over a lost connection nothing can be sent; the link has tried.
            with contextlib.suppress(EnvironmentFault):
                link.stop(STOP)
            self._counts.end(fault=fault is not None, broken=broken)
            self._homing.ended(broken=broken)
        if fault is not None:
            if state.safety_mode not in _TRUNCATING:
                raise EnvironmentFault(fault)
            info |= {"fault": fault, "broken": broken}
        return obs, reward, False, truncated, info

    def render(self) -> NDArray[np.uint8] | None:
        """Return a picture (H, W, 3) of the arm, or None without ``render_mode``.

        Raises:
            ResetNeeded: The arm has not been seen yet.
        """
        if self.render_mode is None:
            return None
        if self._link is None:
            raise ResetNeeded("UR5ReacherReal: call reset() before render()")
        if self._picture is None:
            self._picture = Picture(self.settings, self._task.plane)
        q = pair(self._link.state.q_actual, self.settings.joints)
        return self._picture.draw(q, self._task.target)

    def halt(self) -> None:
        """Stop the arm at once; the episode has ended. A signal handler may call it."""
        self._running = False
        if self._link is not None:
            # Over a lost connection nothing can be sent; the link has tried.
            with contextlib.suppress(EnvironmentFault):
                self._link.stop(_HALT)

    def take_metrics(self) -> dict[str, float]:
        """Return what has been counted since the last call; `CycleCounts` says what."""
        return self._counts.take()

    def close(self) -> None:
        """Stop the arm and close the connection."""
        self._running = False
        if self._link is not None:
            self._link.close()
            self._homing.link = None

    @property
    def _link(self) -> Link | None:
        return self._homing.link

    def _connected(self) -> Link:
        link = self._connect()
        # The controller's clock begins anew with the controller.
        self._observed = -math.inf
        return link

    def _observe(self, state: State) -> tuple[NDArray[np.float32], float]:
        """Return observation and reward; NaN if the state has been observed before."""
        self._homing.left = state.q_actual
        if state.time <= self._observed:
            return np.full(8, np.nan, dtype=np.float32), math.nan
        self._observed = state.time
        return self._measured(state)

    def _start_clock(self, link: Link) -> None:
        """Begin the cycles of an episode with a new packet, if the arm still rests at the start."""
        state = self._wait(link, link.state.time, "a new packet")
        moved = float(np.abs(state.q_actual - self._start_angles).max())
        if moved > MOVED and state.stop is None:
            link.refuse(f"moved by {moved:.2g} rad since the reset")
        self._due = state.time
        self._counts.begin()

    def _wait(self, link: Link, time: float, what: str) -> State:
        """Return the first packet that is newer than ``time`` (s), or that shows a stop."""

        def condition(state: State) -> bool:
            # The driver calls this with its lock held, so that the numbers belong together.
            self._counts.seen(state.time, link.packets)
            self._arrived = link.arrival
            return state.time > time or state.stop is not None

        return link.wait(condition, self.settings.dt + PATIENCE, what)

    # The next six are what another link to the controller does in another way.

    def _begin(self, options: dict[str, Any] | None) -> None:
        """Begin an episode: the arm rests at the start."""
        self._task.reset(self.np_random, options)

    def _act(self, action: Pair) -> None:
        """Let the arm follow an action until the next one."""
        assert isinstance(self._link, Driver)
        self._link.follow(law_for(self.settings.joints, partial(self._task.command, action)))

    def _measured(self, state: State) -> tuple[NDArray[np.float32], float]:
        """Return the observation (8,) that a packet gives, and the reward."""
        joints = self.settings.joints
        return self._task.observe(pair(state.q_actual, joints), pair(state.qd_actual, joints))

    def _info(self) -> dict[str, Any]:
        return {"distance": self._task.distance, "guard": self._task.guards.active}

    def _connect(self) -> Link:
        return Driver(
            self._host,
            self._port,
            limits=Limits(
                max(self.settings.speed_limit, RETURN_SPEED),
                max(self.settings.acceleration, *DECELERATIONS),
            ),
            t_min=self.settings.t_min,
            stale_after=self._stale_after,
            clock_speed=self._emulator_speed,
            open_wire=self._wire,
            model=self.settings.model,
        )

    def _wire(self, host: str, port: int, timeout: float, t_min: float, lost: float) -> Wire:
        return RealTimeWire(host, port, timeout, t_min, lost)
