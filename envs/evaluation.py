"""Play whole episodes with a fixed policy and fixed statistics."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hesrl.envs.mujoco import make_env
from hesrl.envs.normalize import ObservationNormalizer
from hesrl.envs.vector import Episode


def evaluate(
    act: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    env_id: str,
    *,
    observation: ObservationNormalizer,
    episodes: int,
    seed: int,
) -> list[Episode]:
    """Play episodes in an environment of their own and return them, with unscaled returns.

    Args:
        act: From a normalized observation (1, obs_dim) to an action (1, act_dim), which is
            clipped to the environment's bounds.
        env_id: Gymnasium id.
        observation: Normalizes the observations; its statistics stay as they are.
        episodes: How many to play.
        seed: Seed of the first one; the others follow from it.
    """
    played = []
    with contextlib.closing(make_env(env_id)) as env:
        low, high = env.action_space.low, env.action_space.high  # type: ignore[attr-defined]
        for episode in range(episodes):
            obs, _ = env.reset(seed=seed if episode == 0 else None)
            episodic_return, length, ended = 0.0, 0, False
            while not ended:
                action = act(observation.normalize(obs[None]))[0]
                obs, reward, terminated, truncated, _ = env.step(np.clip(action, low, high))
                episodic_return += float(reward)
                length += 1
                ended = terminated or truncated
            played.append(Episode(0, episodic_return, length))
    return played
