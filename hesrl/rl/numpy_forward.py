"""Forward passes in NumPy, several times as fast as PyTorch for one observation.

They read the parameters of a PyTorch module in place, and so follow every update in place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hesrl.envs.steps import Sampler
from hesrl.errors import one_line
from hesrl.rl.actor_critic import Agent
from hesrl.rl.compiled_acting import CompiledActing

Array = NDArray[Any]
Forward = Callable[[Array], Array]

LARGEST_BATCH = 256
"""Observations that PyTorch takes at once, so that the features of images fit into memory."""


def _tanh(x: Array) -> Array:
    return np.tanh(x, out=x)


def _relu(x: Array) -> Array:
    return np.maximum(x, 0, out=x)


def _elu(x: Array) -> Array:
    return np.maximum(x, np.expm1(np.minimum(x, 0)), out=x)


def _silu(x: Array) -> Array:
    with np.errstate(over="ignore"):  # x/∞ is the limit 0
        x /= 1 + np.exp(-x)
    return x


def _leaky_relu(x: Array) -> Array:
    return np.maximum(x, x * _SLOPE, out=x)


_SLOPE = np.float32(nn.LeakyReLU().negative_slope)

_IN_PLACE: dict[type[nn.Module], Forward] = {
    nn.Tanh: _tanh,
    nn.ReLU: _relu,
    nn.ELU: _elu,
    nn.SiLU: _silu,
    nn.LeakyReLU: _leaky_relu,
}


def numpy_forward(network: nn.Sequential) -> Forward:
    """Return the forward pass of a network, from arrays (N, …) to arrays (N, out).

    A stack of linear layers, normalizations without parameters and activation functions on the CPU
    is computed in NumPy, any other network in PyTorch.
    """
    steps = [step for layer in network if (step := _numpy_layer(layer)) is not None]
    on_cpu = all(p.device.type == "cpu" for p in network.parameters())
    if not on_cpu or len(steps) < len(network):
        return _torch_forward(network)

    def forward(x: Array) -> Array:
        for step in steps:
            x = step(x)
        return x

    return forward


def _numpy_layer(layer: nn.Module) -> Forward | None:
    if isinstance(layer, nn.Linear):
        return _affine(layer)
    if isinstance(layer, nn.LayerNorm) and not layer.elementwise_affine:
        return _layer_norm(layer)
    return _IN_PLACE.get(type(layer))


def _layer_norm(layer: nn.LayerNorm) -> Forward:
    (width,), epsilon = layer.normalized_shape, layer.eps

    def forward(x: Array) -> Array:
        x -= np.add.reduce(x, axis=1, keepdims=True) / width
        x /= np.sqrt(np.einsum("ni,ni->n", x, x)[:, None] / width + epsilon)
        return x

    return forward


def _affine(linear: nn.Linear) -> Forward:
    # NumPy takes half as long to multiply by `dot`, and to add a batch of one instead of a vector.
    weight, bias = linear.weight.detach().numpy().T, linear.bias.detach().numpy()[None]

    def forward(x: Array) -> Array:
        y: Array = np.dot(x, weight)
        return np.add(y, bias, out=y)

    return forward


def _torch_forward(network: nn.Sequential) -> Forward:
    device = next(network.parameters()).device

    @torch.no_grad()
    def forward(x: Array) -> Array:
        parts = torch.from_numpy(x).split(LARGEST_BATCH)
        return np.concatenate([network(part.to(device)).numpy(force=True) for part in parts])

    return forward


class Acting:
    """The networks of an agent in NumPy.

    Args:
        agent: The networks; they must stay on their device.

    Attributes:
        policy: The policy, which draws actions from what `distribution` gives.
    """

    def __init__(self, agent: Agent) -> None:
        self.policy, self._agent = agent.policy, agent
        self._compiled: CompiledActing | None = None
        self._trunk = numpy_forward(agent.trunk) if len(agent.trunk) else None
        self._actor, self._critic = numpy_forward(agent.actor), numpy_forward(agent.critic)
        self._log_variance = (
            None if agent.actor_logvar is None else numpy_forward(agent.actor_logvar)
        )
        self._shared_log_std = None if agent.actor_logstd is None else _reader(agent.actor_logstd)
        self._softplus_std = agent.softplus_std

    def distribution(self, obs: Array) -> tuple[Array, ...]:
        """Return the policy's parameters for observations (N, …), as `Agent.forward` does."""
        features = obs if self._trunk is None else self._trunk(obs)
        outputs = self._actor(features)
        if self._softplus_std:
            mean, before = np.split(outputs, 2, axis=1)
            return mean, np.log(np.logaddexp(0, before))
        if self._log_variance is not None:
            return outputs, 0.5 * self._log_variance(features)
        return (outputs,) if self._shared_log_std is None else (outputs, self._shared_log_std())

    def compile(self, num_envs: int) -> None:
        """Let the `sampler` for so many environments act in C, if actions are continuous.

        Images are left to PyTorch. Without a compiler, which one line on standard error says,
        NumPy goes on.
        """
        try:
            self._compiled = CompiledActing(self._agent, num_envs)
        except NotImplementedError:
            return
        except (OSError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0]
            print(f"actions are not computed in C: {one_line(reason)}", file=sys.stderr)

    def sampler(self, rng: np.random.Generator, steps: int, num_envs: int) -> Sampler:
        """Return what draws the actions of a rollout, for the present parameters.

        Args:
            rng: Makes the actions random.
            steps: T.
            num_envs: N.
        """
        noise = self.policy.noise(rng, steps, num_envs)
        if self._compiled is not None:
            return self._compiled.sampler(noise)
        if self._shared_log_std is not None and self._trunk is None:
            # In one call what would be three in every step.
            mean, scaled = self._actor, np.exp(self._shared_log_std()) * noise
            return Sampler(lambda step, obs: np.add(mean(obs), scaled[step]), noise)
        distribution, sample = self.distribution, self.policy.sample
        return Sampler(lambda step, obs: sample(distribution(obs), noise[step]), noise)

    def act(self, obs: Array) -> Array:
        """Return the most probable actions for observations (N, …)."""
        return self.policy.mode(self.distribution(obs))

    def value(self, obs: Array) -> Array:
        """Return the values (N,) of observations (N, …)."""
        features = obs if self._trunk is None else self._trunk(obs)
        return self._critic(features)[:, 0]


def _reader(parameter: nn.Parameter) -> Callable[[], Array]:
    """Return a function that reads a parameter."""
    if parameter.device.type != "cpu":
        return lambda: parameter.numpy(force=True)
    array = parameter.detach().numpy()
    return lambda: array
