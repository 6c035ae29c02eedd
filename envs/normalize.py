"""Running statistics of observations and rewards, as Gymnasium's wrappers keep them, but cheaper.

Welford's update for a batch of ``n`` samples x, with δ = x − m and the new mean in x − m':

    m' = m + w mean(δ),    v' = v + w [mean(δ (x − m')) − v],    w = n/(c + n),    c' = c + n

starting from m = 0, v = 1 and c = 1e-4. It is Chan's update of the batch's own mean and variance,
in other terms; what is normalized is x − m', which is at hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hesrl.envs.compiled_normalize import compiled_normalize

EPSILON = 1e-8
"""Added to the variance before the root is taken."""

CLIP = 10.0
"""Normalized observations and rewards lie within ±CLIP, unless another bound is given."""


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
        # As batches of one, and numbers as arrays: NumPy takes longer to broadcast a vector or to
        # take in a float.
        self._mean = np.zeros((1, *shape))
        self._var = np.ones((1, *shape))
        self.mean, self.var = self._mean[0, ...], self._var[0, ...]
        self.count = 1e-4
        self._epsilon = np.array(EPSILON)

    def update(self, batch: NDArray[Any]) -> NDArray[np.float64]:
        """Take in samples (n, *shape) and return their `deviations` from the new mean."""
        n = len(batch)
        self.count += n
        weight = np.array(n / self.count)
        delta = batch - self._mean
        self._mean += _batch_mean(delta) * weight
        deviations = batch - self._mean
        self._var += (_batch_mean(delta * deviations) - self._var) * weight
        return deviations

    def deviations(self, batch: NDArray[Any]) -> NDArray[np.float64]:
        """Return how far samples (n, *shape) lie from the mean."""
        return batch - self._mean

    def std(self) -> NDArray[np.float64]:
        """Return the standard deviation (1, *shape)."""
        return np.sqrt(self._var + self._epsilon)

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


def _batch_mean(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of a batch (n, …); `numpy.mean` takes three times as long for small ones."""
    return rows if len(rows) == 1 else np.add.reduce(rows) / len(rows)


class Observations:
    """Hands observations on as they are: images as bytes, vectors in single precision.

    Args:
        dtype: Type of the observations that are handed on.
    """

    def __init__(self, dtype: type[np.uint8 | np.float32] = np.float32) -> None:
        self._dtype = dtype

    def __call__(self, obs: NDArray[Any]) -> NDArray[Any]:
        """Take observations (n, …) into the statistics and return them as an agent sees them."""
        return self.normalize(obs)

    def normalize(self, obs: NDArray[Any]) -> NDArray[Any]:
        """Return observations (n, …) as an agent sees them; the statistics stay the same."""
        return obs.astype(self._dtype)

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics, fit for a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""


