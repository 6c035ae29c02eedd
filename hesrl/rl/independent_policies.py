"""Policies of several independent choices: among numbers, or of bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from hesrl.losses import (
    BernoulliA2CLoss,
    BernoulliEntropyBonus,
    BernoulliSurrogateLoss,
    MultiCategoricalA2CLoss,
    MultiCategoricalEntropyBonus,
    MultiCategoricalSurrogateLoss,
)

Array = NDArray[Any]


class MultiCategoricalPolicy:
    """D discrete actions at once: a_d ~ softmax(z_d), with the logits z (N, ΣK) side by side.

    Args:
        sizes: K_d of each choice.

    Attributes:
        size: ΣK.
        shape: Of one action, (D,).
        dtype: Of actions.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(int(size) for size in sizes)
        self.size = sum(self.sizes)
        self.shape, self.dtype = (len(self.sizes),), np.int64
        ends = np.cumsum(self.sizes).tolist()
        self._parts = [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]

    def noise(self, rng: np.random.Generator, steps: int, num_envs: int) -> Array:
        """Return the random numbers of a rollout (T, N, ΣK), of Gumbel's distribution."""
        return rng.gumbel(size=(steps, num_envs, self.size)).astype(np.float32)

    def sample(self, distribution: tuple[Array, ...], noise: Array) -> Array:
        """Return actions (N, D): the largest logit plus noise has softmax's probability."""
        return self.mode((distribution[0] + noise,))

    def mode(self, distribution: tuple[Array, ...]) -> Array:
        """Return the most probable actions (N, D)."""
        logits = distribution[0]
        return np.stack([logits[:, part].argmax(1) for part in self._parts], 1)

    def log_prob(self, distribution: tuple[Tensor, ...], actions: Tensor) -> Tensor:
        """Return log π of actions (N, D), as (N,)."""
        logq = self._each(distribution[0], lambda z: z.log_softmax(1))
        starts = actions.new_tensor([part.start for part in self._parts])
        return logq.gather(1, actions + starts).sum(1)

    def a2c_loss(self, curvature: str) -> nn.Module:
        """Return A2C's loss, which takes parameters, actions and advantages."""
        return MultiCategoricalA2CLoss(self.sizes, curvature=curvature)

    def surrogate_loss(self, clip_coef: float, curvature: str) -> nn.Module:
        """Return PPO's loss, which takes parameters, actions, old log π and advantages."""
        return MultiCategoricalSurrogateLoss(self.sizes, clip_coef, curvature=curvature)

    def entropy_bonus(self, coef: float) -> nn.Module:
        """Return ``−coef H(π)``, which takes the last parameter."""
        return MultiCategoricalEntropyBonus(self.sizes, coef)

    def scores(self, distribution: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the gradient of log π at the logits, for actions that are drawn: e_a − p."""

        def drawn(z: Tensor) -> Tensor:
            p = z.softmax(1)
            return torch.zeros_like(p).scatter(1, torch.multinomial(p, 1), 1.0) - p

        return (self._each(distribution[0], drawn),)

    def fisher(self, distribution: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the diagonal of the Fisher matrix at the logits: p (1 − p)."""
        p = self._each(distribution[0], lambda z: z.softmax(1))
        return (p * (1 - p),)

    def _each(self, logits: Tensor, function: Any) -> Tensor:
        """Apply a function to the logits of each choice by itself."""
        return torch.cat([function(z) for z in logits.split(self.sizes, 1)], 1)


class BernoulliPolicy:
    """K bits: each is 1 with probability p = sigmoid(z), with the logits z (N, K) as parameters.

    Args:
        size: K.

    Attributes:
        shape: Of one action, (K,).
        dtype: Of actions, zeros and ones as the loss takes them.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.shape, self.dtype = (size,), np.float32

    def noise(self, rng: np.random.Generator, steps: int, num_envs: int) -> Array:
        """Return the random numbers of a rollout (T, N, K), of the logistic distribution."""
        return rng.logistic(size=(steps, num_envs, self.size)).astype(np.float32)

    def sample(self, distribution: tuple[Array, ...], noise: Array) -> Array:
        """Return actions (N, K): z plus noise is above 0 with probability sigmoid(z)."""
        return self.mode((distribution[0] + noise,))

    def mode(self, distribution: tuple[Array, ...]) -> Array:
        """Return the most probable actions (N, K)."""
        return (distribution[0] > 0).astype(self.dtype)

    def log_prob(self, distribution: tuple[Tensor, ...], actions: Tensor) -> Tensor:
        """Return log π of actions (N, K), as (N,)."""
        return logsigmoid((2 * actions - 1) * distribution[0]).sum(1)

    def a2c_loss(self, curvature: str) -> nn.Module:
        """Return A2C's loss, which takes parameters, actions and advantages."""
        return BernoulliA2CLoss(curvature=curvature)

    def surrogate_loss(self, clip_coef: float, curvature: str) -> nn.Module:
        """Return PPO's loss, which takes parameters, actions, old log π and advantages."""
        return BernoulliSurrogateLoss(clip_coef, curvature=curvature)

    def entropy_bonus(self, coef: float) -> nn.Module:
        """Return ``−coef H(π)``, which takes the last parameter."""
        return BernoulliEntropyBonus(coef)

    def scores(self, distribution: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the gradient of log π at the logits, for actions that are drawn: a − p."""
        p = distribution[0].sigmoid()
        return (torch.bernoulli(p) - p,)

    def fisher(self, distribution: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the diagonal of the Fisher matrix at the logits: p (1 − p)."""
        p = distribution[0].sigmoid()
        return (p * (1 - p),)
