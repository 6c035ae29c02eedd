"""N environments stepped in turn in this process, with normalized observations and rewards.

No worker processes: they were measured four times as slow. A second core is better spent on a
second seed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from hesrl.envs.mujoco import env_state, make_env, set_env_state
from hesrl.envs.normalize import ObservationNormalizer, RewardNormalizer
from hesrl.errors import UserError


class Episode(NamedTuple):
    """An episode that has ended."""

    env_index: int
    """Which environment it was in."""
    episodic_return: float
    """Sum of its rewards, as the environment gave them."""
    episodic_length: int
    """Its environment steps."""


class Step(NamedTuple):
    """What one step of N environments gives."""

    obs: NDArray[np.float32]
    """Normalized observations to act on next (N, obs_dim): of the new episode where one ended."""
    rewards: NDArray[np.float32]
    """Normalized rewards (N,)."""
    terminations: NDArray[np.bool_]
    """Whether the environment reached a terminal state (N,)."""
    truncations: NDArray[np.bool_]
    """Whether a time limit alone ended the episode (N,)."""
    final_obs: NDArray[np.float32] | None
    """Normalized observations that the step led to (N, obs_dim), if any episode ended."""
    episodes: list[Episode]
    """The episodes that ended."""


class NormalizedEnvs:
    """N plain environments with shared running statistics; ended episodes restart at once.

    Args:
        env_id: Gymnasium id.
        num_envs: N.
        seed: Environment i starts from ``seed + i``.
        gamma: Discount factor of the return by whose deviation rewards are scaled.

    Attributes:
        observation_space: Of one environment.
        action_space: Of one environment.
        observations: The normalized observations to act on next (N, obs_dim).
        observation_normalizer: The statistics of the observations.

    Raises:
        UserError: The environment or N is impossible.
    """

    def __init__(self, env_id: str, num_envs: int, *, seed: int, gamma: float) -> None:
        if num_envs < 1:
            raise UserError(f"--num-envs {num_envs}: must be at least 1")
        self._env_id = env_id
        self._seeds = [seed + i for i in range(num_envs)]
        self._envs = [make_env(env_id) for _ in range(num_envs)]
        observations, actions = self._envs[0].observation_space, self._envs[0].action_space
        assert isinstance(observations, Box) and isinstance(actions, Box)
        self.observation_space: Box = observations
        self.action_space: Box = actions
        self._low, self._high = actions.low, actions.high
        self.observation_normalizer = ObservationNormalizer(observations.shape[0])
        self._normalize_rewards = RewardNormalizer(gamma, num_envs)
        self._raw = np.empty((num_envs, *observations.shape))
        self._raw_numbers = self._raw.reshape(-1)
        self._returns = [0.0] * num_envs
        self._lengths = [0] * num_envs
        self.observations = np.zeros(self._raw.shape, dtype=np.float32)

    def reset(self) -> NDArray[np.float32]:
        """Begin the first episodes and return their normalized observations (N, obs_dim).

        Raises:
            FloatingPointError: As `step` does.
            RuntimeError: As `step` does.
        """
        for i, seed in enumerate(self._seeds):
            self._reset_env(i, seed)
        self.observations = self.observation_normalizer(self._raw)
        return self.observations

    def step(self, actions: NDArray[np.float32]) -> Step:
        """Take one step in every environment.

        Args:
            actions: (N, act_dim), in the unit of the environment; clipped to its bounds.

        Raises:
            FloatingPointError: An action is NaN, or an environment gave a number that is not
                finite, or so large that its square is not; it has not entered the statistics.
            RuntimeError: An environment raised; the message says which one and when.
        """
        actions = np.minimum(np.maximum(actions, self._low), self._high)
        numbers = actions.reshape(-1)
        # MuJoCo would take zero instead.
        if math.isnan(numbers.dot(numbers)):
            raise FloatingPointError(f"{self._env_id}: an action is NaN: {actions.tolist()}")
        rewards: list[float] = []
        terminations: list[bool] = []
        truncations: list[bool] = []
        for i, env in enumerate(self._envs):
            self._lengths[i] += 1
            try:
                self._raw[i], reward, terminated, truncated, _ = env.step(actions[i])
            except Exception as error:
                raise RuntimeError(f"{self._where(i)} raised {error!r}") from error
            reward = float(reward)
            rewards.append(reward)
            terminations.append(bool(terminated))
            truncations.append(bool(truncated) and not terminated)
            self._returns[i] += reward
        # In one number, and squares cannot cancel as infinities can.
        squares = self._raw_numbers.dot(self._raw_numbers) + sum([r * r for r in rewards])
        if not math.isfinite(squares):
            for i, reward in enumerate(rewards):
                self._check_finite(i, reward)

        obs = self.observation_normalizer(self._raw)
        scaled_rewards = self._normalize_rewards(rewards, terminations)
        final_obs, episodes = None, []
        if True in terminations or True in truncations:
            final_obs = obs.copy()
            episodes = self._restart(obs, terminations, truncations)
        self.observations = obs
        return Step(
            obs,
            np.array(scaled_rewards, dtype=np.float32),
            np.array(terminations),
            np.array(truncations),
            final_obs,
            episodes,
        )

    def _restart(
        self, obs: NDArray[np.float32], terminations: list[bool], truncations: list[bool]
    ) -> list[Episode]:
        """Begin new episodes where one ended, and put their observations into ``obs``."""
        episodes = []
        for i in range(len(self._envs)):
            if terminations[i] or truncations[i]:
                episodes.append(Episode(i, self._returns[i], self._lengths[i]))
                self._reset_env(i)
                obs[i] = self.observation_normalizer(self._raw[i : i + 1])[0]
        return episodes

    def _reset_env(self, i: int, seed: int | None = None) -> None:
        """Begin an episode in environment ``i``; its first observation goes to ``_raw``."""
        self._returns[i], self._lengths[i] = 0.0, 0
        try:
            self._raw[i], _ = self._envs[i].reset(seed=seed)
        except Exception as error:
            raise RuntimeError(f"{self._where(i)} raised {error!r}") from error
        self._check_finite(i, 0.0)

    def _check_finite(self, i: int, reward: float) -> None:
        """Raise if the last observation or reward of environment ``i`` has no finite square."""
        if not math.isfinite(reward * reward):
            raise FloatingPointError(f"{self._where(i)} gave the reward {reward}")
        if not math.isfinite(self._raw[i].dot(self._raw[i])):
            entry = np.abs(self._raw[i]).argmax()
            raise FloatingPointError(
                f"{self._where(i)} gave an observation whose entry {entry} is {self._raw[i, entry]}"
            )

    def _where(self, i: int) -> str:
        """Name environment ``i`` and what it was last asked to do."""
        when = f"step {self._lengths[i]} of its episode" if self._lengths[i] else "reset"
        return f"{self._env_id}, environment {i} (seed {self._seeds[i]}), {when}:"

    def state_dict(self) -> dict[str, Any]:
        """Return statistics, running episodes and, of MuJoCo environments, the full state."""
        return {
            "observation_statistics": self.observation_normalizer.statistics.state_dict(),
            "reward_statistics": self._normalize_rewards.state_dict(),
            "observations": self.observations.tolist(),
            "returns": list(self._returns),
            "lengths": list(self._lengths),
            "envs": [env_state(env) for env in self._envs],
        }

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Take over what `state_dict` returned.

        Returns:
            Whether the environments go on where they were. If their state could not be saved,
            new episodes have begun, from seeds of their own: they do not repeat the first ones.
        """
        statistics = self.observation_normalizer.statistics
        statistics.load_state_dict(state["observation_statistics"])
        self._normalize_rewards.load_state_dict(state["reward_statistics"])
        if None in state["envs"]:
            seen = int(statistics.count)
            self._seeds = [
                int(np.random.SeedSequence((seed, seen)).generate_state(1)[0])
                for seed in self._seeds
            ]
            self.reset()
            return False
        for i, saved in enumerate(state["envs"]):
            self._reset_env(i, self._seeds[i])
            set_env_state(self._envs[i], saved)
        self._returns, self._lengths = list(state["returns"]), list(state["lengths"])
        self.observations = np.array(state["observations"], dtype=np.float32)
        return True

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()
