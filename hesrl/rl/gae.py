"""Generalized advantage estimation, for all environments of a rollout at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def compute_gae(
    rewards: NDArray[np.float32],
    values: NDArray[np.float32],
    next_values: NDArray[np.float32],
    dones: NDArray[np.bool_],
    gamma: float,
    gae_lambda: float,
) -> NDArray[np.float32]:
    """Generalized advantage estimation (Schulman et al., 2016).

        δ_t = r_t + γ V(s_{t+1}) − V(s_t),    A_t = δ_t + d_t A_{t+1},
        d_t = γ λ, or 0 if step t ended its episode

    The recurrence is solved by doubling. If A_t sums over k steps, and d_t is the product of the
    decays over these, then A_t + d_t A_{t+k} sums over 2k steps, and d_t d_{t+k} is their product:
    T steps take log2 T vector operations.

    Args:
        rewards: r (T, N).
        values: V(s_t) (T, N).
        next_values: V(s_{t+1}) (T, N): of the state that step t reached, zero if it is terminal.
        dones: Whether step t ended its episode (T, N).
        gamma: γ.
        gae_lambda: λ.

    Returns:
        The advantages A (T, N), float32.
    """
    advantages = (rewards + gamma * next_values - values).astype(np.float64)
    decays = gamma * gae_lambda * (1.0 - dones)
    k = 1
    while k < len(advantages):
        advantages[:-k] += decays[:-k] * advantages[k:]
        decays[:-k] *= decays[k:]
        k *= 2
    return advantages.astype(np.float32)
