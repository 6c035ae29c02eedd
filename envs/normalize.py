"""Running statistics of observations and rewards, as Gymnasium's wrappers keep them, but cheaper.

Welford's update in Chan's form, for a batch of ``n`` samples with mean ``m_b`` and variance
``v_b``, with δ = m_b − m:

    m ← m + δ n/(c + n),    v ← [v c + v_b n + δ² c n/(c + n)] / (c + n),    c ← c + n

starting from m = 0, v = 1 and c = 1e-4.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

EPSILON = 1e-8
"""Added to the variance before the root is taken."""

CLIP = 10.0
"""Normalized observations and rewards lie within ±CLIP."""


class RunningMeanStd:
    """Mean and variance of all samples so far, in float64.

    Args:
        shape: Shape of one sample; ``()`` for numbers.

    Attributes:
        mean: Mean of the samples.
        var: Their variance.
        count: Their number, plus the small weight of the start.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.mean = np.zeros(shape)
        self.var = np.ones(shape)
        self.count = 1e-4

    def update(self, batch: NDArray[Any]) -> None:
        """Take in samples (n, *shape)."""
        n = len(batch)
        total = self.count + n
        if n == 1:
            delta = batch[0] - self.mean
            self.var *= self.count
        else:
            delta = batch.mean(0) - self.mean
            self.var *= self.count
            self.var += batch.var(0) * n
        self.mean += delta * (n / total)
        self.var += delta * delta * (self.count * n / total)
        self.var /= total
        self.count = total

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics, fit for a checkpoint."""
        return {
            "mean": torch.from_numpy(np.array(self.mean)),
            "var": torch.from_numpy(np.array(self.var)),
            "count": self.count,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.mean[...] = state["mean"].numpy()
        self.var[...] = state["var"].numpy()
        self.count = state["count"]


class Observations(Protocol):
    """Makes of raw observations (n, …) what an agent sees; n may change from call to call."""

    def __call__(self, obs: NDArray[Any]) -> NDArray[Any]:
        """Take observations into the statistics and return them as an agent sees them."""

    def normalize(self, obs: NDArray[Any]) -> NDArray[Any]:
        """Return them as an agent sees them, without changing the statistics."""

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics, fit for a checkpoint."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""


class ObservationNormalizer:
    """Scales observations by their running mean and standard deviation and clips them.

    Args:
        obs_dim: Entries of one observation.
    """

    def __init__(self, obs_dim: int) -> None:
        self.statistics = RunningMeanStd((obs_dim,))

    def __call__(self, obs: NDArray[np.float64]) -> NDArray[np.float32]:
        """Take observations (n, obs_dim) into the statistics and return them normalized."""
        self.statistics.update(obs)
        return self.normalize(obs)

    def normalize(self, obs: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return observations (n, obs_dim) normalized, without changing the statistics."""
        statistics = self.statistics
        scaled = obs - statistics.mean
        scaled /= np.sqrt(statistics.var + EPSILON)
        result = scaled.astype(np.float32)
        return np.minimum(np.maximum(result, -CLIP, out=result), CLIP, out=result)

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics, fit for a checkpoint."""
        return self.statistics.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.statistics.load_state_dict(state)


class ProgressKeepingNormalizer(ObservationNormalizer):
    """Leaves the last entry, the progress of the episode, as it is.

    Args:
        obs_dim: Entries of one observation, the last one included.
    """

    def __init__(self, obs_dim: int) -> None:
        super().__init__(obs_dim - 1)

    def __call__(self, obs: NDArray[np.float64]) -> NDArray[np.float32]:
        """Take observations (n, obs_dim) into the statistics and return them normalized."""
        self.statistics.update(obs[:, :-1])
        return self.normalize(obs)

    def normalize(self, obs: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return observations (n, obs_dim) normalized, without changing the statistics."""
        result = np.empty(obs.shape, dtype=np.float32)
        result[:, :-1] = super().normalize(obs[:, :-1])
        result[:, -1] = obs[:, -1]
        return result


class PlainObservations:
    """Hands observations on as they are: images as bytes, vectors in single precision.

    Args:
        dtype: Their type.
    """

    def __init__(self, dtype: type[np.uint8 | np.float32]) -> None:
        self._dtype = dtype

    def __call__(self, obs: NDArray[Any]) -> NDArray[Any]:
        """Return a copy of observations (n, …)."""
        return obs.astype(self._dtype)

    normalize = __call__

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: there are no statistics."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing over."""


class Rewards(Protocol):
    """Makes of plain rewards those that an agent learns from."""

    def __call__(self, rewards: list[float], terminations: list[bool]) -> list[float]:
        """Take the rewards of one step of all environments in and return those to learn from."""

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics, fit for a checkpoint."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""


class RewardNormalizer:
    """Scales rewards by the standard deviation of the running discounted return, and clips them.

    The discounted return of each environment is ``R ← γ R (1 − terminated) + r``. The statistics
    are plain numbers, shared by the environments, which takes a tenth of NumPy's time.

    Args:
        gamma: Discount factor γ per environment step.
        num_envs: Environments, each with its own discounted return.
    """

    def __init__(self, gamma: float, num_envs: int) -> None:
        self._gamma = gamma
        self._returns = [0.0] * num_envs
        self._mean, self._var, self._count = 0.0, 1.0, 1e-4

    def __call__(self, rewards: list[float], terminations: list[bool]) -> list[float]:
        """Take the rewards of one step of all environments in and return them normalized."""
        gamma = self._gamma
        self._returns = [
            (0.0 if terminated else value * gamma) + reward
            for value, reward, terminated in zip(self._returns, rewards, terminations, strict=True)
        ]
        n = len(rewards)
        batch_mean = sum(self._returns) / n
        batch_var = sum((value - batch_mean) ** 2 for value in self._returns) / n
        total = self._count + n
        delta = batch_mean - self._mean
        self._mean += delta * n / total
        scatter = self._var * self._count + batch_var * n + delta**2 * self._count * n / total
        self._var, self._count = scatter / total, total
        std = math.sqrt(self._var + EPSILON)
        return [min(max(reward / std, -CLIP), CLIP) for reward in rewards]

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics and the discounted returns, fit for a checkpoint."""
        return {
            "returns": list(self._returns),
            "mean": self._mean,
            "var": self._var,
            "count": self._count,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._returns = list(state["returns"])
        self._mean, self._var, self._count = state["mean"], state["var"], state["count"]


class PlainRewards:
    """Hands rewards on as they are."""

    def __call__(self, rewards: list[float], terminations: list[bool]) -> list[float]:
        """Return the rewards."""
        return rewards

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: there are no statistics."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing over."""
