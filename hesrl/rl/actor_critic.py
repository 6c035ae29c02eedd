"""The networks of the agents: an actor, a critic, and a trunk if they share one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from hesrl.errors import UserError
from hesrl.rl.layers import features, hidden_layers, initialized
from hesrl.rl.policies import GaussianPolicy, Policy, policy_for

NETWORK_SETTINGS = (
    "hidden_sizes", "activation", "shared_trunk", "variance_network", "layer_norm",
    "orthogonal_init", "sparse_init", "log_std_init",
)  # fmt: skip
"""Settings of the agents that are arguments of `Agent`, under the same names."""


def network_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an agent that are about its networks, as arguments of `Agent`."""
    return {name: settings[name] for name in NETWORK_SETTINGS if name in settings}


class Agent(nn.Module):
    """Actor and critic, separate or on one trunk.

    Args:
        observations: Space of the observations: vectors, images in bytes, or both in a
            `hesrl.envs.flat_observations.FlatBox`.
        actions: Space of the actions: a Box for a Gaussian policy, Discrete for a categorical one,
            MultiDiscrete for several, MultiBinary for bits.
        hidden_sizes: Units of the hidden layers.
        activation: Key of `ACTIVATIONS`.
        shared_trunk: Whether actor and critic share all layers but their last ones.
        variance_network: Whether a Gaussian's variance depends on the observation: σ² = exp of a
            network with one hidden layer of 64 (with a shared trunk: of a layer on the trunk).
        softplus_std: Whether a Gaussian's σ is softplus of further outputs of the actor.
        layer_norm: Whether the units of each hidden linear layer are normalized.
        orthogonal_init: Whether weights start orthogonal; else as in PyTorch.
        sparse_init: Share of each unit's weights that start at zero; 0 leaves it to the former.
        log_std_init: What log σ of a Gaussian starts at, where it is a parameter.

    Attributes:
        policy: The distribution; the actor gives its parameters.
        trunk: From observations (N, …) to features; the identity if nothing is shared.
        critic: From features to values (N, 1).
        actor: From features to means (N, act_dim), with softplus_std followed by what σ is the
            softplus of, or to logits (N, K), side by side for several choices.
        actor_logvar: For a Gaussian, from features to log σ² (N, act_dim); None without.
        actor_logstd: For a Gaussian, log σ of all observations (1, act_dim); None without.

    Raises:
        UserError: A setting does not go with the spaces.
    """

    def __init__(
        self,
        observations: Box,
        actions: gym.Space[Any],
        *,
        hidden_sizes: Sequence[int] = (64, 64),
        activation: str = "tanh",
        shared_trunk: bool = False,
        variance_network: bool = False,
        softplus_std: bool = False,
        layer_norm: bool = False,
        orthogonal_init: bool = True,
        sparse_init: float = 0.0,
        log_std_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.policy: Policy = policy_for(actions)
        gaussian = isinstance(self.policy, GaussianPolicy)
        if variance_network and not gaussian:
            raise UserError("--variance-network: discrete actions have no variance")
        self.softplus_std = softplus_std and gaussian

        init: dict[str, Any] = {"orthogonal_init": orthogonal_init, "sparse_init": sparse_init}

        def hidden(sizes: Sequence[int]) -> list[nn.Module]:
            return hidden_layers(observations, sizes, activation, layer_norm=layer_norm, **init)

        trunk = hidden(hidden_sizes) if shared_trunk else []

        def network(outputs: int, std: float, sizes: Sequence[int] = hidden_sizes) -> nn.Sequential:
            layers = [] if shared_trunk else hidden(sizes)
            last = nn.Linear(features([*trunk, *layers], observations), outputs)
            return nn.Sequential(*layers, initialized(last, std, **init))

        self.trunk = nn.Sequential(*trunk)
        self.critic = network(1, std=1.0)
        self.actor = network((1 + self.softplus_std) * self.policy.size, std=0.01)
        self.actor_logvar: nn.Sequential | None = None
        self.actor_logstd: nn.Parameter | None = None
        if variance_network:
            self.actor_logvar = network(self.policy.size, 0.01, (64,))
        if gaussian and not variance_network and not softplus_std:
            self.actor_logstd = nn.Parameter(torch.full((1, self.policy.size), log_std_init))
        elif log_std_init and not gaussian:
            raise UserError("--log-std-init: discrete actions have no σ")

    def forward(self, obs: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return the policy's parameters and the values of observations.

        Args:
            obs: (N, …).

        Returns:
            A Gaussian's mean (N, act_dim) and log σ, (N, act_dim) or (1, act_dim); or the logits
            (N, K) of another policy, alone; and the values (N,).
        """
        shared = self.trunk(obs)
        return self._distribution(shared), self.critic(shared).squeeze(1)

    def distribution(self, obs: Tensor) -> tuple[Tensor, ...]:
        """Return the policy's parameters alone, as `forward` does."""
        return self._distribution(self.trunk(obs))

    def distribution_of(self, outputs: Tensor) -> tuple[Tensor, ...]:
        """Return the policy's parameters where the outputs of the actor alone make them.

        Each output makes one of them: itself, or log σ where σ is a softplus.
        """
        if not self.softplus_std:
            return (outputs,)
        mean, before = outputs.chunk(2, dim=1)
        return mean, nn.functional.softplus(before).log()

    def value(self, obs: Tensor) -> Tensor:
        """Return the values (N,) alone, as `forward` does."""
        return self.critic(self.trunk(obs)).squeeze(1)

    def _distribution(self, shared: Tensor) -> tuple[Tensor, ...]:
        outputs = self.actor(shared)
        if self.softplus_std:
            return self.distribution_of(outputs)
        if self.actor_logvar is not None:
            return outputs, 0.5 * self.actor_logvar(shared)
        return (outputs,) if self.actor_logstd is None else (outputs, self.actor_logstd)

    def parameter_groups(self, *, own_variance: bool = False) -> list[dict[str, Any]]:
        """Return a parameter group per network; a scaled optimizer bounds the step of each group.

        Args:
            own_variance: Whether log σ has a group of its own where it is a parameter.

        Returns:
            Groups named actor, variance (if there is one) and critic. A shared trunk belongs to the
            actor, and so does a log σ without a group.
        """
        actor = [*self.trunk.parameters(), *self.actor.parameters()]
        variance = [] if self.actor_logvar is None else [*self.actor_logvar.parameters()]
        if self.actor_logstd is not None:
            (variance if own_variance else actor).append(self.actor_logstd)
        parts = {"actor": actor, "variance": variance, "critic": list(self.critic.parameters())}
        return [{"name": name, "params": params} for name, params in parts.items() if params]
