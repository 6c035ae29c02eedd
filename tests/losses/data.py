"""Outputs of a network to take a loss at, and what it is held against.

The outputs lie off the kinks, on either side of each; all are in float64, N = 9 samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

from hesrl.curvature import Method, arm

N, K, CLIP = 9, 3, 0.2
REDUCTIONS = ("mean", "sum", "none")


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def assert_equal(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-13)


def armed(*tensors: Tensor, method: Method = "hesscale") -> list[Tensor]:
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    arm(leaves, method)
    return leaves


LOG_RATIOS, ADVANTAGES = torch.cartesian_prod(
    torch.tensor([-0.5, 0.1, 0.5], dtype=torch.float64),
    torch.tensor([1.5, 0.3, -0.7], dtype=torch.float64),
).unbind(1)
"""Below, inside and above the clip, each with advantages of both signs."""
MEAN, ACTIONS = normal(N, K, seed=1), normal(N, K, seed=2)
LOG_STDS = {
    "(N, K)": 0.4 * normal(N, K, seed=3),
    "(1, K)": 0.4 * normal(1, K, seed=4),
    "(K,)": 0.4 * normal(K, seed=5),
}
LOGITS = 1.5 * normal(N, K, seed=6)
CHOICES = torch.tensor([0, 1, 2, 1, 0, 2, 2, 1, 0])
SIZES = (2, 1, 4)
"""Three choices, whose logits stand side by side."""
MANY_LOGITS = 1.5 * normal(N, sum(SIZES), seed=13)
MANY_CHOICES = torch.tensor([[n % 2, 0, (3 * n) % 4] for n in range(N)])
BITS = torch.tensor([[(n >> k) % 2 for k in range(K)] for n in range(N)])
CLASSES = torch.tensor([0, -100, 2, 1, 0, 2, -100, 1, 0])
PROBABILITIES = normal(N, K, seed=7).softmax(1)
WEIGHT = torch.tensor([0.5, 2.0, 1.2], dtype=torch.float64)
VALUES, RETURNS = normal(N, seed=8), normal(N, seed=9)
OLD_VALUES = VALUES - LOG_RATIOS
"""Two thirds of them further than `CLIP` from the values."""


@dataclass(frozen=True)
class Case:
    """A loss at fixed outputs.

    Args:
        id: Its name in the report of the tests.
        module: The module of a reduction.
        form: The function: (*inputs, *constants, reduction) to loss, …, gradients, Hessians.
        plain: The loss of every sample (N,) with operations of torch: (*inputs, *constants).
        inputs: Outputs of a network, which take a gradient.
        constants: Everything else that the data gives.
        divided_by: What a mean divides the sum of ``plain`` by.
    """

    id: str
    module: Callable[..., nn.Module]
    form: Callable[..., Any]
    plain: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...] = ()
    divided_by: float = N

    def reduced(self, reduction: str, *inputs: Tensor) -> Tensor:
        """The loss with operations of torch."""
        of_samples = self.plain(*inputs, *self.constants)
        if reduction == "none":
            return of_samples
        return of_samples.sum() / (self.divided_by if reduction == "mean" else 1)

    def loss(self, reduction: str, *inputs: Tensor) -> Tensor:
        """The loss by the module."""
        output = self.module(reduction=reduction)(*inputs, *self.constants)
        return output[0] if isinstance(output, tuple) else output

    def terms(self, reduction: str, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The loss by the function, with its derivatives."""
        return self.form(*inputs, *self.constants, reduction=reduction)


def log_density(mean: Tensor, log_std: Tensor, x: Tensor) -> Tensor:
    return Normal(mean, log_std.exp().expand_as(mean), validate_args=False).log_prob(x).sum(1)


def log_policy(logits: Tensor, actions: Tensor) -> Tensor:
    return logits.log_softmax(1).gather(1, actions.unsqueeze(1)).squeeze(1)


def log_choices(logits: Tensor, actions: Tensor) -> Tensor:
    parts = zip(logits.split(SIZES, 1), actions.unbind(1), strict=True)
    return sum((log_policy(z, a) for z, a in parts), torch.zeros(N, dtype=logits.dtype))


def log_bits(logits: Tensor, bits: Tensor) -> Tensor:
    return Bernoulli(logits=logits, validate_args=False).log_prob(bits.to(logits)).sum(1)


def plain_surrogate(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor) -> Tensor:
    ratio = (logprobs - old_logprobs).exp()
    return -torch.min(ratio * advantages, ratio.clamp(1 - CLIP, 1 + CLIP) * advantages)


def plain_value_loss(values: Tensor, returns: Tensor, old_values: Tensor) -> Tensor:
    clipped = old_values + torch.clamp(values - old_values, -CLIP, CLIP)
    return 0.5 * torch.max((values - returns) ** 2, (clipped - returns) ** 2)
