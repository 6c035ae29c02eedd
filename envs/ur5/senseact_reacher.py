"""SenseAct's environment of the UR5 Reacher, with the numbers of the task and our communicator.

It turns an action into speeds, with its guards, and computes observation and reward. It runs in its
mode "singlethread": all but the communicator, which is a process of its own, is in the agent's
process. Its own methods to reset and to step are not used: `hesrl.envs.ur5.real` verifies the
arrival at the start, and keeps the controller's clock instead of this machine's.

Importing this needs SenseAct; `hesrl.envs.ur5.senseact` does it.
"""

from __future__ import annotations

import math
import socket
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from senseact.devices.ur.ur_setups import setups
from senseact.envs.ur.reacher_env import ReacherEnv
from senseact.rtrl_base_env import RTRLBaseEnv

from hesrl.envs.ur5.kinematics import Pair
from hesrl.envs.ur5.link import STOP_ACCELERATION
from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.envs.ur5.senseact_communicator import Communicator

_ARM = "UR5"
"""SenseAct's name of the arm."""
_SETUP = "hesrl"
"""Name of the numbers among SenseAct's, while the environment is made."""


class _WithCommunicator(RTRLBaseEnv):
    """SenseAct's base with our communicator, for the environment that is built upon it."""

    def __init__(self, **options: Any) -> None:
        setup = options["communicator_setups"][_ARM]
        setup["Communicator"] = self._connected
        setup["kwargs"] |= {"speedj_timeout": self._hold, "stopj_a": STOP_ACCELERATION}
        super().__init__(**options)


class Reacher(ReacherEnv, _WithCommunicator):
    """SenseAct's environment with the numbers of the task.

    Args:
        settings: These numbers.
        host: Address of the controller.
        connection: To its real-time interface.
        stale_after: Largest age of the newest packet (s).
        hold: How long an action is sent again unless another follows; then comes ``stopj`` (s).

    Attributes:
        window: The newest packet, its time of arrival (s) and its number, each as a list of one;
            None before the first.
    """

    def __init__(
        self,
        settings: ReacherSettings,
        host: str,
        connection: socket.socket,
        stale_after: float,
        hold: float,
    ) -> None:
        self._connected, self._hold = partial(Communicator, connection, stale_after), hold
        self.window: tuple[Any, ...] | None = None
        default = setups["UR5_default"]
        low, high = default["angles_low"].copy(), default["angles_high"].copy()
        low[list(settings.joints)], high[list(settings.joints)] = (
            settings.joint_low,
            settings.joint_high,
        )
        setups[_SETUP] = default | {
            "end_effector_low": np.array([default["end_effector_low"][0], *settings.box_low]),
            "end_effector_high": np.array([default["end_effector_high"][0], *settings.box_high]),
            "angles_low": low,
            "angles_high": high,
            "q_ref": np.array(settings.q_ref),
            "box_bound_buffer": settings.box_buffer,
            "angle_bound_buffer": settings.joint_buffer,
        }
        try:
            super().__init__(
                setup=_SETUP,
                host=host,
                dof=2,
                control_type="velocity",
                reset_type="zero",
                reward_type="precision",
                speed_max=settings.speed_limit,
                speedj_a=settings.acceleration,
                speedj_t_min=settings.t_min,
                episode_length_step=settings.max_episode_steps,
                dt=settings.dt,
                run_mode="singlethread",
            )
        finally:
            del setups[_SETUP]
        self.communicator: Communicator = self._all_comms[_ARM]
        self.begin((math.nan, math.nan))

    def begin(self, target: Pair) -> None:
        """Begin an episode at a target (m); SenseAct's reset would begin it with a random action.

        It would also keep the point to return to, and would not make sure that the arm arrives.
        """
        self._target_ = np.array(target)
        self._action_, self._cmd_prev_ = np.zeros((2, 2))
        self.return_point, self.angle_return_point = None, False

    def observe(self) -> tuple[NDArray[np.float32], float]:
        """Return SenseAct's observation (8,) and its reward for the newest packet."""
        assert self.window is not None
        *obs, reward, _ = self._compute_sensation_(_ARM, *self.window)
        return np.array(obs, dtype=np.float32), float(reward)

    @property
    def distance(self) -> float:
        """From tool to target in the newest packet (m)."""
        return math.hypot(*self._target_diff_)

    @property
    def guard(self) -> str | None:
        """The guard that replaced the last action: ``"box"``, ``"joint"`` or None."""
        if self.return_point is not None:
            return "box"
        return "joint" if self.angle_return_point else None

    def look(self) -> None:
        """Take over the newest packet.

        Raises:
            EnvironmentFault: The communicator has died while it wrote.
        """
        self._sensor_to_sensation_()

    def close(self) -> None:
        """End the communicator."""
        self.communicator.end()

    def _compute_sensation_(self, name: str, *window: Any) -> NDArray[np.float64]:
        self.window = window
        sensation: NDArray[np.float64] = super()._compute_sensation_(name, *window)
        return sensation

    def _write_action(self, action: NDArray[np.float64]) -> None:
        # `SenseActLink` has made sure that the communicator lives.
        self._action_buffer.write(action)
