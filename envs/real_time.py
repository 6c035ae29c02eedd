"""Environments in real time, which do not wait for the agent."""

from __future__ import annotations

import sys
from abc import abstractmethod
from typing import Any, TypeVar

import gymnasium as gym

from hesrl.errors import UserError

CONFIRMATION = "move"
"""What has to be typed before something moves."""
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

    @property
    @abstractmethod
    def motion(self) -> str:
        """What moves and how fast, for the person who has to agree."""

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


def episode_steps(env: gym.Env[Any, Any]) -> int | None:
    """Return the steps of a whole episode in real time; None for other environments."""
    if (inner := real_time(env)) is None:
        return None
    limit = None if env.spec is None else env.spec.max_episode_steps
    return inner.max_episode_steps if limit is None else min(inner.max_episode_steps, limit)


def confirm(what: str) -> None:
    """Ask before something moves.

    Args:
        what: What will move, and how fast.

    Raises:
        UserError: The answer is another than `CONFIRMATION`.
    """
    print(f"The arm will move {what}. Keep a hand at the emergency stop.")
    try:
        answer = input(f"Type {CONFIRMATION} to go on: ")
    except EOFError:
        answer = ""
    if answer.strip() != CONFIRMATION:
        raise UserError("not confirmed; nothing has moved")


def confirm_motion(env: gym.Env[Any, Any], *, yes: bool) -> None:
    """Say what an environment in real time will move, and ask for it; simulated ones pass.

    Args:
        env: The environment, within its wrappers.
        yes: Whether a script has confirmed it already.

    Raises:
        UserError: It is not confirmed, or there is nobody to ask.
    """
    if (arm := real_time(env)) is None:
        return
    if yes:
        print(f"moving {arm.motion}")
        return
    if not sys.stdin.isatty():
        raise UserError(
            f"this moves {arm.motion}: confirm it at a terminal, or give --yes in a script"
        )
    confirm(arm.motion)
