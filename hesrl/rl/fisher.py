"""Samples of an agent's outputs, from which K-FAC estimates Fisher's matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hesrl import optim
from hesrl.errors import UserError
from hesrl.rl.actor_critic import Agent


def check_layers(agent: Agent) -> None:
    """Refuse an agent with parameters that K-FAC does not take.

    Raises:
        UserError: The message names them.
    """
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
    check_layers(agent)

    def observe(_: nn.Module, __: Any, outputs: tuple[tuple[Tensor, ...], Tensor]) -> None:
        if torch.is_grad_enabled() and optimizer.is_due():
            distribution, values = outputs
            with torch.no_grad():
                scores = agent.policy.scores(distribution)
                optimizer.observe((*distribution, values), (*scores, torch.randn_like(values)))

    agent.register_forward_hook(observe)
