"""Samples of an agent's outputs, from which K-FAC estimates Fisher's matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hesrl import optim
from hesrl.errors import UserError
from hesrl.rl.actor_critic import Agent
from hesrl.rl.actor_critic_settings import ActorCriticSettings
from hesrl.rl.learning_rates import INITIAL
from hesrl.rl.optimizer_settings import hyperparameters


def make_optimizer(args: ActorCriticSettings, agent: Agent) -> optim.CurvatureOptimizer:
    """Return the optimizer that the settings name, ready to observe the agent if it is K-FAC.

    Raises:
        UserError: The agent has parameters that K-FAC does not take, or no variance.
    """
    kind = optim.get(args.optimizer)
    if issubclass(kind, optim.KFAC):
        _check_layers(agent)
    own = {"variance": args.variance_learning_rate, "critic": args.critic_learning_rate}
    groups = agent.parameter_groups(own_variance=own["variance"] is not None)
    if own["variance"] is not None and "variance" not in (group["name"] for group in groups):
        raise UserError("--variance-learning-rate: discrete actions have no variance")
    for group in groups:
        lr = own.get(group["name"])
        group["lr"] = group[INITIAL] = args.learning_rate if lr is None else lr
    optimizer = kind(groups, **hyperparameters(args))
    let_observe(optimizer, agent)
    return optimizer


def _check_layers(agent: Agent) -> None:
    if any(isinstance(module, nn.Conv2d) for module in agent.modules()):
        raise UserError("--optimizer kfac: takes linear layers, not the convolutions for images")
    if agent.actor_logstd is not None:
        raise UserError("--optimizer kfac: takes linear layers, not log σ: use --variance-network")


def let_observe(optimizer: optim.CurvatureOptimizer, agent: Agent) -> None:
    """Let K-FAC observe the forward passes of an agent; other optimizers stay as they are.

    Actions are drawn from the policy, and values from a normal distribution of unit variance around
    the critic's, as in ACKTR (Wu et al., 2017).

    Raises:
        UserError: The agent has parameters that are not of linear layers.
    """
    if not isinstance(optimizer, optim.KFAC):
        return
    _check_layers(agent)

    def observe(_: nn.Module, __: Any, outputs: tuple[tuple[Tensor, ...], Tensor]) -> None:
        if torch.is_grad_enabled() and optimizer.is_due():
            distribution, values = outputs
            with torch.no_grad():
                scores = agent.policy.scores(distribution)
                optimizer.observe((*distribution, values), (*scores, torch.randn_like(values)))

    agent.register_forward_hook(observe)
