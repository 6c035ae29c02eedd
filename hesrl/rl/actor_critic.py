"""The networks of the agents: an actor, a critic, and a trunk if they share one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

import gymnasium as gym
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from hesrl.envs.spaces import is_image
from hesrl.errors import UserError
from hesrl.rl.policies import CategoricalPolicy, GaussianPolicy, policy_for

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
}
"""Activation functions by name."""

LayerT = TypeVar("LayerT", nn.Linear, nn.Conv2d)

SMALLEST_IMAGE = 36
"""Pixels on a side; a smaller image is nothing after the convolutions."""


def layer_init(layer: LayerT, std: float = math.sqrt(2), bias_const: float = 0.0) -> LayerT:
    """Initialize a layer in place: orthogonal weights of gain ``std``, constant bias."""
    nn.init.orthogonal_(layer.weight, std)
    assert layer.bias is not None
    nn.init.constant_(layer.bias, bias_const)
    return layer


def sparse_layer_init(layer: LayerT, sparsity: float) -> LayerT:
    """Initialize a layer in place, most of its weights with zero (Elsayed et al., 2024).

    Of each unit's weights ``⌈sparsity · fan_in⌉`` are zero, but one stays; the others are uniform
    within ``±1/√fan_in``. The bias is zero.
    """
    rows = layer.weight.detach().flatten(1)
    fan_in = rows.shape[1]
    # As published, a layer of few inputs starts dead, since 0.9 leaves nothing of eight, and the
    # normalization of zeros multiplies its first gradients by 1/√ε.
    zeros = min(math.ceil(sparsity * fan_in), fan_in - 1)
    nn.init.uniform_(rows, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))
    for row in rows:
        row[torch.randperm(fan_in)[:zeros]] = 0.0
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class Pixels(nn.Module):
    """Turns images of bytes (N, H, W, C) or (N, C, H, W) into numbers (N, C, H, W) from 0 to 1.

    Args:
        shape: Shape of one image; the channels are its shortest side.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.channels_last = shape[2] < shape[0]
        self.channels, *self.size = (shape[2], *shape[:2]) if self.channels_last else shape

    def forward(self, images: Tensor) -> Tensor:
        """Return the numbers."""
        pixels = images.to(torch.get_default_dtype()) / 255
        return pixels.permute(0, 3, 1, 2) if self.channels_last else pixels


def initialized(
    layer: LayerT, std: float = math.sqrt(2), *, orthogonal_init: bool, sparse_init: float
) -> LayerT:
    """Initialize a layer in place by the settings; without any it stays as PyTorch makes it."""
    if sparse_init:
        return sparse_layer_init(layer, sparse_init)
    return layer_init(layer, std) if orthogonal_init else layer


def hidden_layers(
    space: Box,
    hidden_sizes: Sequence[int],
    activation: str,
    *,
    layer_norm: bool = False,
    orthogonal_init: bool = True,
    sparse_init: float = 0.0,
) -> list[nn.Module]:
    """Return the layers from observations to features.

    Images go through the three convolutions of Mnih et al. (2015) first.

    Args:
        space: The observations.
        hidden_sizes: Units of each linear layer.
        activation: Key of `ACTIVATIONS`.
        layer_norm: Whether the units of each linear layer are normalized before the activation.
        orthogonal_init: Whether weights start orthogonal; else as in PyTorch.
        sparse_init: Share of each unit's weights that start at zero; 0 leaves it to the former.

    Raises:
        UserError: An image is too small for the convolutions.
    """
    activate = ACTIVATIONS[activation]
    initialize = partial(initialized, orthogonal_init=orthogonal_init, sparse_init=sparse_init)
    layers: list[nn.Module] = []
    size = math.prod(space.shape)
    if is_image(space):
        pixels = Pixels(space.shape)
        if min(pixels.size) < SMALLEST_IMAGE:
            raise UserError(
                f"images of {space.shape} are too small: the convolutions need "
                f"{SMALLEST_IMAGE} × {SMALLEST_IMAGE} pixels"
            )
        layers.append(pixels)
        channels = pixels.channels
        for filters, kernel, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
            layers += [initialize(nn.Conv2d(channels, filters, kernel, stride)), activate()]
            channels = filters
        layers.append(nn.Flatten())
        size = _features(layers, space)
    for width in hidden_sizes:
        layers.append(initialize(nn.Linear(size, width)))
        if layer_norm:
            layers.append(nn.LayerNorm(width, elementwise_affine=False))
        layers.append(activate())
        size = width
    return layers


