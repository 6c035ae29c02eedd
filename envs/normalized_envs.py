"""N environments stepped in this process, with normalized observations and rewards.

MuJoCo's v5 tasks step together, in MuJoCo's threads (`batched_envs`), most of them in one call of C
with their statistics; other environments step in turn. No worker processes: they were measured four
times as slow.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray

from hesrl.envs.batched_envs import BatchedEnvs, is_compiled, why_not_batched
from hesrl.envs.compiled_steps import CompiledSteps, Status
from hesrl.envs.env_errors import check_numbers, check_shape, malformed, raised
from hesrl.envs.flat_observations import FlatBox
from hesrl.envs.mujoco import env_states, make_env, set_env_states
from hesrl.envs.mujoco_threads import SimulationError
from hesrl.envs.normalize import (
    CLIP,
    LeadingNormalizer,
    ObservationNormalizer,
    Observations,
    RewardNormalizer,
    Rewards,
)
from hesrl.envs.real_time import real_time
from hesrl.envs.spaces import actions_for, is_image, warn_of_no_bounds
from hesrl.envs.steps import Episode, Sampler, Step
from hesrl.errors import EnvironmentFault, UserError
from hesrl.rl.threads import cores, cores_of_a_run

FEWEST_TOGETHER = 4
"""Environments from which on they step in threads by themselves."""


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
        observation_space: Of one environment, the progress included.
        action_space: Of one environment.
        observations: The observations to act on next (N, …).
        observation_normalizer: The statistics of the observations.
        together: What steps the environments together; None: they step in turn.
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
        self._env_id = env_id
        self._seeds = [seed + i for i in range(num_envs)]
        options = env_options or {}
        self._envs = [make_env(env_id, progress=progress, **options) for _ in range(num_envs)]
        self._real_time = real_time(self._envs[0])
        if self._real_time is not None and num_envs > 1:
            raise UserError(
                f"--num-envs {num_envs}: {env_id} runs in real time and is there only once; give 1"
            )
        self.halt: Callable[[], None] | None = (
            None if self._real_time is None else self._real_time.halt
        )
        observations, actions = self._envs[0].observation_space, self._envs[0].action_space
        assert isinstance(observations, Box)
        warn_of_no_bounds(env_id, actions)
        self.observation_space: Box = observations
        self.action_space: gym.Space[Any] = actions
        self._actions_for_envs = actions_for(env_id, actions)
        self._raw: NDArray[Any]
        self.observation_normalizer: Observations
        if is_image(observations):
            self._raw = np.empty((num_envs, *observations.shape), dtype=np.uint8)
            self._raw_numbers = np.zeros(0)  # bytes are finite
            self.observation_normalizer = Observations(np.uint8)
        else:
            self._raw = np.empty((num_envs, *observations.shape))
            self._raw_numbers = self._raw.reshape(-1)
            self.observation_normalizer = Observations(np.float32)
            size, kept = observations.shape[0], int(progress)
            if isinstance(observations, FlatBox):
                kept += size - observations.vector_size
            if normalize_observations and kept < size:
                normalizer = ObservationNormalizer(size, clip)
                if kept:
                    normalizer = LeadingNormalizer(size, kept, clip)
                normalizer.follow(self._raw)
                self.observation_normalizer = normalizer
        self._rewards_to_learn: Rewards = (
            RewardNormalizer(gamma, num_envs, clip) if normalize_rewards else Rewards()
        )
        # What is not scaled has to fit into single precision.
        scaled = normalize_observations and normalize_rewards
        self._limit = math.inf if scaled else float(np.finfo(np.float32).max) ** 2
        # What nearly every step shares.
        self._none_ended = np.zeros(num_envs, dtype=bool)
        self._none_ended.setflags(write=False)
        self._returns: Any = [0.0] * num_envs
        self._lengths: Any = [0] * num_envs
        self.together: BatchedEnvs | None = None
        self._compiled: CompiledSteps | None = None
        threads = self._threads(env_threads)
        if threads is not None:
            self.together = BatchedEnvs(self._envs, threads, self._raw)
            self._returns, self._lengths = np.array(self._returns), np.array(self._lengths)
            if self.together.compiled is not None:
                self._compiled = self.together.compiled
                self._compiled.follow(
                    **self.observation_normalizer.shared(),
                    **self._rewards_to_learn.shared(),
                    lengths=self._lengths,
                    returns=self._returns,
                    square_limit=self._limit,
                )
        self._steps_before = 0
        self._fault: str | None = None
        self._faults = 0
        self.observations = self.observation_normalizer.normalize(np.zeros_like(self._raw))

    def _threads(self, wanted: int | None) -> int | None:
        """Return in how many threads the environments step together; None: they step in turn."""
        num_envs, reason = len(self._envs), why_not_batched(self._envs[0])
        if wanted is None:
            if reason is None and num_envs >= FEWEST_TOGETHER:
                return min(cores_of_a_run(), num_envs)
            return 1 if reason is None and is_compiled(self._envs[0]) else None
        if reason is not None and wanted > 1:
            raise UserError(
                f"--env-threads {wanted}: {self._env_id} cannot step in threads, because {reason}; "
                "leave the option out"
            )
        return None if reason is not None else min(wanted, cores(), num_envs)

    @property
    def steps(self) -> int:
        """Environment steps so far, of all environments, including the steps before a resume."""
        return self._steps_before + int(sum(self._lengths))

    @property
    def real_time(self) -> bool:
        """Whether the environment runs in real time, so that learning must not interrupt it."""
        return self._real_time is not None

    @property
    def episode_steps(self) -> int | None:
        """Steps of a whole episode in real time; None for other environments."""
        if self._real_time is None:
            return None
        spec, own = self._envs[0].spec, self._real_time.max_episode_steps
        limit = None if spec is None else spec.max_episode_steps
        return own if limit is None else min(own, limit)

    def take_metrics(self) -> dict[str, float]:
        """Return how well the environment kept time since the last call; nothing if simulated."""
        return {} if self._real_time is None else self._real_time.take_metrics()

    def lend(self) -> gym.Env[Any, Any]:
        """Return the only environment there is in real time, for what follows training."""
        return self._envs[0]

    def reset(self) -> NDArray[Any]:
        """Begin the first episodes and return the observations to act on (N, …).

        Raises:
            FloatingPointError: As `step` does.
            EnvironmentFault: As `step` does.
        """
        for i, seed in enumerate(self._seeds):
            self._reset_env(i, seed)
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
        given = self._actions_for_envs(actions)
        step_envs = self._step_in_turn if self.together is None else self._step_together
        rewards, terminations, truncations, squares = step_envs(given)
        if self._fault is not None:
            return self._dropped(self._fault)
        if not squares + self._raw_numbers.dot(self._raw_numbers) < self._limit:
            for i, reward in enumerate(rewards):
                check_numbers(self._where(i), self._raw[i], reward, self._limit)

        obs = self.observation_normalizer(self._raw)
        learned_rewards = np.array(self._rewards_to_learn(rewards, terminations), dtype=np.float32)
        self.observations = obs
        if True in terminations or True in truncations:
            return self._ended(obs, learned_rewards, np.array(terminations), np.array(truncations))
        return Step(obs, learned_rewards, self._none_ended, self._none_ended, None, [])

    def advance(
        self,
        sampler: Sampler,
        step: int,
        obs: NDArray[Any],
        actions: NDArray[Any],
        rewards: NDArray[np.float32],
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
            FloatingPointError: As `step` does.
            EnvironmentFault: As `step` does.
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
            len(actions) - step, obs[step:], actions[step:], sampler.noise[step:], rewards[step:],
            actor,
        )  # fmt: skip
        last = step + taken
        drawn = actions[min(last, len(actions) - 1)]
        return taken, self._taken(compiled.status, drawn, obs[last], rewards[last - 1])

    def _taken(
        self,
        status: Status,
        actions: NDArray[Any],
        obs: NDArray[np.float32],
        rewards: NDArray[np.float32],
    ) -> Step:
        """Return what a compiled step gave, or raise what stopped it."""
        assert self.together is not None and self._compiled is not None
        if status is Status.GOES_ON:
            self.observations = obs
            return Step(obs, rewards, self._none_ended, self._none_ended, None, [])
        if status is Status.FAILED:
            try:
                raise self.together.failure()
            except SimulationError as error:
                raise raised(self._where(error.number), error) from error
        if status is Status.NO_ACTION:
            self._actions_for_envs(actions)
        if status is Status.NOT_FINITE:
            for i, reward in enumerate(self._compiled.rewards.tolist()):
                check_numbers(self._where(i), self._raw[i], reward, self._limit)
        self.observations = obs
        return self._ended(
            obs, rewards, self._compiled.terminated.copy(), self._compiled.truncated.copy()
        )

    def _ended(
        self,
        obs: NDArray[Any],
        rewards: NDArray[np.float32],
        terminations: NDArray[np.bool_],
        truncations: NDArray[np.bool_],
    ) -> Step:
        """Begin new episodes, whose observations go to ``obs``, where one ended."""
        final_obs = obs.copy()
        episodes = self._restart(obs, terminations, truncations)
        return Step(obs, rewards, terminations, truncations, final_obs, episodes)

    def _step_in_turn(self, actions: Any) -> tuple[list[float], list[bool], list[bool], float]:
        """Step one environment after the other; their observations go to ``_raw``.

        Returns:
            Rewards, terminations, truncations, and the sum of the squares of the rewards: in one
            number, and squares cannot cancel as infinities can.
        """
        raw, lengths, returns = self._raw, self._lengths, self._returns
        rewards: list[float] = []
        terminations: list[bool] = []
        truncations: list[bool] = []
        squares = 0.0
        for i, env in enumerate(self._envs):
            lengths[i] += 1
            try:
                returned = env.step(actions[i])
            except Exception as error:
                raise raised(self._where(i), error) from error
            try:
                raw[i], reward, terminated, truncated, info = returned
                reward = float(reward)
                has_fault = "fault" in info
            except (TypeError, ValueError) as error:
                raise malformed(self._where(i), returned, raw[i]) from error
            if has_fault:
                if info.get("broken"):
                    self._fault = str(info["fault"])
                elif not np.isfinite(raw[i]).all():
                    raise EnvironmentFault(f"{self._where(i)} {info['fault']}")
            rewards.append(reward)
            squares += reward * reward
            terminations.append(bool(terminated))
            truncations.append(bool(truncated) and not terminated)
            returns[i] += reward
        return rewards, terminations, truncations, squares

    def _step_together(self, actions: Any) -> tuple[list[float], list[bool], list[bool], float]:
        """Do as `_step_in_turn` does, for all environments at once."""
        assert self.together is not None
        self._lengths += 1
        try:
            rewards, terminations, truncations = self.together.step(actions)
        except SimulationError as error:
            raise raised(self._where(error.number), error) from error
        self._returns += rewards
        # Plain numbers: the statistics of rewards take one after the other.
        lists = rewards.tolist(), terminations.tolist(), truncations.tolist()
        return *lists, float(rewards.dot(rewards))

    def _dropped(self, fault: str) -> Step:
        """Begin a new episode, as if the step that a fault broke had not been taken."""
        self._say(fault)
        self._fault = None
        self._lengths[0] -= 1
        self.cut_off()
        no_rewards = np.zeros(1, dtype=np.float32)
        return Step(
            self.observations, no_rewards, self._none_ended, self._none_ended, None, [], fault
        )

    def _say(self, fault: str) -> None:
        """Say that a fault has come, after which training goes on."""
        self._faults += 1
        print(f"link fault {self._faults}, {self._where(0)} {fault}", file=sys.stderr, flush=True)

    def cut_off(self) -> NDArray[Any]:
        """Begin new episodes in place of the running ones, which do not count as ended.

        Returns:
            The last observations of the old episodes (N, …). `observations` has the first
            observations of the new episodes.

        Raises:
            FloatingPointError: As `step` does.
            EnvironmentFault: As `step` does.
        """
        final_obs = self.observations
        for i in range(len(self._envs)):
            self._reset_env(i)
        self.observations = self.observation_normalizer(self._raw)
        return final_obs

    def _restart(
        self, obs: NDArray[Any], terminations: NDArray[np.bool_], truncations: NDArray[np.bool_]
    ) -> list[Episode]:
        """Begin new episodes where one ended, and put their observations into ``obs``."""
        episodes = []
        for i in range(len(self._envs)):
            if terminations[i] or truncations[i]:
                episodes.append(Episode(i, float(self._returns[i]), int(self._lengths[i])))
                self._reset_env(i)
                obs[i] = self.observation_normalizer(self._raw[i : i + 1])[0]
        return episodes

    def _reset_env(self, i: int, seed: int | None = None) -> None:
        """Begin an episode in environment ``i``; its first observation goes to ``_raw``."""
        self._steps_before += int(self._lengths[i])
        self._returns[i], self._lengths[i] = 0.0, 0
        try:
            obs, info = self._envs[i].reset(seed=seed)
        except Exception as error:
            raise raised(self._where(i), error) from error
        if self._real_time is not None:
            for fault in info.get("faults", ()):
                self._say(fault)
        where = self._where(i)
        check_shape(where, obs, self._raw[i])
        self._raw[i] = obs
        check_numbers(where, self._raw[i], 0.0, self._limit)
        if self.together is not None:
            self.together.take_over(i)

    def _where(self, i: int) -> str:
        """Name environment ``i`` and what it was last asked to do."""
        when = f"step {self._lengths[i]} of its episode" if self._lengths[i] else "reset"
        return (
            f"{self._env_id}, environment {i} (seed {self._seeds[i]}), {when}, "
            f"step {self.steps} of the run:"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return statistics, running episodes and, of MuJoCo environments, the full state."""
        if self.together is not None:
            for i in range(len(self._envs)):
                self.together.hand_back(i)
        return {
            "observation_statistics": self.observation_normalizer.state_dict(),
            "reward_statistics": self._rewards_to_learn.state_dict(),
            "observations": torch.from_numpy(self.observations.copy()),
            "steps": self.steps,
            "returns": [float(value) for value in self._returns],
            "lengths": [int(length) for length in self._lengths],
            "envs": env_states(self._envs),
        }

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Take over what `state_dict` returned.

        Returns:
            Whether the environments go on where they were. If their state could not be saved,
            new episodes have begun, from seeds of their own: they do not repeat the first ones.

        Raises:
            UserError: The state is of a version that saved each environment by itself.
        """
        if isinstance(state["envs"], list):
            raise UserError(
                "the checkpoint is of an earlier version of hesrl: resume it with that one, or "
                "start anew"
            )
        self.observation_normalizer.load_state_dict(state["observation_statistics"])
        self._rewards_to_learn.load_state_dict(state["reward_statistics"])
        if state["envs"] is None:
            self._seeds = [
                int(np.random.SeedSequence((seed, state["steps"])).generate_state(1)[0])
                for seed in self._seeds
            ]
            self._lengths[:] = [0] * len(self._envs)
            self._steps_before = state["steps"]
            self.reset()
            return False
        for i, seed in enumerate(self._seeds):
            self._reset_env(i, seed)
        set_env_states(self._envs, state["envs"])
        if self.together is not None:
            for i in range(len(self._envs)):
                self.together.take_over(i)
        self._returns[:], self._lengths[:] = state["returns"], state["lengths"]
        self._steps_before = state["steps"] - sum(state["lengths"])
        self.observations = state["observations"].numpy().copy()
        return True

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()
