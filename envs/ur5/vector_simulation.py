"""N simulated UR5 Reachers in step, as arrays: the same as N of `UR5ReacherSim`, many times faster.

Only what the guards do is left to loops, over the arms that are outside their bounds.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from hesrl.envs.ur5.arm import COMMAND_DELAY_TICKS, LAG, TICK
from hesrl.envs.ur5.guards import Command, Guards
from hesrl.envs.ur5.kinematics import Plane
from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.envs.ur5.rendering import FRAMES_PER_SECOND, Picture
from hesrl.envs.ur5.task import action_space, observation_space, reward, sample_target, target_of
from hesrl.errors import UserError, one_line

Array = NDArray[np.float64]


class UR5ReacherVec(VectorEnv[NDArray[np.float32], NDArray[np.float32], NDArray[Any]]):
    """N arms; `hesrl.envs.ur5.task` describes observation, action and reward of each.

    All episodes are equally long, so all end together. The step after that resets them all, heeds
    no action and gives rewards of zero (Gymnasium's autoreset in the next step). Arm i starts from
    ``seed + i``. ``info`` has what that of one arm has, as arrays.

    Args:
        num_envs: N.
        render_mode: ``"rgb_array"`` for pictures, or None.
        max_episode_steps: Ends episodes earlier than ``episode_time`` does.
        **settings: Fields of `ReacherSettings`, such as ``speed_limit=1.0``.

    Attributes:
        settings: The numbers of the task.

    Raises:
        UserError: An argument is impossible.
    """

    # Gymnasium does not declare it as one of the class.
    metadata = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "render_fps": FRAMES_PER_SECOND,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        **settings: Any,
    ) -> None:
        if num_envs < 1:
            raise UserError(f"num_envs is {num_envs}; it must be at least 1")
        if render_mode not in (None, "rgb_array"):
            raise UserError(f"render_mode {render_mode!r}: must be 'rgb_array' or None")
        self.num_envs, self.render_mode = num_envs, render_mode
        self.settings = ReacherSettings(**settings)
        self._episode_steps = self.settings.max_episode_steps
        if max_episode_steps is not None:
            if max_episode_steps < 1:
                raise UserError(f"max_episode_steps is {max_episode_steps}; it must be at least 1")
            self._episode_steps = min(max_episode_steps, self._episode_steps)
        self.single_observation_space = observation_space(self.settings)
        self.single_action_space = action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._plane = Plane(self.settings.q_ref)
        self._guards = [Guards(self.settings, self._plane) for _ in range(num_envs)]
        self._generators = [np_random()[0] for _ in range(num_envs)]
        self._pictures: list[Picture] = []
        self._steps: int | None = None

    def reset(
        self,
        *,
        seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode of every arm.

        Args:
            seed: Seed of the first arm, from which the others follow; those of all; or None to go
                on with the random generators.
            options: As `hesrl.envs.ur5.task.target_of` takes them, for all arms.

        Raises:
            UserError: The options are impossible, or there are not as many seeds as arms.
        """
        seeds: list[int | None]
        if seed is None:
            seeds = [None] * self.num_envs
        elif isinstance(seed, int):
            seeds = [seed + i for i in range(self.num_envs)]
        else:
            seeds = seed
        if len(seeds) != self.num_envs:
            raise UserError(f"reset: {len(seeds)} seeds for {self.num_envs} arms")
        target = target_of(options, self.settings)
        for i, number in enumerate(seeds):
            if number is not None:
                self._generators[i] = np_random(number)[0]
        targets = [
            target or sample_target(self.settings, self._plane, generator)
            for generator in self._generators
        ]
        self._targets = np.array(targets).T
        # Angles and speeds (2, 2, N), of shoulder and elbow: as the controller asks, as they are.
        start = np.zeros((2, 2, self.num_envs))
        start[0] = [[self.settings.q_ref[joint]] for joint in self.settings.joints]
        self._asked, self._actual = start, start.copy()
        accelerations = np.full(self.num_envs, self.settings.acceleration)
        rest = np.zeros((2, self.num_envs)), accelerations
        self._commands = deque([rest] * COMMAND_DELAY_TICKS, maxlen=COMMAND_DELAY_TICKS + 1)
        self._action = np.zeros((2, self.num_envs))
        self._outside: NDArray[np.bool_] = np.zeros(self.num_envs, dtype=np.bool_)
        self._active = np.full(self.num_envs, None, dtype=object)
        for guards in self._guards:
            guards.reset()
        for picture in self._pictures:
            picture.clear()
        self._steps = 0
        obs, distance = self._observe()
        return obs, self._info(distance)

    def step(
        self, actions: ArrayLike
    ) -> tuple[NDArray[np.float32], Array, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Move all arms for one cycle of the agent, or reset them after an end.

        Args:
            actions: Speeds of shoulder and elbow (N, 2) in units of the limit, clipped to −1 … 1.

        Raises:
            ValueError: The actions are not N times two finite numbers; nothing has changed then.
            ResetNeeded: No episode has begun.
        """
        if self._steps is None:
            raise ResetNeeded("UR5ReacherVec: no episode has begun; call reset() before step()")
        none = np.zeros(self.num_envs, dtype=np.bool_)
        if self._steps == self._episode_steps:
            obs, info = self.reset()
            return obs, np.zeros(self.num_envs), none, none.copy(), info
        self._action = self._clipped(actions)
        self._move(*self._guarded())
        self._steps += 1
        obs, distance = self._observe()
        truncations = np.full(self.num_envs, self._steps == self._episode_steps)
        rewards = reward(distance, self.settings.dt, np)
        return obs, rewards, none, truncations, self._info(distance)

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """Return a picture (H, W, 3) of each arm, or None without ``render_mode``."""
        if self.render_mode is None:
            return None
        if not self._pictures:
            self._pictures = [Picture(self.settings, self._plane) for _ in range(self.num_envs)]
        angles, targets = self._actual[0].T.tolist(), self._targets.T.tolist()
        return tuple(map(Picture.draw, self._pictures, angles, targets))

    def _clipped(self, actions: ArrayLike) -> Array:
        """Return the actions (2, N) clipped."""
        array = np.asarray(actions)
        expected = (self.num_envs, 2)
        if array.shape != expected or array.dtype.kind not in "fiu":
            given = one_line(repr(actions))
            raise ValueError(f"actions must be numbers of shape {expected}, not {given}")
        if not np.isfinite(array).all():
            arm = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
            raise ValueError(f"actions must be finite; that of arm {arm} is {array[arm].tolist()}")
        return np.minimum(np.maximum(array.T, -1.0), 1.0, dtype=np.float64)

    def _guarded(self) -> tuple[Array, Array]:
        """Return speeds (2, N) and accelerations (N,) to ask for, after the guards."""
        settings = self.settings
        speeds = self._action * settings.speed_limit
        accelerations = np.full(self.num_envs, settings.acceleration)
        angles = self._asked[0]
        bounded = np.array([*self._plane.position(angles[0], angles[1], np), *angles])
        low = np.array([*settings.box_low, *settings.joint_low])[:, None]
        high = np.array([*settings.box_high, *settings.joint_high])[:, None]
        outside = np.any((bounded < low) | (bounded > high), axis=0)
        # An arm that has come back has its way back to forget.
        for i in np.flatnonzero(outside | self._outside).tolist():
            guards = self._guards[i]
            shoulder, elbow = speeds[:, i].tolist()
            command = Command(shoulder, elbow, settings.acceleration)
            q, qd = self._actual[:, :, i].tolist()
            *speeds[:, i], accelerations[i] = guards(command, angles[:, i].tolist(), q, qd)
            self._active[i] = guards.active
        self._outside = outside
        return speeds, accelerations

    def _move(self, speeds: Array, accelerations: Array) -> None:
        """Let the arms follow their commands, the newest of which are given."""
        asked, actual, follow = self._asked, self._actual, 1 - np.exp(-TICK / LAG)
        for _ in range(self.settings.ticks_per_step):
            self._commands.append((speeds, accelerations))
            commanded, limits = self._commands[0]
            change = commanded - asked[1]
            largest = np.abs(change).max(axis=0)
            step = limits * TICK
            asked[1] += change * (step / np.maximum(largest, step))
            asked[0] += TICK * asked[1]
            actual += follow * (asked - actual)

    def _observe(self) -> tuple[NDArray[np.float32], Array]:
        """Return the observations (N, 8) and the distances from tools to targets (N,)."""
        angles, speeds = self._actual
        y, z = self._plane.position(angles[0], angles[1], np)
        dy, dz = y - self._targets[0], z - self._targets[1]
        obs = np.array([*angles, *(speeds / self.settings.speed_limit), dy, dz, *self._action])
        return np.ascontiguousarray(obs.T, dtype=np.float32), np.sqrt(dy * dy + dz * dz)

    def _info(self, distance: Array) -> dict[str, Any]:
        given = np.ones(self.num_envs, dtype=np.bool_)
        return {
            "distance": distance,
            "_distance": given,
            "guard": self._active.copy(),
            "_guard": given.copy(),
        }
