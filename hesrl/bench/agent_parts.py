"""Where an agent's time goes: physics, acting, statistics, advantages, update and logging."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np

from hesrl.envs.mujoco import make_env
from hesrl.runs import Session
from hesrl.train_step import TrainStep

PARTS = ("physics", "acting", "statistics", "advantages", "update", "logging")
"""What a step's time is divided into; what belongs to none of them is left out."""

Parts = dict[str, float]
"""Seconds per environment step, by part."""

SAMPLES = 1000
"""Calls of environment and actor by which their parts of a rollout are told apart."""


@contextlib.contextmanager
def timed_parts(agent: Any, env_id: str) -> Iterator[Parts]:
    """Time the parts of an agent while its ``main`` runs.

    Whole rollouts, batches, updates and rows are timed, from the first row of metrics on. Physics
    and acting, which alternate within a rollout, are timed afterwards on their own; what is left
    of a rollout is statistics and bookkeeping.

    Args:
        agent: The module of the agent.
        env_id: Gymnasium id of the environment that it trains in.

    Yields:
        The parts, complete after the block.
    """
    clock, parts = _Clock(), Parts()
    with (
        mock.patch.object(agent, "rollout", clock.rollout(agent.rollout)),
        mock.patch.object(agent, "make_batch", clock.around("advantages", agent.make_batch)),
        mock.patch.object(TrainStep, "__call__", clock.around("update", TrainStep.__call__)),
        mock.patch.object(Session, "log", clock.log(Session.log)),
        mock.patch.object(Session, "log_episode", clock.around("logging", Session.log_episode)),
        mock.patch.object(Session, "save", clock.around("logging", Session.save)),
    ):
        yield parts
    parts |= clock.parts(env_id)


class _Clock:
    """Adds up seconds by part, from the first row of metrics on."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(("rollout", *PARTS), 0.0)
        self._counts, self._steps = False, 0
        self._acting: Any = None
        self._storage: Any = None

    def around(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = function(*args, **kwargs)
            if self._counts:
                self._seconds[part] += time.perf_counter() - start
            return result

        return timed

    def log(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``Session.log``, timed; its first call starts the clock."""
        timed = self.around("logging", function)

        def starts_the_clock(*args: Any) -> None:
            timed(*args)
            self._counts = True

        return starts_the_clock

    def rollout(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``rollout``, timed, with its steps counted."""
        timed = self.around("rollout", function)

        def counted(envs: Any, acting: Any, num_steps: int, rng: Any, **kwargs: Any) -> Any:
            storage = timed(envs, acting, num_steps, rng, **kwargs)
            self._steps += storage.rewards.size if self._counts else 0
            self._acting, self._storage = acting, storage
            return storage

        return counted

    def parts(self, env_id: str) -> Parts:
        """Return seconds per environment step, by part."""
        num_envs = self._storage.obs.shape[1]
        seconds = {part: total / self._steps for part, total in self._seconds.items()}
        physics = _seconds_of_physics(env_id)
        acting = _seconds_of_acting(self._acting, self._storage) / num_envs
        rollout = seconds.pop("rollout")
        return {
            **seconds,
            "physics": physics,
            "acting": acting,
            "statistics": rollout - physics - acting,
        }


def _seconds_of_physics(env_id: str) -> float:
    """Return the seconds of one step of the plain environment, episodes' ends left out."""
    env, total = make_env(env_id).unwrapped, 0.0
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(SAMPLES):
        action = env.action_space.sample()
        start = time.perf_counter()
        _, _, terminated, _, _ = env.step(action)
        total += time.perf_counter() - start
        if terminated:
            env.reset()
    env.close()
    return total / SAMPLES


def _seconds_of_acting(acting: Any, storage: Any) -> float:
    """Return the seconds of acting once, in all environments."""
    obs = storage.next_obs
    sample = acting.sampler(np.random.default_rng(0), SAMPLES, len(obs))
    start = time.perf_counter()
    for step in range(SAMPLES):
        sample(step, obs)
    return (time.perf_counter() - start) / SAMPLES
