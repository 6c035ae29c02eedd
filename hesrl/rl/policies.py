"""The policies of the agents: actions, drawn in NumPy, and losses with exact curvature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from numpy.typing import NDArray
from torch import Tensor, nn

from hesrl.losses import (
    CategoricalA2CLoss,
    CategoricalEntropyBonus,
    CategoricalSurrogateLoss,
    GaussianA2CLoss,
    GaussianEntropyBonus,
    GaussianSurrogateLoss,
)
from hesrl.rl.independent_policies import BernoulliPolicy, MultiCategoricalPolicy

Array = NDArray[Any]


class GaussianPolicy:
    """Continuous actions: x ~ N(μ, σ²), each entry by itself.

    Its parameters are μ (N, act_dim) and log σ, (N, act_dim) or (1, act_dim).

    Args:
        size: act_dim.

    Attributes:
        shape: Of one action, (act_dim,).
        dtype: Of actions.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.shape, self.dtype = (size,), np.float32

    def noise(self, rng: np.random.Generator, steps: int, num_envs: int) -> Array:
        """Return the random numbers of the actions of a rollout (T, N, act_dim)."""
        return rng.standard_normal((steps, num_envs, self.size), dtype=np.float32)

    def sample(self, distribution: tuple[Array, ...], noise: Array) -> Array:
        """Return actions (N, act_dim)."""
        mean, log_std = distribution
        return mean + np.exp(log_std) * noise

    def mode(self, distribution: tuple[Array, ...]) -> Array:
        """Return the most probable actions (N, act_dim)."""
        return distribution[0]

    def log_prob(self, distribution: tuple[Tensor, ...], actions: Tensor) -> Tensor:
        """Return log π of actions (N, act_dim), as (N,)."""
        mean, log_std = distribution
        u = ((actions - mean) * torch.exp(-log_std)).square()
        return -(0.5 * (u + math.log(2 * math.pi)) + log_std).sum(1)

    def a2c_loss(self, curvature: str) -> nn.Module:
        """Return A2C's loss, which takes parameters, actions and advantages."""
        return GaussianA2CLoss(curvature=curvature)

    def surrogate_loss(self, clip_coef: float, curvature: str) -> nn.Module:
        """Return PPO's loss, which takes parameters, actions, old log π and advantages."""
        return GaussianSurrogateLoss(clip_coef, curvature=curvature)

    def entropy_bonus(self, coef: float) -> nn.Module:
        """Return ``−coef H(π)``, which takes the last parameter."""
        return GaussianEntropyBonus(coef)

    def scores(self, distribution: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the gradient of log π at the parameters, for actions that are drawn from it."""
        mean, log_std = distribution
        noise = torch.randn_like(mean)
        return noise * torch.exp(-log_std), noise.square() - 1

    def fisher(self, distribution: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the diagonal of the Fisher matrix at the parameters: 1/σ², and 2 for log σ."""
        _, log_std = distribution
        return torch.exp(-2 * log_std), torch.full_like(log_std, 2.0)


class CategoricalPolicy:
    """Discrete actions: a ~ softmax(z), with the logits z (N, K) as parameters.

    Args:
        size: K.

    Attributes:
        shape: Of one action, a number: ().
        dtype: Of actions.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.shape, self.dtype = (), np.int64

    def noise(self, rng: np.random.Generator, steps: int, num_envs: int) -> Array:
        """Return the random numbers of a rollout (T, N, K), of Gumbel's distribution."""
        return rng.gumbel(size=(steps, num_envs, self.size)).astype(np.float32)

    def sample(self, distribution: tuple[Array, ...], noise: Array) -> Array:
        """Return actions (N,): the largest logit plus noise has softmax's probability."""
        return np.asarray((distribution[0] + noise).argmax(1))

    def mode(self, distribution: tuple[Array, ...]) -> Array:
        """Return the most probable actions (N,)."""
        return np.asarray(distribution[0].argmax(1))

    def log_prob(self, distribution: tuple[Tensor, ...], actions: Tensor) -> Tensor:
        """Return log π of actions (N,), as (N,)."""
        return distribution[0].log_softmax(1).gather(1, actions.unsqueeze(1)).squeeze(1)

    def a2c_loss(self, curvature: str) -> nn.Module:
        """Return A2C's loss, which takes parameters, actions and advantages."""
        return CategoricalA2CLoss(curvature=curvature)

    def surrogate_loss(self, clip_coef: float, curvature: str) -> nn.Module:
        """Return PPO's loss, which takes parameters, actions, old log π and advantages."""
        return CategoricalSurrogateLoss(clip_coef, curvature=curvature)

    def entropy_bonus(self, coef: float) -> nn.Module:
        """Return ``−coef H(π)``, which takes the last parameter."""
        return CategoricalEntropyBonus(coef)

    def scores(self, distribution: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the gradient of log π at the logits, for actions that are drawn: e_a − p."""
        p = distribution[0].softmax(1)
        return (torch.zeros_like(p).scatter(1, torch.multinomial(p, 1), 1.0) - p,)

    def fisher(self, distribution: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the diagonal of the Fisher matrix at the logits: p (1 − p)."""
        p = distribution[0].softmax(1)
        return (p * (1 - p),)


Policy = GaussianPolicy | CategoricalPolicy | MultiCategoricalPolicy | BernoulliPolicy


def policy_for(actions: gym.Space[Any]) -> Policy:
    """Return the policy for actions that `hesrl.envs.spaces.check_spaces` lets through."""
    if isinstance(actions, Discrete):
        return CategoricalPolicy(int(actions.n))
    if isinstance(actions, MultiDiscrete):
        return MultiCategoricalPolicy(actions.nvec.ravel().tolist())
    if isinstance(actions, MultiBinary):
        return BernoulliPolicy(math.prod(actions.shape))
    assert isinstance(actions, Box)
    return GaussianPolicy(actions.shape[0])
