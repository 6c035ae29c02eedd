"""What agents train in: environments with normalized observations and rewards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from hesrl.envs.compiled_steps import Status
from hesrl.envs.mujoco import make_env
from hesrl.envs.normalize import CLIP, observations_for
from hesrl.envs.plain_envs import PlainEnvs
from hesrl.envs.real_time import episode_steps
from hesrl.envs.reward_normalizer import RewardNormalizer, Rewards
from hesrl.envs.steps import Bools, Floats, Sampler, Step
from hesrl.errors import UserError


class NormalizedEnvs:
    """N plain environments with shared running statistics; ended episodes restart at once.

    Observations are vectors, in single precision, or images, in bytes. Images are never
    normalized: a network divides them by 255. Observations that are no Box are vectors, too, in the
    order of `hesrl.envs.flat_observations.FlatBox`.

    Args:
        env_id: Gymnasium id.
        num_envs: N.
        seed: Environment i starts from ``seed + i``.
        gamma: Discount factor of the return by whose deviation rewards are scaled.
        normalize_observations: Whether to scale and clip vectors of observations.
        normalize_rewards: Whether to scale and clip rewards.
        progress: Whether the progress of the episode, from −0.5 to 0.5 at the time limit, follows
            the observation as one more entry, which is not normalized.
        clip: Bound of the magnitude of scaled observations and rewards.
        env_options: Arguments of the environment, as `make_env` takes them.
        env_threads: Threads that step the environments, at most one for each core; they change no
            number. None: from `FEWEST_TOGETHER` environments on all cores of the run, else one.

    Attributes:
        plain: The environments, without statistics.
        observation_space: Of one environment, the progress included.
        action_space: Of one environment.
        observations: The observations to act on next (N, …).
        observation_normalizer: The statistics of the observations.
        together: What steps the environments together; None: they step in turn.
        real_time: Whether the environment runs in real time: learning must not interrupt it.
        episode_steps: Steps of a whole episode in real time; None for other environments.
        halt: Brings the environment to rest at once if it is one in real time, else None.

    Raises:
        UserError: The environment, N or the number of threads is impossible.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        *,
        seed: int,
        gamma: float,
        normalize_observations: bool = True,
        normalize_rewards: bool = True,
        progress: bool = False,
        clip: float = CLIP,
        env_options: Mapping[str, Any] | None = None,
        env_threads: int | None = None,
    ) -> None:
        if num_envs < 1:
            raise UserError(f"--num-envs {num_envs}: must be at least 1")
        envs = [make_env(env_id, progress=progress, **(env_options or {})) for _ in range(num_envs)]
        # What is not scaled has to fit into single precision.
        scaled = normalize_observations and normalize_rewards
        limit = math.inf if scaled else float(np.finfo(np.float32).max) ** 2
        self.plain = plain = PlainEnvs(env_id, envs, seed=seed, limit=limit, threads=env_threads)
        self.real_time, self.episode_steps = plain.real_time is not None, episode_steps(self.lend())
        self.halt = plain.real_time.halt if plain.real_time is not None else None
        space, raw = plain.observation_space, plain.raw
        self.observation_space, self.action_space = space, plain.action_space
        self.together, self._compiled, self._raw = plain.together, plain.compiled, raw
        self.observation_normalizer = observations_for(
            space, raw, normalize=normalize_observations, kept=int(progress), clip=clip
        )
        self._rewards = RewardNormalizer(gamma, num_envs, clip) if normalize_rewards else Rewards()
        if self._compiled is not None:
            self._compiled.follow(**self.observation_normalizer.shared(), **self._rewards.shared())
        # What nearly every step shares.
        self._none_ended = np.zeros(num_envs, dtype=bool)
        self._none_ended.setflags(write=False)
        self.observations = self.observation_normalizer.normalize(np.zeros_like(self._raw))

    @property
    def steps(self) -> int:
        """Environment steps so far, of all environments, including the steps before a resume."""
        return self.plain.steps

    def take_metrics(self) -> dict[str, float]:
        """Return how well the environment kept time since the last call; nothing if simulated."""
        return {} if self.plain.real_time is None else self.plain.real_time.take_metrics()

    def lend(self) -> gym.Env[Any, Any]:
        """Return the only environment there is in real time, for what follows training."""
        return self.plain.envs[0]

    def reset(self) -> NDArray[Any]:
        """Begin the first episodes and return the observations to act on (N, …).

        Raises:
            FloatingPointError, EnvironmentFault: As `step` does.
        """
        self.plain.reset()
        self.observations = self.observation_normalizer(self._raw)
        return self.observations

    def step(self, actions: NDArray[Any]) -> Step:
        """Take one step in every environment.

        Args:
            actions: Continuous ones (N, act_dim) in the unit of the environment, which are clipped
                to its bounds; of discrete ones the numbers from 0, (N,) or (N, D) for several.

        Raises:
            FloatingPointError: An action is NaN, or an environment gave a number that is not
                finite, or so large that its square is not, or that single precision cannot hold
                where it is not normalized; it has not entered the statistics.
            EnvironmentFault: An environment raised, or returned what is no step of its spaces; the
                message says which one and when.
            ValueError: The environment has no such discrete action.
        """
        if self._compiled is not None:
            status, *results = self._compiled.step(actions)
            return self._taken(status, actions, *results)
        rewards, terminations, truncations = self.plain.step(actions)
        if self.plain.fault is not None:
            return self._dropped(self.plain.fault)
        obs = self.observation_normalizer(self._raw)
        learned = np.array(self._rewards(rewards, terminations), dtype=np.float32)
        if True in terminations or True in truncations:
            return self._ended(obs, learned, (np.array(terminations), np.array(truncations)))
        self.observations = obs
        return Step(obs, learned, self._none_ended, self._none_ended, None, [])

    def advance(
        self, sampler: Sampler, step: int, obs: NDArray[Any], actions: NDArray[Any], rewards: Floats
    ) -> tuple[int, Step]:
        """Take one step of a rollout of T steps, or, compiled, all until an episode ends.

        Args:
            sampler: Draws the actions.
            step: Number of the step, from 0.
            obs: Takes observations (T + 1, N, …); ``obs[step]`` is given.
            actions: Takes actions (T, N, …).
            rewards: Takes rewards to learn from (T, N).

        Returns:
            How many steps were taken, none if a fault broke the step, and what the last one gave.

        Raises:
            FloatingPointError, EnvironmentFault: As `step` does.
        """
        actor, compiled = sampler.actor, self._compiled
        if compiled is None or actor is None:
            actions[step] = action = sampler.draw(step, obs[step])
            given = self.step(action)
            if given.fault is not None:
                return 0, given
            obs[step + 1], rewards[step] = given.obs, given.rewards
            return 1, given
        taken = compiled.take(
            obs[step:], actions[step:], sampler.noise[step:], rewards[step:], actor
        )
        last = step + taken
        drawn = actions[min(last, len(actions) - 1)]
        return taken, self._taken(compiled.status, drawn, obs[last], rewards[last - 1])

    def _taken(self, status: Status, actions: NDArray[Any], obs: Floats, rewards: Floats) -> Step:
        """Return what a compiled step gave, or raise what stopped it."""
        if status is Status.GOES_ON:
            self.observations = obs
            return Step(obs, rewards, self._none_ended, self._none_ended, None, [])
        return self._ended(obs, rewards, self.plain.compiled_ends(status, actions))

    def _ended(self, obs: NDArray[Any], rewards: Floats, ends: tuple[Bools, Bools]) -> Step:
        """Begin new episodes, whose observations go to ``obs``, where one ended."""
        self.observations, final_obs, episodes = obs, obs.copy(), []
        for i in np.flatnonzero(np.logical_or(*ends)).tolist():
            episodes.append(self.plain.restart(i))
            obs[i] = self.observation_normalizer(self._raw[i : i + 1])[0]
        return Step(obs, rewards, *ends, final_obs, episodes)

    def _dropped(self, fault: str) -> Step:
        """Begin a new episode, as if the step that a fault broke had not been taken."""
        self.plain.take_back(fault)
        self.cut_off()
        no_rewards, no_end = np.zeros(1, dtype=np.float32), self._none_ended
        return Step(self.observations, no_rewards, no_end, no_end, None, [], fault)

    def cut_off(self) -> NDArray[Any]:
        """Begin new episodes in place of the running ones, which do not count as ended.

        Returns:
            The last observations of the old episodes (N, …). `observations` has the first
            observations of the new episodes.

        Raises:
            FloatingPointError, EnvironmentFault: As `step` does.
        """
        final_obs = self.observations
        for i in range(len(self._raw)):
            self.plain.restart(i)
        self.observations = self.observation_normalizer(self._raw)
        return final_obs

    def state_dict(self) -> dict[str, Any]:
        """Return statistics, running episodes and, of MuJoCo environments, the full state."""
        return {
            "observation_statistics": self.observation_normalizer.state_dict(),
            "reward_statistics": self._rewards.state_dict(),
            "observations": torch.from_numpy(self.observations.copy()),
            **self.plain.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Take over what `state_dict` returned.

        Returns:
            Whether the environments go on where they were. If their state could not be saved,
            new episodes have begun, from seeds of their own: they do not repeat the first ones.

        Raises:
            UserError: The state is of a version that saved each environment by itself.
        """
        goes_on = self.plain.load_state_dict(state)
        self.observation_normalizer.load_state_dict(state["observation_statistics"])
        self._rewards.load_state_dict(state["reward_statistics"])
        saved = state["observations"].numpy().copy()
        self.observations = saved if goes_on else self.observation_normalizer(self._raw)
        return goes_on

    def close(self) -> None:
        """Close the environments."""
        for env in self.plain.envs:
            env.close()
