"""Observations scaled by running statistics, as Gymnasium's wrapper does it, but cheaper.

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
from gymnasium.spaces import Box
from numpy.typing import NDArray

from hesrl.envs.compiled_envs import compiled_envs
from hesrl.envs.flat_observations import FlatBox
from hesrl.envs.spaces import is_image

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
        counted: Their number, plus the small weight of the start (1,).
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        # As batches of one, and numbers as arrays: NumPy takes longer to broadcast a vector or to
        # take in a float.
        self._mean = np.zeros((1, *shape))
        self._var = np.ones((1, *shape))
        self.mean, self.var = self._mean[0, ...], self._var[0, ...]
        self.counted = np.array([1e-4])
        self._epsilon = np.array(EPSILON)

    @property
    def count(self) -> float:
        """The number of samples, plus the small weight of the start."""
        return float(self.counted[0])

    def update(self, batch: NDArray[Any]) -> NDArray[np.float64]:
        """Take in samples (n, *shape) and return their `deviations` from the new mean."""
        n = len(batch)
        self.counted += n
        weight = n / self.counted
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
        self.counted[0] = state["count"]


def _batch_mean(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of a batch (n, …); `numpy.mean` takes three times as long for small ones."""
    return rows if len(rows) == 1 else np.add.reduce(rows) / len(rows)


class Statistics:
    """Statistics of what is handed on: none, unless a subclass keeps some."""

    def shared(self) -> dict[str, Any]:
        """Return members of `hesrl.envs.compiled_envs.Envs`, whose arrays a step may change."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics, fit for a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""


class Observations(Statistics):
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


class ObservationNormalizer(Observations):
    """Scales observations by their running mean and standard deviation and clips them.

    Args:
        obs_dim: Entries of one observation.
        clip: Bound of their magnitude.
        kept: How many of the last entries stay as they are: the progress of the episode, or the
            pixels of images.
    """

    def __init__(self, obs_dim: int, clip: float = CLIP, *, kept: int = 0) -> None:
        self._scaled_entries = obs_dim - kept
        self.statistics = RunningMeanStd((self._scaled_entries,))
        self._high = np.full((1, self._scaled_entries), clip, dtype=np.float32)
        self._low = -self._high
        self._followed: NDArray[np.float64] | None = None

    def follow(self, obs: NDArray[np.float64]) -> None:
        """Prepare to be called with one and the same array (n, …) often: in C, if it compiles."""
        compiled, statistics = compiled_envs(), self.statistics
        if compiled is None:
            return
        assert obs.flags.c_contiguous and obs.dtype == np.float64
        sizes = (*obs.shape, self._scaled_entries)
        addresses = statistics.mean.ctypes.data, statistics.var.ctypes.data
        self._normalize = partial(compiled.hesrl_normalize, obs.ctypes.data, *sizes, *addresses)
        self._followed, self._clip = obs, float(self._high[0, 0])
        self._results = _Rows(obs.shape)

    def __call__(self, obs: NDArray[np.float64]) -> NDArray[np.float32]:
        """Take observations (n, obs_dim) into the statistics and return them normalized."""
        if obs is not self._followed:
            return self.update(obs)
        statistics = self.statistics
        n = len(obs)
        statistics.counted += n
        result, address = self._results.take()
        self._normalize(n / statistics.count, self._clip, address)
        return result

    def update(self, obs: NDArray[np.float64]) -> NDArray[np.float32]:
        """Do as a call does, in NumPy."""
        return self._scaled(self.statistics.update(obs[:, : self._scaled_entries]), obs)

    def normalize(self, obs: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return observations (n, obs_dim) normalized, without changing the statistics."""
        return self._scaled(self.statistics.deviations(obs[:, : self._scaled_entries]), obs)

    def _scaled(
        self, deviations: NDArray[np.float64], obs: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Divide deviations by the standard deviation, clip them, and add the kept entries."""
        scaled = (deviations / self.statistics.std()).astype(np.float32)
        clipped = np.minimum(np.maximum(scaled, self._low), self._high)
        kept = obs[:, self._scaled_entries :]
        return np.hstack((clipped, kept.astype(np.float32))) if kept.size else clipped

    def shared(self) -> dict[str, Any]:
        """Return members of `hesrl.envs.compiled_envs.Envs`, whose arrays a step may change."""
        mean, var, counted = self.statistics.mean, self.statistics.var, self.statistics.counted
        clip = float(self._high[0, 0])
        return {"scaled": len(mean), "mean": mean, "var": var, "count": counted, "obs_clip": clip}

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


def observations_for(
    space: Box, raw: NDArray[Any], *, normalize: bool, kept: int, clip: float
) -> Observations:
    """Return what hands the observations of environments on.

    Args:
        space: Of one observation.
        raw: Takes the observations (N, …), as the environments give them.
        normalize: Whether to scale and clip vectors.
        kept: How many of the last entries to leave as they are, besides the pixels of images.
        clip: Bound of the magnitude of the others.
    """
    if is_image(space):
        return Observations(np.uint8)
    size = space.shape[0]
    if isinstance(space, FlatBox):
        kept += size - space.vector_size
    if not normalize or kept >= size:
        return Observations()
    normalizer = ObservationNormalizer(size, clip, kept=kept)
    normalizer.follow(raw)
    return normalizer
