"""One environment whose mistakes are named, for training loops that are not hesrl's own."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from hesrl.envs.env_errors import check_numbers, check_shape, malformed, raised
from hesrl.errors import EnvironmentFault


class CheckedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Passes everything on, and refuses in one line what no environment should give.

    Args:
        env: An environment that observes a vector or an image.
        name: What messages call it.
    """

    def __init__(self, env: gym.Env[Any, Any], name: str) -> None:
        super().__init__(env)
        self._name, self._seed, self._length = name, "no seed", 0
        space = env.observation_space
        self._any_obs = np.empty(space.shape or (), space.dtype)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Raises:
            EnvironmentFault: The environment raised, or gave an observation of another shape or
                with a number that is not finite.
        """
        self._length = 0
        if seed is not None:
            self._seed = f"seed {seed}"
        try:
            obs, info = self.env.reset(seed=seed, options=options)
        except Exception as error:
            raise raised(self._where(), error) from error
        self._check(obs, 0.0)
        return obs, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take a step.

        Raises:
            EnvironmentFault: As `reset` does; the reward is checked, too.
        """
        self._length += 1
        try:
            returned = self.env.step(action)
        except Exception as error:
            raise raised(self._where(), error) from error
        try:
            obs, given, terminated, truncated, info = returned
            reward = float(given)
            info = dict(info)
        except (TypeError, ValueError) as error:
            raise malformed(self._where(), returned, self._any_obs) from error
        self._check(obs, reward)
        return obs, reward, terminated, truncated, info

    def _check(self, obs: Any, reward: float) -> None:
        where = self._where()
        check_shape(where, obs, self._any_obs)
        try:
            check_numbers(where, np.asarray(obs), reward)
        except FloatingPointError as error:
            raise EnvironmentFault(str(error)) from error

    def _where(self) -> str:
        when = f"step {self._length} of its episode" if self._length else "reset"
        return f"{self._name} ({self._seed}), {when}:"
