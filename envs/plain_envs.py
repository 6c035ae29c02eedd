"""N environments stepped in this process, with all that they give as they give it.

MuJoCo's v5 tasks step together, in MuJoCo's threads (`batched_envs`); other environments step in
turn. No worker processes: they were measured four times as slow.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from hesrl.envs.batched_envs import BatchedEnvs, threads_for
from hesrl.envs.compiled_steps import CompiledSteps, Status
from hesrl.envs.env_errors import check_numbers, check_shape, malformed, raised
from hesrl.envs.mujoco import env_states, set_env_states
from hesrl.envs.mujoco_threads import SimulationError
from hesrl.envs.real_time import RealTimeEnv, real_time
from hesrl.envs.spaces import actions_for, is_image, warn_of_no_bounds
from hesrl.envs.steps import Bools, Episode, Outcome
from hesrl.errors import EnvironmentFault, UserError


class PlainEnvs:
    """Steps, episodes, faults and state of environments of one kind.

    Args:
        env_id: Their Gymnasium id, for messages.
        envs: N environments, made alike.
        seed: Environment i starts from ``seed + i``.
        limit: Squares of rewards and of the norm of vectors of observations are below it.
        threads: Threads that step them, as `threads_for` takes them.

    Attributes:
        envs: The environments.
        observation_space: Of one environment, the progress included.
        action_space: Of one environment.
        real_time: The environment, if it is one in real time; else None.
        raw: Observations (N, …), as the environments gave them: in double precision, or images.
        together: What steps the environments together; None: they step in turn.
        compiled: What steps them in one call of C, if anything does.
        fault: What broke the last step, in real time: there is nothing to learn from it.

    Raises:
        UserError: The environments cannot be so many, or step in so many threads.
    """

    def __init__(
        self,
        env_id: str,
        envs: Sequence[gym.Env[Any, Any]],
        *,
        seed: int,
        limit: float,
        threads: int | None,
    ) -> None:
        self._env_id, self.envs, self._limit = env_id, envs, limit
        num_envs = len(envs)
        self._seeds = [seed + i for i in range(num_envs)]
        self.real_time: RealTimeEnv[Any, Any] | None = real_time(envs[0])
        if self.real_time is not None and num_envs > 1:
            raise UserError(
                f"--num-envs {num_envs}: {env_id} runs in real time and is there only once; give 1"
            )
        observations, self.action_space = envs[0].observation_space, envs[0].action_space
        assert isinstance(observations, Box)
        warn_of_no_bounds(env_id, self.action_space)
        self.observation_space: Box = observations
        self._actions_for_envs = actions_for(env_id, self.action_space)
        images, shape = is_image(observations), (num_envs, *observations.shape)
        self.raw: NDArray[Any] = np.empty(shape, dtype=np.uint8 if images else np.float64)
        self._numbers = np.zeros(0) if images else self.raw.reshape(-1)  # bytes are finite
        self._returns: Any = [0.0] * num_envs
        self._lengths: Any = [0] * num_envs
        self._steps_before = self._faults = 0
        self.fault: str | None = None
        self.together: BatchedEnvs | None = None
        self.compiled: CompiledSteps | None = None
        if (threads := threads_for(env_id, envs, threads)) is not None:
            self.together = BatchedEnvs(envs, threads, self.raw)
            self.compiled = self.together.compiled
            self._returns, self._lengths = np.array(self._returns), np.array(self._lengths)
        if self.compiled is not None:
            counts = {"lengths": self._lengths, "returns": self._returns}
            self.compiled.follow(**counts, square_limit=limit)

    @property
    def steps(self) -> int:
        """Environment steps so far, of all environments, including the steps before a resume."""
        return self._steps_before + int(sum(self._lengths))

    def step(self, actions: NDArray[Any]) -> Outcome:
        """Step all environments as `NormalizedEnvs.step` does; observations go to ``raw``."""
        if self.together is not None:
            return self._step_together(self.together, actions)
        given = self._actions_for_envs(actions)
        raw, lengths, returns = self.raw, self._lengths, self._returns
        outcome: Outcome = [], [], []
        rewards, terminations, truncations = outcome
        squares = 0.0  # in one number, and squares cannot cancel as infinities can
        for i, env in enumerate(self.envs):
            lengths[i] += 1
            try:
                returned = env.step(given[i])
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
                    self.fault = str(info["fault"])
                elif not np.isfinite(raw[i]).all():
                    raise EnvironmentFault(f"{self._where(i)} {info['fault']}")
            rewards.append(reward)
            squares += reward * reward
            terminations.append(bool(terminated))
            truncations.append(bool(truncated) and not terminated)
            returns[i] += reward
        squares += self._numbers.dot(self._numbers)
        if self.fault is None and not squares < self._limit:
            self._check(rewards)
        return outcome

    def _step_together(self, together: BatchedEnvs, actions: NDArray[Any]) -> Outcome:
        """Do as `step` does, for all environments at once."""
        given = self._actions_for_envs(actions)
        self._lengths += 1
        try:
            rewards, terminations, truncations = together.step(given)
        except SimulationError as error:
            raise raised(self._where(error.number), error) from error
        self._returns += rewards
        if not rewards.dot(rewards) + self._numbers.dot(self._numbers) < self._limit:
            self._check(rewards.tolist())
        return rewards.tolist(), terminations.tolist(), truncations.tolist()

    def compiled_ends(self, status: Status, actions: NDArray[Any]) -> tuple[Bools, Bools]:
        """Return which episodes a compiled step ended, or raise what stopped it."""
        assert self.together is not None and self.compiled is not None
        if status is Status.FAILED:
            try:
                raise self.together.failure()
            except SimulationError as error:
                raise raised(self._where(error.number), error) from error
        if status is Status.NO_ACTION:
            self._actions_for_envs(actions)
        if status is Status.NOT_FINITE:
            self._check(self.compiled.rewards.tolist())
        return self.compiled.terminated.copy(), self.compiled.truncated.copy()

    def _check(self, rewards: list[float]) -> None:
        """Refuse numbers that are not finite, or too large."""
        for i, reward in enumerate(rewards):
            check_numbers(self._where(i), self.raw[i], reward, self._limit)

    def reset(self) -> None:
        """Begin the first episodes, from the seeds."""
        for i, seed in enumerate(self._seeds):
            self.restart(i, seed)

    def restart(self, i: int, seed: int | None = None) -> Episode:
        """Begin an episode in environment ``i``, whose first observation goes to ``raw``.

        Returns:
            The episode before it.

        Raises:
            FloatingPointError, EnvironmentFault: As `NormalizedEnvs.step` does.
        """
        episode = Episode(i, float(self._returns[i]), int(self._lengths[i]))
        self._steps_before += episode.episodic_length
        self._returns[i], self._lengths[i] = 0.0, 0
        try:
            obs, info = self.envs[i].reset(seed=seed)
        except Exception as error:
            raise raised(self._where(i), error) from error
        if self.real_time is not None:
            for fault in info.get("faults", ()):
                self._say(fault)
        where = self._where(i)
        check_shape(where, obs, self.raw[i])
        self.raw[i] = obs
        check_numbers(where, self.raw[i], 0.0, self._limit)
        if self.together is not None:
            self.together.take_over(i)
        return episode

    def take_back(self, fault: str) -> None:
        """Say what broke the last step, and do not count the step."""
        self._say(fault)
        self.fault = None
        self._lengths[0] -= 1

    def _say(self, fault: str) -> None:
        """Say that a fault has come, after which training goes on."""
        self._faults += 1
        print(f"link fault {self._faults}, {self._where(0)} {fault}", file=sys.stderr, flush=True)

    def _where(self, i: int) -> str:
        """Name environment ``i`` and what it was last asked to do."""
        when = f"step {self._lengths[i]} of its episode" if self._lengths[i] else "reset"
        return (
            f"{self._env_id}, environment {i} (seed {self._seeds[i]}), {when}, "
            f"step {self.steps} of the run:"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the running episodes and, of MuJoCo environments, the full state."""
        if self.together is not None:
            self.together.hand_back()
        return {
            "steps": self.steps,
            "returns": [float(value) for value in self._returns],
            "lengths": [int(length) for length in self._lengths],
            "envs": env_states(self.envs),
        }

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Take over what `state_dict` returned, as `NormalizedEnvs.load_state_dict` does."""
        if isinstance(state["envs"], list):
            raise UserError(
                "the checkpoint is of an earlier version of hesrl: resume it with that one, or "
                "start anew"
            )
        goes_on = state["envs"] is not None
        if not goes_on:
            self._seeds = [
                int(np.random.SeedSequence((seed, state["steps"])).generate_state(1)[0])
                for seed in self._seeds
            ]
        self._lengths[:] = [0] * len(self.envs)
        self._steps_before = state["steps"]
        self.reset()
        if goes_on:
            set_env_states(self.envs, state["envs"])
            self._returns[:], self._lengths[:] = state["returns"], state["lengths"]
            self._steps_before -= sum(state["lengths"])
            if self.together is not None:
                for i in range(len(self.envs)):
                    self.together.take_over(i)
        return goes_on