class ObservationNormalizer(Observations):
    """Scales observations by their running mean and standard deviation and clips them.

    Args:
        obs_dim: Entries of one observation.
        clip: Bound of their magnitude.
    """

    def __init__(self, obs_dim: int, clip: float = CLIP) -> None:
        self.statistics = RunningMeanStd((obs_dim,))
        self._high = np.full((1, obs_dim), clip, dtype=np.float32)
        self._low = -self._high
        self._followed: NDArray[np.float64] | None = None

    def follow(self, obs: NDArray[np.float64]) -> None:
        """Prepare to be called with one and the same array (n, …) often: in C, if it compiles."""
        compiled, statistics = compiled_normalize(), self.statistics
        if compiled is None:
            return
        assert obs.flags.c_contiguous and obs.dtype == np.float64
        sizes = (*obs.shape, len(statistics.mean))
        addresses = statistics.mean.ctypes.data, statistics.var.ctypes.data
        self._normalize = partial(compiled, obs.ctypes.data, *sizes, *addresses)
        self._followed, self._clip = obs, float(self._high[0, 0])
        self._results = _Rows(obs.shape)

    def __call__(self, obs: NDArray[np.float64]) -> NDArray[np.float32]:
        """Take observations (n, obs_dim) into the statistics and return them normalized."""
        if obs is not self._followed:
            return self.update(obs)
        statistics = self.statistics
        n = len(obs)
        statistics.count += n
        result, address = self._results.take()
        self._normalize(n / statistics.count, self._clip, address)
        return result

    def update(self, obs: NDArray[np.float64]) -> NDArray[np.float32]:
        """Do as a call does, in NumPy."""
        return self._scaled(self.statistics.update(obs))

    def normalize(self, obs: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return observations (n, obs_dim) normalized, without changing the statistics."""
        return self._scaled(self.statistics.deviations(obs))

    def _scaled(self, deviations: NDArray[np.float64]) -> NDArray[np.float32]:
        """Divide deviations from the mean by the standard deviation, and clip them."""
        scaled = (deviations / self.statistics.std()).astype(np.float32)
        return np.minimum(np.maximum(scaled, self._low), self._high)

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics, fit for a checkpoint."""
        return self.statistics.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.statistics.load_state_dict(state)


class _Rows:
    """Hands out arrays of one shape: parts of larger ones, whose addresses cost nothing to know.

    Args:
        shape: Their shape.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = (max(1, 2**16 // math.prod(shape)), *shape)
        self._left: Iterator[tuple[NDArray[np.float32], int]] = iter(())

    def take(self) -> tuple[NDArray[np.float32], int]:
        """Return a new array and its address."""
        for row in self._left:
            return row
        rows = np.empty(self._shape, dtype=np.float32)
        self._left = zip(rows, count(rows.ctypes.data, rows[0].nbytes))
        return self.take()


class LeadingNormalizer(ObservationNormalizer):
    """Leaves the last entries as they are: the progress of the episode, or the pixels of images.

    Args:
        obs_dim: Entries of one observation, the last ones included.
        kept: How many last ones there are.
        clip: Bound of the magnitude of the others.
    """

    def __init__(self, obs_dim: int, kept: int, clip: float = CLIP) -> None:
        super().__init__(obs_dim - kept, clip)
        self._scaled_entries = obs_dim - kept

    def update(self, obs: NDArray[np.float64]) -> NDArray[np.float32]:
        """Do as a call does, in NumPy."""
        return self._completed(super().update(obs[:, : self._scaled_entries]), obs)

    def normalize(self, obs: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return observations (n, obs_dim) normalized, without changing the statistics."""
        return self._completed(super().normalize(obs[:, : self._scaled_entries]), obs)

    def _completed(
        self, normalized: NDArray[np.float32], obs: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Return normalized entries and the last ones of ``obs`` (n, obs_dim)."""
        result = np.empty(obs.shape, dtype=np.float32)
        result[:, : self._scaled_entries] = normalized
        result[:, self._scaled_entries :] = obs[:, self._scaled_entries :]
        return result


class Rewards:
    """Hands rewards on as they are."""

    def __call__(self, rewards: list[float], terminations: list[bool]) -> list[float]:
        """Take in the rewards of one step of all environments; return the rewards to learn from."""
        return rewards

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics, fit for a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""


class RewardNormalizer(Rewards):
    """Scales rewards by the standard deviation of the running discounted return, and clips them.

    The discounted return of each environment is ``R ← γ R (1 − terminated) + r``. The statistics
    are plain numbers, shared by the environments, which takes a tenth of NumPy's time.

    Args:
        gamma: Discount factor γ per environment step.
        num_envs: Environments, each with its own discounted return.
        clip: Bound of the magnitude of scaled rewards.
    """

    def __init__(self, gamma: float, num_envs: int, clip: float = CLIP) -> None:
        self._gamma, self._clip = gamma, clip
        self._returns = [0.0] * num_envs
        self._mean, self._var, self._count = 0.0, 1.0, 1e-4

    def __call__(self, rewards: list[float], terminations: list[bool]) -> list[float]:
        """Take the rewards of one step of all environments in and return them normalized."""
        gamma, mean, returns = self._gamma, self._mean, self._returns
        n = len(returns)
        sum_delta = sum_squares = 0.0
        for i in range(n):
            returns[i] = rewards[i] + (0.0 if terminations[i] else gamma * returns[i])
            delta = returns[i] - mean
            sum_delta += delta
            sum_squares += delta**2
        self._count += n
        weight = n / self._count
        change = sum_delta / n * weight
        self._mean = mean + change
        # mean(δ (x − m')), since x − m' = δ − change.
        scatter = (sum_squares - sum_delta * change) / n
        self._var += (scatter - self._var) * weight
        std = math.sqrt(self._var + EPSILON)
        clip = self._clip
        limit = clip * std
        return [clip if r > limit else -clip if r < -limit else r / std for r in rewards]

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
