"""Rewards scaled by the deviation of their return, as Gymnasium's wrapper does it, but cheaper.

The statistics are those of `hesrl.envs.normalize`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hesrl.envs.normalize import CLIP, EPSILON, Statistics


class Rewards(Statistics):
    """Hands rewards on as they are."""

    def __call__(self, rewards: list[float], terminations: list[bool]) -> list[float]:
        """Take in the rewards of one step of all environments; return the rewards to learn from."""
        return rewards


class RewardNormalizer(Rewards):
    """Scales rewards by the standard deviation of the running discounted return, and clips them.

    The discounted return of each environment is ``R ← γ R (1 − terminated) + r``. The statistics
    are shared by the environments. They are computed in plain numbers, which takes a tenth of
    NumPy's time; mujoco_tasks.cpp has the same equations.

    Args:
        gamma: Discount factor γ per environment step.
        num_envs: Environments, each with its own discounted return.
        clip: Bound of the magnitude of scaled rewards.

    Attributes:
        discounted: R of each environment (N,).
        statistics: Mean, variance and weight of all R so far (3,).
    """

    def __init__(self, gamma: float, num_envs: int, clip: float = CLIP) -> None:
        self.gamma, self.clip = gamma, clip
        self.discounted = np.zeros(num_envs)
        self.statistics = np.array([0.0, 1.0, 1e-4])
        # Plain numbers in the same memory.
        self._returns: Any = self.discounted.data
        self._statistics: Any = self.statistics.data

    def __call__(self, rewards: list[float], terminations: list[bool]) -> list[float]:
        """Take the rewards of one step of all environments in and return them normalized."""
        gamma, returns, (mean, var, count) = self.gamma, self._returns, self._statistics
        n = len(returns)
        sum_delta = sum_squares = 0.0
        for i in range(n):
            value = rewards[i] + (0.0 if terminations[i] else gamma * returns[i])
            returns[i] = value
            delta = value - mean
            sum_delta += delta
            sum_squares += delta * delta
        count += n
        weight = n / count
        change = sum_delta / n * weight
        # mean(δ (x − m')), since x − m' = δ − change.
        var += ((sum_squares - sum_delta * change) / n - var) * weight
        self.statistics[:] = mean + change, var, count
        std = math.sqrt(var + EPSILON)
        clip = self.clip
        limit = clip * std
        return [clip if r > limit else -clip if r < -limit else r / std for r in rewards]

    def shared(self) -> dict[str, Any]:
        """Return members of `hesrl.envs.compiled_envs.Envs`, whose arrays a step may change."""
        arrays = {"reward_statistics": self.statistics, "discounted": self.discounted}
        return {**arrays, "gamma": self.gamma, "reward_clip": self.clip}

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics and the discounted returns, fit for a checkpoint."""
        mean, var, count = self.statistics.tolist()
        return {"returns": self.discounted.tolist(), "mean": mean, "var": var, "count": count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.discounted[:] = state["returns"]
        self.statistics[:] = state["mean"], state["var"], state["count"]
