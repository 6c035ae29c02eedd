"""The UR5 Reacher on the arm itself through SenseAct, the interface of the paper's robot.

SenseAct (github.com/kindredresearch/SenseAct) is optional. It turns actions into speeds, keeps the
box and the joints' limits, and computes observation and reward. `hesrl.envs.ur5.real` chooses the
target, moves the arm to the start, keeps the clock of the episode and handles every fault.
"""

from __future__ import annotations

import importlib
import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hesrl.envs.ur5.foresight import LATENCY, Ending, endings
from hesrl.envs.ur5.guards import Guards
from hesrl.envs.ur5.kinematics import UR5, Pair
from hesrl.envs.ur5.link import STOP_ACCELERATION, Link
from hesrl.envs.ur5.motion import pair
from hesrl.envs.ur5.obedience import LATEST
from hesrl.envs.ur5.protocol import State
from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.envs.ur5.real import UR5ReacherReal
from hesrl.errors import UserError

_LEAST_HOLD = 0.05
"""Shortest time for which SenseAct sends an action again, on this machine's clock (s)."""
_LATER = LATEST - LATENCY
"""By how much later than the driver's a command may come through two processes: later than that is
disobedience (s, on this machine's clock)."""
INSTALL = "pip install --no-deps git+https://github.com/kindredresearch/SenseAct"
"""How to install SenseAct; the package of that name at PyPI is empty."""


@contextmanager
def gymnasium_as_gym() -> Iterator[None]:
    """Let ``import gym`` find Gymnasium within the context, as SenseAct imports gym."""
    replaced = {"gym": gym, "gym.core": gym.core, "gym.spaces": gym.spaces}
    before = {name: sys.modules.pop(name) for name in replaced if name in sys.modules}
    sys.modules.update(replaced)
    try:
        yield
    finally:
        for name in replaced:
            del sys.modules[name]
        sys.modules.update(before)


def load_link() -> ModuleType:
    """Return `hesrl.envs.ur5.senseact_link`, which cannot be imported without SenseAct.

    Raises:
        UserError: SenseAct is not installed, or cannot run on this system.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        raise UserError(
            f"backend 'senseact' needs fork, which {sys.platform} has not: use 'driver'"
        )
    try:
        with gymnasium_as_gym():
            return importlib.import_module("hesrl.envs.ur5.senseact_link")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "senseact":
            raise
        raise UserError(f"backend 'senseact': SenseAct is not installed; {INSTALL}") from error


def ending(settings: ReacherSettings, clock_speed: float = 1.0) -> Ending:
    """Return how long an action is sent again if no other follows, and how the arm stops then.

    Args:
        settings: The numbers of the task.
        clock_speed: How many times faster than ours the controller's clock runs.
    """
    return Ending(max(2 * settings.dt, _LEAST_HOLD * clock_speed), STOP_ACCELERATION)


def guards(settings: ReacherSettings, clock_speed: float = 1.0) -> Guards:
    """Return the guards before SenseAct, which changes speeds with the task's acceleration only.

    Args:
        settings: The numbers of the task.
        clock_speed: How many times faster than ours the controller's clock runs.
    """
    ways = endings(settings, ending(settings, clock_speed))
    latency = LATENCY + _LATER * clock_speed
    return Guards(settings, settings.plane, settings.acceleration, ways, latency)


class UR5ReacherSenseAct(UR5ReacherReal):
    """The environment `UR5ReacherReal` with SenseAct between it and the controller.

    Three things differ. The guards look once per action, and brake with the acceleration of the
    task, so that the arm turns back earlier. SenseAct's own guards come after them. SenseAct sends
    the last speeds again for twice ``dt``, also if the agent is halted or was killed, and then
    stops the arm; the guards count that.

    Args:
        *args: As `UR5ReacherReal` takes them.
        **options: As `UR5ReacherReal` takes them.

    Raises:
        UserError: SenseAct is not there, there is no address, or an argument is impossible.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.settings.model is not UR5:
            raise UserError(
                f"backend 'senseact': SenseAct knows the UR5 only, not arm_model "
                f"{self.settings.arm_model!r}; take backend 'driver' or 'rtde'"
            )
        self._link_class = load_link().SenseActLink
        self._task.guards = guards(self.settings, self._emulator_speed)

    def halt(self) -> None:
        """Stop the arm at once and close the connection; a signal handler may call it."""
        # A command could wait for a lock that the interrupted method holds; a signal does not.
        self.close()

    def _connect(self) -> Link:
        link: Link = self._link_class(
            self._host,
            self._port,
            self.settings,
            ending(self.settings, self._emulator_speed).hold,
            stale_after=self._stale_after,
            clock_speed=self._emulator_speed,
        )
        return link

    @property
    def _senseact(self) -> Any:
        """The link, whose type cannot be named without SenseAct."""
        return self._link

    def _begin(self, options: dict[str, Any] | None) -> None:
        super()._begin(options)
        self._senseact.reacher.begin(self._task.target)

    def _act(self, action: Pair) -> None:
        state, joints = self._senseact.state, self.settings.joints
        vectors = state.q_target, state.q_actual, state.qd_actual, state.qd_target
        shoulder, elbow, _ = self._task.command(action, *(pair(v, joints) for v in vectors))
        self._senseact.act((shoulder, elbow))

    def _measured(self, state: State) -> tuple[NDArray[np.float32], float]:
        obs, reward = self._senseact.reacher.observe()
        # Not the speeds that the guards have left of it.
        obs[6:] = self._task.action
        return obs, reward

    def _info(self) -> dict[str, Any]:
        reacher = self._senseact.reacher
        guard = reacher.guard or self._task.guards.active
        return {"distance": reacher.distance, "guard": guard}
