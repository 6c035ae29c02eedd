"""The spaces that agents know, and actions on their way to an environment."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from numpy.typing import NDArray

from hesrl.errors import UserError, one_line

VECTOR_LIKE = "a vector (Box of one dimension), Discrete, MultiDiscrete"


def check_spaces(env_id: str, env: gym.Env[Any, Any]) -> None:
    """Refuse an environment whose spaces no agent knows.

    Args:
        env_id: Its Gymnasium id, for the message.
        env: The environment.

    Raises:
        UserError: The message names the space and what is supported.
    """
    observations, actions = env.observation_space, env.action_space
    if not _is_vector(actions):
        raise UserError(
            f"environment {env_id} has actions {one_line(actions)}; only {VECTOR_LIKE} and "
            "MultiBinary are supported"
        )
    odd = _unknown(observations)
    if odd is None:
        return
    name, space = odd
    entry = f" with the entry {name}: {one_line(space)}" if name else f" {one_line(space)}"
    nested = " (not in a Dict within a Dict)" if is_image(space) else ""
    raise UserError(
        f"environment {env_id} has observations{entry}; only {VECTOR_LIKE}, MultiBinary, an image "
        f"(Box of uint8 in three dimensions){nested} and a Dict of these are supported"
    )


def _is_vector(space: gym.Space[Any]) -> bool:
    if isinstance(space, Box):
        return len(space.shape) == 1
    return isinstance(space, Discrete | MultiDiscrete | MultiBinary)


def _unknown(
    space: gym.Space[Any], name: str = "", depth: int = 0
) -> tuple[str, gym.Space[Any]] | None:
    """Return name and space of the first entry of an observation that no agent knows."""
    if isinstance(space, Dict) and len(space):
        entries = (_unknown(part, f"{name}{key}.", depth + 1) for key, part in space.items())
        return next((entry for entry in entries if entry is not None), None)
    known = _is_vector(space) or (is_image(space) and depth < 2)
    return None if known else (name.rstrip("."), space)


def is_image(space: gym.Space[Any]) -> bool:
    """Return whether observations are images of bytes, (H, W, C) or (C, H, W)."""
    return isinstance(space, Box) and len(space.shape) == 3 and space.dtype == np.uint8


def warn_of_no_bounds(env_id: str, actions: gym.Space[Any]) -> None:
    """Say in one line on standard error that continuous actions have no bounds, if so."""
    if isinstance(actions, Box) and not actions.is_bounded():
        print(
            f"warning: {env_id} has actions without bounds; they reach it as the policy draws "
            "them, not clipped",
            file=sys.stderr,
        )


def other_spaces(env_id: str, trained_in: str, run: Path) -> str:
    """Return what is wrong with an environment in which the policy of a run cannot act."""
    return (
        f"{env_id}: observations or actions are others than those of {trained_in}, in which {run} "
        "was trained"
    )


class BoxActions:
    """Clips continuous actions to the bounds, where there are some.

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


class IndependentActions:
    """Brings several discrete actions, or bits, into shape and type of the space.

    Args:
        env_id: Gymnasium id of the environment, for messages.
        space: Its actions.
    """

    def __init__(self, env_id: str, space: MultiDiscrete | MultiBinary) -> None:
        self._env_id, self._space = env_id, space
        if isinstance(space, MultiDiscrete):
            self._sizes, self._starts = space.nvec.ravel(), space.start.ravel()
        else:
            self._sizes, self._starts = np.full(math.prod(space.shape), 2), np.array(0)

    def __call__(self, actions: NDArray[Any]) -> Any:
        """Return the actions of the space (N, …), for numbers (N, D) from 0.

        Raises:
            ValueError: An action is not one of the space.
        """
        if ((actions < 0) | (actions >= self._sizes)).any():
            raise ValueError(
                f"{self._env_id}: an action is not below {self._sizes.tolist()}: {actions.tolist()}"
            )
        actions = (actions + self._starts).astype(self._space.dtype)
        return actions.reshape(-1, *self._space.shape)


def actions_for(env_id: str, space: gym.Space[Any]) -> Callable[[NDArray[Any]], Any]:
    """Return what brings an agent's actions into a space that `check_spaces` lets through."""
    if isinstance(space, Discrete):
        return DiscreteActions(env_id, space)
    if isinstance(space, MultiDiscrete | MultiBinary):
        return IndependentActions(env_id, space)
    assert isinstance(space, Box)
    return BoxActions(env_id, space)
