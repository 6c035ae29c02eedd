"""A policy as one module, from what an environment observes to what it takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from torch import Tensor, nn

from hesrl.envs.normalize import CLIP, EPSILON
from hesrl.envs.spaces import is_image


class ExportedPolicy(nn.Module):
    """Normalizes observations, computes the most probable actions, and puts them into the space.

        x = clip((o − m)/√(v + 1e-8)),   a = clip(μ(x))  or  a = start + argmax logits(x)

    Args:
        networks: Holds the parameters.
        outputs: From what the networks see (N, …) to means (N, act_dim) or logits (N, K).
        spaces: Of observations and actions.
        statistics: ``mean`` m and ``var`` v of the observations, in float64; empty for none.
        clip: Bound of normalized entries.
        keeps_last: Whether the last entry, the progress of the episode, stays as it is.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self,
        networks: nn.Module,
        outputs: Callable[[Tensor], Tensor],
        spaces: tuple[gym.Space[Any], gym.Space[Any]],
        statistics: dict[str, Any],
        *,
        clip: float = CLIP,
        keeps_last: bool = False,
    ) -> None:
        super().__init__()
        self.networks, self._outputs = networks, outputs
        observations, actions = spaces
        self._is_image = is_image(observations)
        self._normalizes, self._clip, self._keeps_last = bool(statistics), clip, keeps_last
        if statistics:
            self.register_buffer("mean", statistics["mean"][None])
            self.register_buffer("std", (statistics["var"] + EPSILON).sqrt()[None])
        self._start: int | None = None
        if isinstance(actions, Discrete):
            self._start = int(actions.start)
        else:
            assert isinstance(actions, Box)
            self.register_buffer("low", torch.from_numpy(actions.low.astype(np.float32))[None])
            self.register_buffer("high", torch.from_numpy(actions.high.astype(np.float32))[None])

    def forward(self, obs: Tensor) -> Tensor:
        """Return actions (N, act_dim), or the numbers of discrete ones (N,), for observations."""
        outputs = self._outputs(obs if self._is_image else self.normalized(obs))
        if self._start is not None:
            return outputs.argmax(1) + self._start
        return torch.minimum(torch.maximum(outputs, self.low), self.high)

    def normalized(self, obs: Tensor) -> Tensor:
        """Return vectors of observations (N, obs_dim) as the networks see them."""
        if not self._normalizes:
            return obs.to(torch.float32)
        seen = obs[:, :-1] if self._keeps_last else obs
        scaled = ((seen.to(torch.float64) - self.mean) / self.std).to(torch.float32)
        if math.isfinite(self._clip):
            scaled = scaled.clamp(-self._clip, self._clip)
        if self._keeps_last:
            scaled = torch.cat([scaled, obs[:, -1:].to(torch.float32)], dim=1)
        return scaled


def some_observations(
    space: gym.Space[Any], statistics: dict[str, Any], number: int, seed: int = 0
) -> NDArray[Any]:
    """Return observations (number, …) around those that a run has seen, and beyond.

    Args:
        space: Of the observations.
        statistics: As `ExportedPolicy` takes them.
        number: How many.
        seed: Of the random numbers.
    """
    rng = np.random.default_rng(seed)
    shape = space.shape or ()
    if is_image(space):
        return rng.integers(0, 256, (number, *shape), dtype=np.uint8)
    drawn = 3 * rng.standard_normal((number, *shape))
    if statistics:
        mean, std = statistics["mean"].numpy(), statistics["var"].numpy() ** 0.5
        drawn[:, : len(mean)] = mean + std * drawn[:, : len(mean)]
    return drawn.astype(space.dtype)
