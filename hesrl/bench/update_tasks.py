"""Models and losses whose update is timed: PPO's in three forms, wide layers, ALL-CNN-C."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal

from hesrl.losses import GaussianSurrogateLoss, ValueLoss
from hesrl.measuring.networks import all_cnn_c, dense_network
from hesrl.measuring.updates import Loss


class ActorCritic(nn.Module):
    """CleanRL's agent for HalfCheetah: 17 observations, 6 actions, two hidden layers of 64."""

    def __init__(self) -> None:
        super().__init__()
        self.actor_mean = dense_network([17, 64, 64, 6])
        self.critic = dense_network([17, 64, 64, 1])
        self.actor_logstd = nn.Parameter(torch.zeros(1, 6))


def _samples(count: int = 64) -> Iterator[Tensor]:
    """Yield observations, actions, old log-probabilities, advantages, returns and old values."""
    yield torch.randn(count, 17)
    yield torch.randn(count, 6)
    yield 0.1 * torch.randn(count) - 8
    yield from (torch.randn(count) for _ in range(3))


def ppo_as_written() -> tuple[nn.Module, Loss]:
    """PPO's loss on one minibatch, with the torch operations that CleanRL has."""
    agent = ActorCritic()
    obs, actions, old_logprobs, advantages, returns, old_values = _samples()

    def loss() -> Tensor:
        mean = agent.actor_mean(obs)
        policy = Normal(mean, agent.actor_logstd.expand_as(mean).exp())
        ratio = (policy.log_prob(actions).sum(1) - old_logprobs).exp()
        pg_loss1, pg_loss2 = -advantages * ratio, -advantages * torch.clamp(ratio, 0.8, 1.2)
        pg_loss = torch.max(pg_loss1, pg_loss2).mean()
        values = agent.critic(obs).view(-1)
        clipped = old_values + torch.clamp(values - old_values, -0.2, 0.2)
        v_loss = 0.5 * torch.max((values - returns) ** 2, (clipped - returns) ** 2).mean()
        entropy_loss = policy.entropy().sum(1).mean()
        return pg_loss - 0.01 * entropy_loss + v_loss * 0.5

    return agent, loss


def ppo_fused() -> tuple[nn.Module, Loss]:
    """The same with the loss modules of `hesrl.losses`, one operation each."""
    agent, samples = ActorCritic(), list(_samples())
    loss = _fused_loss(agent)
    return agent, lambda: loss(*samples)


def ppo_minibatch() -> tuple[nn.Module, Loss]:
    """The same as an agent has it: gathered from a rollout, with normalised advantages."""
    agent, rollout, inds = ActorCritic(), list(_samples(2048)), torch.randperm(2048)[:64]
    loss = _fused_loss(agent)

    def loss_of_minibatch() -> Tensor:
        obs, actions, old_logprobs, advantages, *of_values = (tensor[inds] for tensor in rollout)
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        return loss(obs, actions, old_logprobs, advantages, *of_values)

    return agent, loss_of_minibatch


def _fused_loss(agent: ActorCritic) -> Callable[..., Tensor]:
    surrogate, value_loss = GaussianSurrogateLoss(0.2), ValueLoss(0.2)

    def loss(
        obs: Tensor,
        actions: Tensor,
        old_logprobs: Tensor,
        advantages: Tensor,
        returns: Tensor,
        old_values: Tensor,
    ) -> Tensor:
        log_std = agent.actor_logstd
        pg_loss, _ = surrogate(agent.actor_mean(obs), log_std, actions, old_logprobs, advantages)
        v_loss = value_loss(agent.critic(obs).view(-1), returns, old_values)
        return pg_loss - 0.01 * log_std.sum() + 0.5 * v_loss

    return loss


def wide_classifier(batch: int) -> tuple[nn.Module, Loss]:
    """A network 64-512-512-100 with the cross-entropy of a batch."""
    net = dense_network([64, 512, 512, 100])
    x, target = torch.randn(batch, 64), torch.randint(100, (batch,))
    return net, lambda: F.cross_entropy(net(x), target)


def image_classifier(batch: int = 128) -> tuple[nn.Module, Loss]:
    """ALL-CNN-C with the cross-entropy of a batch of images and 100 classes."""
    net, x, target = all_cnn_c(), torch.randn(batch, 3, 32, 32), torch.randint(100, (batch,))
    return net, lambda: F.cross_entropy(net(x), target)


TASKS: dict[str, Callable[[], tuple[nn.Module, Loss]]] = {
    "ppo": ppo_as_written,
    "ppo-fused": ppo_fused,
    "ppo-minibatch": ppo_minibatch,
    "wide": lambda: wide_classifier(256),
    "wide-1": lambda: wide_classifier(1),
    "all-cnn-c": image_classifier,
}
