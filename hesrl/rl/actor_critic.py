"""The networks of the agents: a Gaussian actor and a critic, as in CleanRL and the paper."""

from __future__ import annotations

import math

import torch
from torch import nn


def layer_init(layer: nn.Linear, std: float = math.sqrt(2), bias_const: float = 0.0) -> nn.Linear:
    """Initialize a layer in place: orthogonal weights of gain ``std``, constant bias."""
    nn.init.orthogonal_(layer.weight, std)
    nn.init.constant_(layer.bias, bias_const)
    return layer


class Agent(nn.Module):
    """Separate critic and actor of two hidden tanh layers, and a state-independent log σ.

    Args:
        obs_dim: Entries of an observation.
        act_dim: Entries of an action.

    Attributes:
        critic: From observations (N, obs_dim) to values (N, 1).
        actor_mean: From observations (N, obs_dim) to means of actions (N, act_dim).
        actor_logstd: log σ of the actions (1, act_dim).
    """

    def __init__(self, obs_dim: int, act_dim: int) -> None:
        super().__init__()
        self.critic = nn.Sequential(
            layer_init(nn.Linear(obs_dim, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, 1), std=1.0),
        )
        self.actor_mean = nn.Sequential(
            layer_init(nn.Linear(obs_dim, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, act_dim), std=0.01),
        )
        self.actor_logstd = nn.Parameter(torch.zeros(1, act_dim))