def _features(layers: Sequence[nn.Module], space: Box) -> int:
    """Return the number of features that the layers make of one observation."""
    with torch.no_grad():
        return int(nn.Sequential(*layers)(torch.zeros(1, *space.shape)).shape[1])


class Agent(nn.Module):
    """Actor and critic, separate or on one trunk.

    Args:
        observations: Space of the observations: vectors, or images in bytes.
        actions: Space of the actions: a Box for a Gaussian policy, Discrete for a categorical one.
        hidden_sizes: Units of the hidden layers.
        activation: Key of `ACTIVATIONS`.
        shared_trunk: Whether actor and critic share all layers but their last ones.
        variance_network: Whether a Gaussian's variance depends on the observation: σ² = exp of a
            network with one hidden layer of 64 (with a shared trunk: of a layer on the trunk).
        softplus_std: Whether a Gaussian's σ is softplus of further outputs of the actor.
        layer_norm: Whether the units of each hidden linear layer are normalized.
        orthogonal_init: Whether weights start orthogonal; else as in PyTorch.
        sparse_init: Share of each unit's weights that start at zero; 0 leaves it to the former.

    Attributes:
        policy: The distribution; the actor gives its parameters.
        trunk: From observations (N, …) to features; the identity if nothing is shared.
        critic: From features to values (N, 1).
        actor: From features to means (N, act_dim), with softplus_std followed by what σ is the
            softplus of, or to logits (N, K).
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
    ) -> None:
        super().__init__()
        self.policy: GaussianPolicy | CategoricalPolicy = policy_for(actions)
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
            last = nn.Linear(_features([*trunk, *layers], observations), outputs)
            return nn.Sequential(*layers, initialized(last, std, **init))

        self.trunk = nn.Sequential(*trunk)
        self.critic = network(1, std=1.0)
        self.actor = network((1 + self.softplus_std) * self.policy.size, std=0.01)
        self.actor_logvar: nn.Sequential | None = None
        self.actor_logstd: nn.Parameter | None = None
        if variance_network:
            self.actor_logvar = network(self.policy.size, 0.01, (64,))
        if gaussian and not variance_network and not softplus_std:
            self.actor_logstd = nn.Parameter(torch.zeros(1, self.policy.size))

    def forward(self, obs: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return the policy's parameters and the values of observations.

        Args:
            obs: (N, …).

        Returns:
            A Gaussian's mean (N, act_dim) and log σ, (N, act_dim) or (1, act_dim); or a
            categorical policy's logits (N, K), alone; and the values (N,).
        """
        features = self.trunk(obs)
        return self._distribution(features), self.critic(features).squeeze(1)

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

    def _distribution(self, features: Tensor) -> tuple[Tensor, ...]:
        outputs = self.actor(features)
        if self.softplus_std:
            return self.distribution_of(outputs)
        if self.actor_logvar is not None:
            return outputs, 0.5 * self.actor_logvar(features)
        return (outputs,) if self.actor_logstd is None else (outputs, self.actor_logstd)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return a parameter group per network; a scaled optimizer bounds the step of each group.

        A shared trunk and log σ belong to the actor's group.
        """
        actor = [*self.trunk.parameters(), *self.actor.parameters()]
        if self.actor_logstd is not None:
            actor.append(self.actor_logstd)
        groups = [{"params": actor}, {"params": list(self.critic.parameters())}]
        if self.actor_logvar is not None:
            groups.insert(1, {"params": list(self.actor_logvar.parameters())})
        return groups
