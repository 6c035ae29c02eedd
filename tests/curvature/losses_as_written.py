"""Losses of a network's outputs, written as users of CleanRL and Stable-Baselines3 do.

Each function takes the outputs and returns the scalar loss.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical, Independent, Normal

from tests.curvature import losses_of_torch
from tests.curvature.outputs import (
    ACTIONS,
    ADVANTAGES,
    CHOICES,
    CLIP,
    LOG_RATIOS,
    LOG_STD,
    LOG_VARIANCE,
    LOGITS,
    MEAN,
    OLD_VALUES,
    RETURNS,
    TWO_LOGITS,
    VALUES,
    K,
)
from tests.curvature.outputs import (
    N as N,
)


def _gaussian(mean: Tensor, log_std: Tensor) -> Normal:
    """CleanRL's policy; its log-standard-deviation has shape (1, K)."""
    return Normal(mean, torch.exp(log_std.expand_as(mean)))


def _gaussian_sb3(mean: Tensor, log_std: Tensor) -> Normal:
    """Stable-Baselines3's policy; its log-standard-deviation has shape (K,)."""
    return Normal(mean, torch.ones_like(mean) * log_std.exp())


OLD_LOGPROBS = _gaussian(MEAN, LOG_STD).log_prob(ACTIONS).sum(1) - LOG_RATIOS
OLD_CHOICE_LOGPROBS = Categorical(logits=LOGITS).log_prob(CHOICES) - LOG_RATIOS


def _surrogate_cleanrl(newlogprob: Tensor, oldlogprob: Tensor) -> Tensor:
    ratio = (newlogprob - oldlogprob).exp()
    pg_loss1 = -ADVANTAGES * ratio
    pg_loss2 = -ADVANTAGES * torch.clamp(ratio, 1 - CLIP, 1 + CLIP)
    return torch.max(pg_loss1, pg_loss2).mean()


def _surrogate_sb3(log_prob: Tensor, old_log_prob: Tensor) -> Tensor:
    ratio = torch.exp(log_prob - old_log_prob)
    policy_loss_1 = ADVANTAGES * ratio
    policy_loss_2 = ADVANTAGES * torch.clamp(ratio, 1 - CLIP, 1 + CLIP)
    return -torch.min(policy_loss_1, policy_loss_2).mean()


def ppo_cleanrl(mean: Tensor, log_std: Tensor, newvalue: Tensor) -> Tensor:
    probs = _gaussian(mean, log_std)
    pg_loss = _surrogate_cleanrl(probs.log_prob(ACTIONS).sum(1), OLD_LOGPROBS)
    entropy_loss = probs.entropy().sum(1).mean()
    return pg_loss - 0.1 * entropy_loss + 0.5 * value_clipped_cleanrl(newvalue)


def ppo_cleanrl_discrete(logits: Tensor) -> Tensor:
    probs = Categorical(logits=logits)
    pg_loss = _surrogate_cleanrl(probs.log_prob(CHOICES), OLD_CHOICE_LOGPROBS)
    return pg_loss - 0.1 * probs.entropy().mean()


def value_cleanrl(newvalue: Tensor) -> Tensor:
    return 0.5 * ((newvalue.view(-1) - RETURNS) ** 2).mean()


def value_clipped_cleanrl(newvalue: Tensor) -> Tensor:
    newvalue = newvalue.view(-1)
    v_loss_unclipped = (newvalue - RETURNS) ** 2
    v_clipped = OLD_VALUES + torch.clamp(newvalue - OLD_VALUES, -CLIP, CLIP)
    v_loss_clipped = (v_clipped - RETURNS) ** 2
    return 0.5 * torch.max(v_loss_unclipped, v_loss_clipped).mean()


def ppo_sb3(mean: Tensor, log_std: Tensor, values: Tensor) -> Tensor:
    distribution = _gaussian_sb3(mean, log_std)
    policy_loss = _surrogate_sb3(distribution.log_prob(ACTIONS).sum(dim=1), OLD_LOGPROBS)
    entropy_loss = -torch.mean(distribution.entropy().sum(dim=1))
    values_pred = OLD_VALUES + torch.clamp(values.flatten() - OLD_VALUES, -CLIP, CLIP)
    return policy_loss + 0.1 * entropy_loss + 0.5 * F.mse_loss(RETURNS, values_pred)


