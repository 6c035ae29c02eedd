"""Rollouts of random numbers, for tests of what learns from them."""

import numpy as np

from hesrl.rollout import Rollout


def random_rollout(steps: int, envs: int, obs_dim: int, act_dim: int) -> Rollout:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal((steps, envs, *shape), dtype=np.float32)

    return Rollout(
        obs=normal(obs_dim),
        actions=normal(act_dim),
        noise=normal(act_dim),
        rewards=normal(),
        terminations=np.zeros((steps, envs), dtype=bool),
        truncations=np.zeros((steps, envs), dtype=bool),
        final_obs=normal(obs_dim),
        next_obs=np.zeros((envs, obs_dim), dtype=np.float32),
        episodes=[],
    )
