"""Losses of logits by torch.distributions, as code that people run has them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical, OneHotCategorical, kl_divergence

from tests.curvature.softmax_spellings import ADVANTAGES, CHOICES, MASK, ONE_HOT, Q, ppo


def probs_log_prob(z: Tensor) -> Tensor:
    return -(Categorical(probs=z.softmax(1)).log_prob(CHOICES) * ADVANTAGES).mean()


def probs_ppo(z: Tensor) -> Tensor:
    policy = Categorical(probs=z.softmax(-1))
    return ppo(policy.log_prob(CHOICES)) - 0.1 * policy.entropy().mean()


def probs_entropy(z: Tensor) -> Tensor:
    return Categorical(probs=F.softmax(z, dim=-1)).entropy().mean()


def probs_by_exp_of_log_softmax(z: Tensor) -> Tensor:
    p = z.log_softmax(1).exp()
    policy = Categorical(probs=p)
    return ppo(policy.log_prob(CHOICES)) + (p * Q).sum()


def kl_of_probs(z: Tensor) -> Tensor:
    old = Categorical(probs=Q.softmax(1))
    new = Categorical(probs=z.softmax(1))
    return kl_divergence(old, new).mean() + 0.5 * kl_divergence(new, old).mean()


def kl_of_logits(z: Tensor) -> Tensor:
    old, new = Categorical(logits=Q), Categorical(logits=z)
    return kl_divergence(old, new).mean() + 0.5 * kl_divergence(new, old).mean()


def one_hot_logits(z: Tensor) -> Tensor:
    policy = OneHotCategorical(logits=z)
    return ppo(policy.log_prob(ONE_HOT)) - 0.1 * policy.entropy().mean()


def one_hot_probs(z: Tensor) -> Tensor:
    policy = OneHotCategorical(probs=z.softmax(1))
    return ppo(policy.log_prob(ONE_HOT)) - 0.1 * policy.entropy().mean()


def sac_of_cleanrl(z: Tensor) -> Tensor:
    policy = Categorical(logits=z)
    return (policy.probs * (0.2 * F.log_softmax(z, dim=1) - Q)).mean()


def masked_by_sb3(z: Tensor) -> Tensor:
    """MaskableCategorical of sb3-contrib."""
    policy = Categorical(logits=torch.where(MASK, z, torch.tensor(-1e8).double()))
    p_log_p = policy.logits * policy.probs
    entropy = -torch.where(MASK, p_log_p, torch.tensor(0.0).double()).sum(-1)
    return ppo(policy.log_prob(CHOICES)) - 0.1 * entropy.mean()


def masked_probs(z: Tensor) -> Tensor:
    policy = Categorical(probs=z.masked_fill(~MASK, -1e8).softmax(1))
    return ppo(policy.log_prob(CHOICES))


def categorical_of_log_softmax(z: Tensor) -> Tensor:
    policy = Categorical(logits=z.log_softmax(-1))
    return ppo(policy.log_prob(CHOICES)) - 0.1 * policy.entropy().mean()


def categorical_of_log_probs(z: Tensor) -> Tensor:
    policy = Categorical(logits=z.softmax(-1).log())
    return ppo(policy.log_prob(CHOICES)) - 0.1 * policy.entropy().mean()


SPELLINGS = [v for v in list(vars().values()) if getattr(v, "__module__", "") == __name__]
"""All of the above."""