def ppo_sb3_discrete(logits: Tensor) -> Tensor:
    distribution = Categorical(logits=logits)
    policy_loss = _surrogate_sb3(distribution.log_prob(CHOICES), OLD_CHOICE_LOGPROBS)
    return policy_loss - 0.1 * torch.mean(distribution.entropy())


def ppo_sb3_multidiscrete(logits: Tensor) -> Tensor:
    """Two categorical actions, of 2 and of 3 choices, side by side in the logits."""
    distributions = [Categorical(logits=split) for split in torch.split(logits, [2, 3], dim=1)]
    actions = torch.stack([CHOICES % 2, CHOICES], dim=1)
    chosen = zip(distributions, torch.unbind(actions, dim=1), strict=True)
    log_prob = torch.stack([dist.log_prob(action) for dist, action in chosen], dim=1).sum(dim=1)
    entropy = torch.stack([dist.entropy() for dist in distributions], dim=1).sum(dim=1)
    return _surrogate_sb3(log_prob, log_prob.detach() - LOG_RATIOS) - 0.1 * torch.mean(entropy)


def a2c(mean: Tensor, log_std: Tensor, values: Tensor) -> Tensor:
    distribution = _gaussian_sb3(mean, log_std)
    log_prob = distribution.log_prob(ACTIONS).sum(dim=1)
    entropy_loss = -torch.mean(distribution.entropy().sum(dim=1))
    value_loss = F.mse_loss(RETURNS, values.flatten())
    return -(ADVANTAGES * log_prob).mean() + 0.1 * entropy_loss + 0.5 * value_loss


def a2c_discrete(logits: Tensor) -> Tensor:
    distribution = Categorical(logits=logits)
    policy_loss = -(ADVANTAGES * distribution.log_prob(CHOICES)).sum()
    return policy_loss - 0.1 * distribution.entropy().sum()


def a2c_independent(mean: Tensor, log_std: Tensor) -> Tensor:
    policy = Independent(_gaussian(mean, log_std), 1)
    return (-ADVANTAGES * policy.log_prob(ACTIONS) - 0.1 * policy.entropy()).sum()


def ppo_variance_network(mean: Tensor, log_variance: Tensor) -> Tensor:
    """The paper's policy: a network gives the variance, by an exp on its output (N, K)."""
    policy = Normal(mean, torch.exp(log_variance).sqrt())
    log_prob = policy.log_prob(ACTIONS).sum(1)
    return _surrogate_cleanrl(log_prob, log_prob.detach() - LOG_RATIOS)


def gaussian_nll_by_hand(mean: Tensor, log_std: Tensor) -> Tensor:
    return (0.5 * (ACTIONS - mean) ** 2 * torch.exp(-2 * log_std) + log_std).sum()


def mse_by_hand(x: Tensor) -> Tensor:
    return (x - ACTIONS).pow(2).sum(1).mean()


CASES: dict[Callable[..., Tensor], tuple[Tensor, ...]] = {
    ppo_cleanrl: (MEAN, LOG_STD, VALUES),
    ppo_cleanrl_discrete: (LOGITS,),
    ppo_sb3: (MEAN, LOG_STD.view(K), VALUES),
    ppo_sb3_discrete: (LOGITS,),
    ppo_sb3_multidiscrete: (TWO_LOGITS,),
    a2c: (MEAN, LOG_STD.view(K), VALUES),
    a2c_discrete: (LOGITS,),
    a2c_independent: (MEAN, LOG_STD),
    ppo_variance_network: (MEAN, LOG_VARIANCE),
    gaussian_nll_by_hand: (MEAN, LOG_STD),
    value_cleanrl: (VALUES,),
    value_clipped_cleanrl: (VALUES,),
    mse_by_hand: (MEAN,),
    **losses_of_torch.CASES,
}
"""Each loss with the outputs at which to take it."""
