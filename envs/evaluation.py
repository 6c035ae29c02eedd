"""Play whole episodes with a fixed policy and fixed statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hesrl.envs.env_errors import check_numbers, raised
from hesrl.envs.mujoco import make_env
from hesrl.envs.normalize import Observations
from hesrl.envs.normalized_envs import Episode
from hesrl.envs.spaces import actions_for
from hesrl.errors import EnvironmentFault
from hesrl.runs.checkpoint import rng_state, set_rng_state

Act = Callable[[NDArray[Any]], NDArray[Any]]
"""From an observation (1, …) to an action (1, act_dim), or to the number of one (1,)."""


class Evaluator:
    """An environment of its own, made once, in which policies play between updates.

    It leaves no trace in training: the statistics and the random generators of Python, NumPy and
    torch are afterwards as they were before. Nor has it a state to save, because its episodes
    begin from a seed each time.

    A context manager, which closes the environment.

    Args:
        env_id: Gymnasium id.
        observation: Makes of raw observations what the policy sees; its statistics stay as they
            are.
        progress: Whether the progress of the episode is appended to the observation.
        render_mode: As Gymnasium names it; None for no pictures.
        env_options: Arguments of the environment, as `make_env` takes them.
        env: The environment where there is only one; None makes one.

    Raises:
        UserError: The environment is impossible.
    """

    def __init__(
        self,
        env_id: str,
        observation: Observations,
        *,
        progress: bool = False,
        render_mode: str | None = None,
        env_options: Mapping[str, Any] | None = None,
        env: gym.Env[Any, Any] | None = None,
    ) -> None:
        self._env_id = env_id
        self._observation = observation
        if env is None:
            generators = rng_state()
            rendering = {} if render_mode is None else {"render_mode": render_mode}
            env = make_env(env_id, progress=progress, **rendering, **(env_options or {}))
            set_rng_state(generators)
        self.env: gym.Env[Any, Any] = env
        self._actions_for_env = actions_for(env_id, self.env.action_space)

    def play(
        self, act: Act, *, episodes: int, seed: int, watch: Callable[[], None] | None = None
    ) -> list[Episode]:
        """Play episodes and return them, with unscaled returns.

        Args:
            act: The policy; continuous actions are clipped to the environment's bounds.
            episodes: How many to play.
            seed: Seed of the first one; the others follow from it.
            watch: Called after every reset and step, such as to take a picture.

        Raises:
            FloatingPointError: An action or a number that the environment gave is not finite.
            EnvironmentFault: The environment raised, or a fault cut an episode short; the message
                says when.
        """
        generators = rng_state()
        try:
            return [
                self._episode(act, seed if episode == 0 else None, seed, watch)
                for episode in range(episodes)
            ]
        finally:
            set_rng_state(generators)

    def _episode(
        self, act: Act, reset_seed: int | None, seed: int, watch: Callable[[], None] | None
    ) -> Episode:
        """Play one episode, from a new seed or on from the last one."""
        episodic_return, length, ended = 0.0, 0, False
        try:
            obs, _ = self.env.reset(seed=reset_seed)
        except Exception as error:
            raise raised(self._where(seed, length), error) from error
        check_numbers(self._where(seed, length), np.asarray(obs), 0.0)
        if watch is not None:
            watch()
        while not ended:
            action = self._actions_for_env(act(self._observation.normalize(obs[None])))[0]
            length += 1
            try:
                obs, reward, terminated, truncated, info = self.env.step(action)
                if "fault" in info:  # what is left of the episode is no measure of the policy
                    raise EnvironmentFault(info["fault"])
                episodic_return += float(reward)
            except Exception as error:
                raise raised(self._where(seed, length), error) from error
            check_numbers(self._where(seed, length), np.asarray(obs), float(reward))
            if watch is not None:
                watch()
            ended = terminated or truncated
        return Episode(0, episodic_return, length)

    def _where(self, seed: int, length: int) -> str:
        when = f"step {length} of its episode" if length else "reset"
        return f"{self._env_id}, evaluation (seed {seed}), {when}:"

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def __enter__(self) -> Evaluator:
        """Return the evaluator itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the environment."""
        self.close()


def evaluate(
    act: Act,
    env_id: str,
    *,
    observation: Observations,
    episodes: int,
    seed: int,
    progress: bool = False,
) -> list[Episode]:
    """Play episodes once; the arguments are those of `Evaluator` and of its ``play``."""
    with Evaluator(env_id, observation, progress=progress) as evaluator:
        return evaluator.play(act, episodes=episodes, seed=seed)
