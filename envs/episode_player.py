"""Play whole episodes with a fixed policy and fixed statistics."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hesrl.envs.env_errors import check_numbers, check_shape, malformed, raised
from hesrl.envs.mujoco import make_env
from hesrl.envs.normalize import Observations
from hesrl.envs.spaces import actions_for
from hesrl.envs.steps import Episode
from hesrl.errors import EnvironmentFault
from hesrl.runs.checkpoint import rng_state, set_rng_state

Act = Callable[[NDArray[Any]], NDArray[Any]]
"""From an observation (1, …) to an action (1, act_dim), or to the number of one (1,)."""


@runtime_checkable
class RemembersEpisode(Protocol):
    """A policy whose action also depends on earlier observations of the episode."""

    def begin_episode(self) -> None:
        """Forget the last episode."""

    def __call__(self, obs: NDArray[Any]) -> NDArray[Any]:
        """Return an action for the next observation."""


MAX_EPISODE_STEPS = 100_000
"""Steps after which an episode is cut that has not ended: no evaluation goes on for ever."""


class EpisodePlayer:
    """An environment, made once, in which policies play between updates.

    Playing leaves no trace in training: the statistics and the random generators of Python, NumPy
    and torch are afterwards as they were before. There is no state to save either, because episodes
    begin from a seed.

    Args:
        env_id: Gymnasium id.
        observation: Makes of raw observations what the policy sees. Its statistics stay as they
            are.
        progress: Whether the progress of the episode is appended to the observation.
        env_options: Arguments of the environment, as `make_env` takes them.
        env: The environment where there is only one; None makes one.
        max_episode_steps: Steps after which an episode is cut that has not ended; a line on stderr
            says so.

    Attributes:
        env: The environment.

    Raises:
        UserError: The environment is impossible.
    """

    def __init__(
        self,
        env_id: str,
        observation: Observations,
        *,
        progress: bool = False,
        env_options: Mapping[str, Any] | None = None,
        env: gym.Env[Any, Any] | None = None,
        max_episode_steps: int = MAX_EPISODE_STEPS,
    ) -> None:
        self._env_id, self._observation = env_id, observation
        self._max_episode_steps = max_episode_steps
        if env is None:
            generators = rng_state()
            env = make_env(env_id, progress=progress, **(env_options or {}))
            set_rng_state(generators)
        self.env: gym.Env[Any, Any] = env
        self._actions_for_env = actions_for(env_id, self.env.action_space)
        space = self.env.observation_space
        self._any_obs: NDArray[Any] = np.empty(space.shape or (), space.dtype)

    def play(
        self, act: Act, *, episodes: int, seed: int, watch: Callable[[], None] | None = None
    ) -> list[Episode]:
        """Play episodes and return them, with unscaled returns.

        Args:
            act: The policy. Continuous actions are clipped to the environment's bounds.
            episodes: How many to play.
            seed: Seed of the first episode; the others follow from it.
            watch: Called after every reset and step, such as to take a picture.

        Raises:
            FloatingPointError: An action or a number that the environment gave is not finite.
            EnvironmentFault: The environment raised, returned what is no step of its spaces, or a
                fault cut an episode short; the message says when.
        """
        generators = rng_state()
        try:
            return list(self.each(act, episodes=episodes, seed=seed, watch=watch))
        finally:
            set_rng_state(generators)

    def each(
        self, act: Act, *, episodes: int, seed: int, watch: Callable[[], None] | None = None
    ) -> Iterator[Episode]:
        """Play as `play` does, and yield each episode at its end.

        The random generators are those of the caller, who may draw between the episodes.
        """
        for episode in range(episodes):
            yield self._episode(act, seed if episode == 0 else None, seed, watch)

    def _episode(
        self, act: Act, reset_seed: int | None, seed: int, watch: Callable[[], None] | None
    ) -> Episode:
        """Play one episode, from a new seed or on from the last one."""
        episodic_return, length, ended = 0.0, 0, False
        generator = self.env.unwrapped.np_random.bit_generator
        before = generator.state
        try:
            obs, _ = self.env.reset(seed=reset_seed)
        except Exception as error:
            raise raised(self._where(seed, length), error) from error
        check_shape(self._where(seed, length), obs, self._any_obs)
        check_numbers(self._where(seed, length), np.asarray(obs), 0.0)
        if isinstance(act, RemembersEpisode):
            act.begin_episode()
        if watch is not None:
            watch()
        while not ended:
            action = self._actions_for_env(act(self._observation.normalize(obs[None])))[0]
            length += 1
            try:
                returned = self.env.step(action)
            except Exception as error:
                raise raised(self._where(seed, length), error) from error
            try:
                obs, reward, terminated, truncated, info = returned
                episodic_return += float(reward)
                fault, broken = info.get("fault"), info.get("broken")
            except (TypeError, ValueError, AttributeError) as error:
                raise malformed(self._where(seed, length), returned, self._any_obs) from error
            if broken:  # the environment says how often it mends its link
                print(f"{self._where(seed, length)} {fault}; it is played again", file=sys.stderr)
                generator.state = before
                return self._episode(act, reset_seed, seed, watch)
            if fault is not None:  # what is left of the episode is no measure of the policy
                raise EnvironmentFault(f"{self._where(seed, length)} {fault}")
            check_shape(self._where(seed, length), obs, self._any_obs)
            check_numbers(self._where(seed, length), np.asarray(obs), float(reward))
            if watch is not None:
                watch()
            ended = terminated or truncated
            if not ended and length == self._max_episode_steps:
                print(f"{self._where(seed, length)} cut, since it has not ended", file=sys.stderr)
                break
        return Episode(0, episodic_return, length)

    def _where(self, seed: int, length: int) -> str:
        when = f"step {length} of its episode" if length else "reset"
        return f"{self._env_id}, evaluation (seed {seed}), {when}:"

    def close(self) -> None:
        """Close the environment."""
        self.env.close()
