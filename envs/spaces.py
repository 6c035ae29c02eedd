"""The spaces that agents know, and actions on their way to an environment."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from hesrl.errors import UserError, one_line


def check_spaces(env_id: str, env: gym.Env[Any, Any]) -> None:
    """Refuse an environment whose spaces no agent knows.

    Args:
        env_id: Its Gymnasium id, for the message.
        env: The environment.

    Raises:
        UserError: The message names the space and what is supported.
    """
    observations, actions = env.observation_space, env.action_space
    bounded = isinstance(actions, Box) and len(actions.shape) == 1 and actions.is_bounded()
    if not bounded and not isinstance(actions, Discrete):
        raise UserError(
            f"environment {env_id} has actions {one_line(actions)}; only a bounded vector (Box) "
            "of continuous actions, and Discrete, are supported"
        )
    vector = isinstance(observations, Box) and len(observations.shape) == 1
    if not vector and not is_image(observations):
        raise UserError(
            f"environment {env_id} has observations {one_line(observations)}; only a vector "
            "(Box) and an image (Box of uint8 in three dimensions) are supported"
        )


def is_image(space: gym.Space[Any]) -> bool:
    """Return whether observations are images of bytes, (H, W, C) or (C, H, W)."""
    return isinstance(space, Box) and len(space.shape) == 3 and space.dtype == np.uint8


def other_spaces(env_id: str, trained_in: str, run: Path) -> str:
    """Return what is wrong with an environment in which the policy of a run cannot act."""
    return (
        f"{env_id}: observations or actions are others than those of {trained_in}, in which {run} "
        "was trained"
    )


class BoxActions:
    """Clips continuous actions to the bounds.

    Args:
        env_id: Gymnasium id of the environment, for messages.
        space: Its actions.
    """

    def __init__(self, env_id: str, space: Box) -> None:
        self._env_id = env_id
        # As a batch of one: NumPy takes more than twice as long to broadcast a vector.
        self._low, self._high = space.low[None], space.high[None]

    def __call__(self, actions: NDArray[Any]) -> Any:
        """Return actions (N, act_dim) clipped.

        Raises:
            FloatingPointError: An action is NaN.
        """
        actions = np.minimum(np.maximum(actions, self._low), self._high)
        numbers = actions.ravel()
        # MuJoCo would take zero instead.
        if math.isnan(numbers.dot(numbers)):
            raise FloatingPointError(
                f"{self._env_id}: an action is NaN: {actions.tolist()}; the policy has diverged: "
                "try a smaller step size (--learning-rate, or of stream-ac --eta-policy)"
            )
        return actions


class DiscreteActions:
    """Counts actions from the first one of the space, where an agent counts from 0.

    Args:
        env_id: Gymnasium id of the environment, for messages.
        space: Its actions.
    """

    def __init__(self, env_id: str, space: Discrete) -> None:
        self._env_id, self._n, self._start = env_id, int(space.n), int(space.start)

    def __call__(self, actions: NDArray[Any]) -> Any:
        """Return the actions of the space, as a list, for integers (N,) from 0.

        Raises:
            ValueError: An action is not one of the space.
        """
        numbers: list[int] = actions.tolist()
        if min(numbers) < 0 or max(numbers) >= self._n:
            raise ValueError(f"{self._env_id}: an action is not from 0 to {self._n - 1}: {numbers}")
        return [self._start + number for number in numbers] if self._start else numbers


def actions_for(env_id: str, space: gym.Space[Any]) -> Callable[[NDArray[Any]], Any]:
    """Return what brings an agent's actions into a space that `check_spaces` lets through."""
    if isinstance(space, Discrete):
        return DiscreteActions(env_id, space)
    assert isinstance(space, Box)
    return BoxActions(env_id, space)
