"""What a step of N environments takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hesrl.envs.compiled_envs import Actor

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Outcome = tuple[list[float], list[bool], list[bool]]
"""Rewards of a step, whether it reached a terminal state, and whether a time limit alone ended an
episode: plain numbers, because the statistics of rewards take one after the other."""


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

    obs: NDArray[Any]
    """Observations to act on next (N, …): of the new episode where one ended."""
    rewards: Floats
    """Rewards to learn from (N,)."""
    terminations: Bools
    """Whether the environment reached a terminal state (N,); read-only where no episode ended."""
    truncations: Bools
    """Whether a time limit alone ended the episode (N,); read-only where no episode ended."""
    final_obs: NDArray[Any] | None
    """Observations that the step led to (N, …), if any episode ended."""
    episodes: list[Episode]
    """The episodes that ended."""
    fault: str | None = None
    """What broke the step, in real time: there is nothing to learn from it, and ``obs`` are those
    of a new episode."""


@dataclass(frozen=True)
class Sampler:
    """Draws the actions of a rollout of T steps."""

    draw: Callable[[int, NDArray[Any]], NDArray[Any]]
    """From the number of the step, from 0, and the observations (N, …) to the actions of all."""
    noise: NDArray[Any]
    """What makes the actions random (T, N, …)."""
    actor: Actor | None = None
    """Draws the same actions within a compiled step; None: it cannot."""
