"""A policy as one module, from what an environment observes to what it takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from numpy.typing import NDArray
from torch import Tensor, nn

from hesrl.envs.flat_observations import FlatBox
from hesrl.envs.normalize import CLIP, EPSILON
from hesrl.envs.spaces import is_image


class ExportedPolicy(nn.Module):
    """Normalizes observations, computes the most probable actions, and puts them into the space.

        x = clip((o − m)/√(v + 1e-8)),   a = clip(μ(x)),  a = start + argmax logits(x)  or
        a = [logits(x) > 0]

    Args:
        networks: Holds the parameters.
        outputs: From what the networks see (N, …) to means (N, act_dim) or logits (N, K), side by
            side for several choices. That of a `RecurrentPolicy` also takes and returns its state.
        spaces: Of observations and actions.
        statistics: ``mean`` m and ``var`` v of the observations, in float64; empty for none.
        clip: Bound of normalized entries.
        kept: How many of the last entries stay as they are.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self,
        networks: nn.Module,
        outputs: Callable[..., Any],
        spaces: tuple[gym.Space[Any], gym.Space[Any]],
        statistics: dict[str, Any],
        *,
        clip: float = CLIP,
        kept: int = 0,
    ) -> None:
        super().__init__()
        self.networks, self._outputs = networks, outputs
        observations, actions = spaces
        self._is_image = is_image(observations)
        self._normalizes, self._clip, self._kept = bool(statistics), clip, kept
        if statistics:
            self.register_buffer("mean", statistics["mean"][None])
            self.register_buffer("std", (statistics["var"] + EPSILON).sqrt()[None])
        self._actions = actions
        if isinstance(actions, Box):
            self.register_buffer("low", torch.from_numpy(actions.low.astype(np.float32))[None])
            self.register_buffer("high", torch.from_numpy(actions.high.astype(np.float32))[None])

    def forward(self, obs: Tensor) -> Tensor:
        """Return actions as the environment takes them (N, …), for observations (N, …)."""
        return self.actions(self.outputs(obs))

    def actions(self, outputs: Tensor) -> Tensor:
        """Return actions as the environment takes them (N, …), for means or logits (N, …)."""
        actions = self._actions
        if isinstance(actions, Box):
            return torch.minimum(torch.maximum(outputs, self.low), self.high)
        if isinstance(actions, MultiBinary):
            return (outputs > 0).to(torch.int8).reshape(-1, *actions.shape)
        starts, parts = choices(actions, outputs)
        chosen = [z.argmax(1) + start for z, start in zip(parts, starts, strict=True)]
        return torch.stack(chosen, 1).reshape(-1, *(actions.shape or ()))

    def outputs(self, obs: Tensor, *state: Tensor) -> Any:
        """Return means (N, act_dim) or logits (N, K) for observations (N, …).

        Those of a `RecurrentPolicy` take its state besides, and come with the next one.
        """
        return self._outputs(self.seen(obs), *state)

    def seen(self, obs: Tensor) -> Tensor:
        """Return observations (N, …) as the networks see them."""
        return obs if self._is_image else self.normalized(obs)

    def normalized(self, obs: Tensor) -> Tensor:
        """Return vectors of observations (N, obs_dim) as the networks see them."""
        if not self._normalizes:
            return obs.to(torch.float32)
        seen = obs[:, : -self._kept] if self._kept else obs
        scaled = ((seen.to(torch.float64) - self.mean) / self.std).to(torch.float32)
        if math.isfinite(self._clip):
            scaled = scaled.clamp(-self._clip, self._clip)
        if self._kept:
            scaled = torch.cat([scaled, obs[:, -self._kept :].to(torch.float32)], dim=1)
        return scaled


class RecurrentPolicy(ExportedPolicy):
    """An `ExportedPolicy` with an LSTM, whose state goes in and comes out.

    The state is zero at the start of an episode.
    """

    def forward(self, obs: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Return actions, and the state for the next observations.

        Args:
            obs: Observations (N, …).
            hidden: h of the LSTM (layers, N, units), of the observations before.
            cell: c of the LSTM (layers, N, units).
        """
        outputs, hidden, cell = self.outputs(obs, hidden, cell)
        return self.actions(outputs), hidden, cell


def choices(space: gym.Space[Any], logits: Tensor) -> tuple[list[int], tuple[Tensor, ...]]:
    """Return the first number of each choice of a Discrete or MultiDiscrete, and its logits."""
    if isinstance(space, MultiDiscrete):
        return space.start.ravel().tolist(), logits.split(space.nvec.ravel().tolist(), 1)
    assert isinstance(space, Discrete)
    return [int(space.start)], (logits,)


def shortfall(space: gym.Space[Any], logits: Tensor, actions: NDArray[Any]) -> float:
    """Return how far the logits of actions lie below those of the most probable ones, at most.

    Args:
        space: Of the actions; not a Box.
        logits: As `ExportedPolicy.outputs` gives them (N, K).
        actions: As the environment takes them (N, …).
    """
    chosen = torch.from_numpy(actions).reshape(len(logits), -1)
    if isinstance(space, MultiBinary):
        wrong = chosen != (logits > 0)
        return float((logits.abs() * wrong).max())
    starts, parts = choices(space, logits)
    numbers = chosen - torch.tensor(starts)
    columns = zip(parts, numbers.split(1, 1), strict=True)
    return max(float((z.amax(1, True) - z.gather(1, a)).max()) for z, a in columns)


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
    if isinstance(space, FlatBox) and space.images:
        pixels = (number, shape[0] - space.vector_size)
        drawn[:, space.vector_size :] = rng.integers(0, 256, pixels)
    return drawn.astype(space.dtype)
