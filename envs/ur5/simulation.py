"""The UR5 Reacher in virtual time: one arm, simulated as `hesrl.envs.ur5.arm` moves it.

Between two actions the controller ticks five times. At every tick, for shoulder and elbow,

    qd_target ← qd_target + change min(1, a tick / max|change|),    change = command − qd_target,
    q_target  ← q_target + tick qd_target,
    actual    ← actual + (1 − exp(−tick / lag)) (target − actual),  for angles and for speeds,

where the command was sent two ticks before. All numbers are Python floats, because arrays of two
numbers are an order of magnitude slower.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import ArrayLike, NDArray

from hesrl.envs.ur5.arm import COMMAND_DELAY_TICKS, LAG, TICK
from hesrl.envs.ur5.kinematics import Command
from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.envs.ur5.rendering import FRAMES_PER_SECOND, Picture
from hesrl.envs.ur5.task import Task, action_space, observation_space
from hesrl.errors import UserError


class UR5ReacherSim(gym.Env[NDArray[np.float32], NDArray[np.float32]]):
    """The simulated UR5 Reacher; `hesrl.envs.ur5.task` describes observation, action and reward.

    ``reset(options={"target": (y, z)})`` names the target (m). ``info`` has ``"distance"``, from
    tool to target (m), and ``"guard"``: ``"box"``, ``"floor"`` or ``"joint"`` where one
    replaced the action.

    Args:
        render_mode: ``"rgb_array"`` for pictures, or None.
        observation_noise: Standard deviation of the noise on entries 0 to 5 of the observation,
            each in its unit.
        extra_latency: By how much later commands are obeyed (s), a multiple of 8 ms.
        cycle_jitter: Standard deviation of the time between two actions (s).
        randomization: At every reset, lag, speeds and accelerations of the arm are multiplied by
            factors drawn from 1 − randomization … 1 + randomization.
        **settings: Fields of `ReacherSettings`, such as ``speed_limit=1.0``.

    Attributes:
        settings: The numbers of the task.

    Raises:
        UserError: An argument is impossible.
    """

    # Gymnasium does not declare it as one of the class.
    metadata = {"render_modes": ["rgb_array"], "render_fps": FRAMES_PER_SECOND}  # noqa: RUF012

    def __init__(
        self,
        render_mode: str | None = None,
        *,
        observation_noise: float = 0.0,
        extra_latency: float = 0.0,
        cycle_jitter: float = 0.0,
        randomization: float = 0.0,
        **settings: Any,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise UserError(f"render_mode {render_mode!r}: must be 'rgb_array' or None")
        for name, value, below in (
            ("observation_noise", observation_noise, math.inf),
            ("extra_latency", extra_latency, math.inf),
            ("cycle_jitter", cycle_jitter, math.inf),
            ("randomization", randomization, 1.0),
        ):
            if not 0 <= value < below:
                raise UserError(f"{name} is {value}; it must be at least 0 and below {below}")
        extra_ticks = round(extra_latency / TICK)
        if not math.isclose(extra_ticks * TICK, extra_latency, rel_tol=1e-9):
            raise UserError(f"extra_latency is {extra_latency} s; it must be a multiple of 8 ms")
        self.render_mode = render_mode
        self.settings = ReacherSettings(**settings)
        space = observation_space(self.settings)
        self.observation_space, self._low, self._high = space, space.low, space.high
        self.action_space = action_space()
        self._noise, self._jitter, self._randomization = (
            observation_noise,
            cycle_jitter,
            randomization,
        )
        self._delay = COMMAND_DELAY_TICKS + extra_ticks
        self._task = Task(self.settings)
        self._picture: Picture | None = None
        # No step before a reset, and none after the end.
        self._steps = self.settings.max_episode_steps

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode at rest in the start pose.

        Args:
            seed: Seed of the random generator, or None to go on with it.
            options: As `hesrl.envs.ur5.task.target_of` takes them.

        Raises:
            UserError: The options are impossible.
        """
        super().reset(seed=seed)
        self._task.reset(self.np_random, options)
        shoulder, elbow = (self.settings.q_ref[joint] for joint in self.settings.joints)
        self._q_target = self._q = (shoulder, elbow)
        self._qd_target = self._qd = (0.0, 0.0)
        rest = Command(0.0, 0.0, self.settings.acceleration)
        # The command of the present tick, then the commands that are not obeyed yet.
        self._commands = deque([rest] * self._delay, maxlen=self._delay + 1)
        lag = LAG
        self._speed_factor = self._acceleration_factor = 1.0
        if self._randomization:
            low, high = 1 - self._randomization, 1 + self._randomization
            lag *= self.np_random.uniform(low, high)
            self._speed_factor = self.np_random.uniform(low, high)
            self._acceleration_factor = self.np_random.uniform(low, high)
        self._follow = 1 - math.exp(-TICK / lag)
        self._phase = 0.5 * TICK
        self._steps = 0
        if self._picture is not None:
            self._picture.clear()
        obs, _ = self._task.observe(self._q, self._qd)
        return self._noisy(obs), self._info()

    def step(
        self, action: ArrayLike
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Move for one cycle of the agent (0.04 s).

        Args:
            action: Speeds of shoulder and elbow (2,) in units of the limit, clipped to −1 … 1.

        Raises:
            ValueError: The action is not two finite numbers; nothing has changed then.
            ResetNeeded: The episode is over, or none has begun.
        """
        if self._steps >= self.settings.max_episode_steps:
            raise ResetNeeded("UR5ReacherSim: no episode is running; call reset() before step()")
        command = self._task.command(action, self._q_target, self._q, self._qd, self._qd_target)
        if self._randomization:
            factor = self._speed_factor
            command = Command(
                command.shoulder * factor,
                command.elbow * factor,
                command.acceleration * self._acceleration_factor,
            )
        self._move(command, self._ticks() if self._jitter else self.settings.ticks_per_step)
        self._steps += 1
        obs, reward = self._task.observe(self._q, self._qd)
        truncated = self._steps == self.settings.max_episode_steps
        return self._noisy(obs), reward, False, truncated, self._info()

    def render(self) -> NDArray[np.uint8] | None:
        """Return a picture (H, W, 3) of the arm, or None without ``render_mode``."""
        if self.render_mode is None:
            return None
        if self._picture is None:
            self._picture = Picture(self.settings, self._task.plane)
        return self._picture.draw(self._q, self._task.target)

    def _move(self, command: Command, ticks: int) -> None:
        """Let the arm follow its commands, the newest of which is given."""
        commands, follow = self._commands, self._follow
        (shoulder_target, elbow_target), (shoulder, elbow) = self._q_target, self._q
        (speed_shoulder_target, speed_elbow_target) = self._qd_target
        (speed_shoulder, speed_elbow) = self._qd
        for _ in range(ticks):
            commands.append(command)
            speed_1, speed_2, a = commands[0]
            change_1, change_2 = speed_1 - speed_shoulder_target, speed_2 - speed_elbow_target
            largest = max(abs(change_1), abs(change_2))
            if largest <= a * TICK:
                speed_shoulder_target, speed_elbow_target = speed_1, speed_2
            else:
                part = a * TICK / largest
                speed_shoulder_target += part * change_1
                speed_elbow_target += part * change_2
            shoulder_target += TICK * speed_shoulder_target
            elbow_target += TICK * speed_elbow_target
            speed_shoulder += follow * (speed_shoulder_target - speed_shoulder)
            speed_elbow += follow * (speed_elbow_target - speed_elbow)
            shoulder += follow * (shoulder_target - shoulder)
            elbow += follow * (elbow_target - elbow)
        self._q_target, self._q = (shoulder_target, elbow_target), (shoulder, elbow)
        self._qd_target = (speed_shoulder_target, speed_elbow_target)
        self._qd = (speed_shoulder, speed_elbow)

    def _ticks(self) -> int:
        """Return the ticks of the controller in a cycle of the agent whose time varies."""
        cycle = self.settings.dt + self._jitter * self.np_random.standard_normal()
        self._phase += max(cycle, TICK)
        ticks = int(self._phase / TICK)
        self._phase -= ticks * TICK
        return ticks

    def _noisy(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._noise:
            obs[:6] += self._noise * self.np_random.standard_normal(6, dtype=np.float32)
            np.clip(obs, self._low, self._high, out=obs)
        return obs

    def _info(self) -> dict[str, Any]:
        return {"distance": self._task.distance, "guard": self._task.guards.active}
