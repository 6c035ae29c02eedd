"""Environments in real time, which do not wait for the agent."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, TypeVar

import gymnasium as gym

ObsT = TypeVar("ObsT")
ActT = TypeVar("ActT")


class RealTimeEnv(gym.Env[ObsT, ActT]):
    """An environment that goes on between two steps, such as a robot.

    Between ``reset`` and the first step of an episode everything rests for as long as the agent
    likes: agents learn there. The environment exists only once: training and evaluation share it.
    """

    @property
    @abstractmethod
    def max_episode_steps(self) -> int:
        """Steps after which an episode ends."""

    @abstractmethod
    def halt(self) -> None:
        """Bring everything to rest at once; a step before the next reset is an error.

        A signal handler calls it, which may have interrupted any other method.
        """

    @abstractmethod
    def take_metrics(self) -> dict[str, float]:
        """Return how well time was kept since the last call, such as ``ur5/late_steps``."""


def real_time(env: gym.Env[Any, Any]) -> RealTimeEnv[Any, Any] | None:
    """Return the environment within its wrappers if it is one in real time."""
    inner = env.unwrapped
    return inner if isinstance(inner, RealTimeEnv) else None
