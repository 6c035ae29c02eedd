"""Small networks and losses on which a step size that is safe for Adam should be safe.

Among the losses are those that a network's outputs enter linearly or nearly so, where a curvature
is zero and a step that divides by it has no bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hesrl.bench.coverage_examine import Build, Case
from hesrl.measuring.networks import dense_network

CLASSES = 10
"""Outputs of every network, too."""
_BATCH = 32

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From outputs (N, 10), classes (N,) and targets (N, 10) to a scalar."""


def _dense(activation: type[nn.Module], *, width: int = 32, depth: int = 2) -> nn.Module:
    return dense_network([CLASSES, *[width] * depth, CLASSES], activation)


def _normalized(norm: type[nn.Module], activation: type[nn.Module]) -> nn.Module:
    return nn.Sequential(
        nn.Linear(CLASSES, 32), norm(32), activation(), nn.Linear(32, 32), norm(32), activation(),
        nn.Linear(32, CLASSES),
    )  # fmt: skip


def _convolutional(norm: type[nn.Module], activation: type[nn.Module]) -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, CLASSES, 1)), nn.Conv2d(1, 8, (3, 1), padding=(1, 0)), norm(8),
        activation(), nn.MaxPool2d((2, 1)), nn.Conv2d(8, 16, (3, 1), padding=(1, 0)), norm(16),
        activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES),
    )  # fmt: skip


class _Attentive(nn.Module):
    """A transformer's layer over the ten inputs, each a token."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(1, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.layer(self.embedding(x[..., None])).mean(1))
        return y


class _Recurrent(nn.Module):
    """A recurrent layer over the ten inputs, one after the other."""

    def __init__(self, layer: type[nn.GRU | nn.LSTM]) -> None:
        super().__init__()
        self.layer = layer(1, 16, batch_first=True)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.layer(x[..., None])[0][:, -1])
        return y


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(CLASSES, CLASSES),
    "tanh": partial(_dense, nn.Tanh),
    "sigmoid": partial(_dense, nn.Sigmoid),
    "ReLU": partial(_dense, nn.ReLU),
    "wide ReLU": partial(_dense, nn.ReLU, width=256),
    "deep ReLU": partial(_dense, nn.ReLU, depth=8),
    "layer norm, GELU": partial(_normalized, nn.LayerNorm, nn.GELU),
    "batch norm, SiLU": partial(_normalized, nn.BatchNorm1d, nn.SiLU),
    "convolutions, batch norm": partial(_convolutional, nn.BatchNorm2d, nn.ReLU),
    "convolutions, tanh": partial(_convolutional, nn.Identity, nn.Tanh),
    "attention": _Attentive,
    "GRU": partial(_Recurrent, nn.GRU),
    "LSTM": partial(_Recurrent, nn.LSTM),
}


def _focal(z: Tensor, classes: Tensor, _: Tensor) -> Tensor:
    log_p = F.log_softmax(z, 1).gather(1, classes[:, None])
    return -((1 - log_p.exp()) ** 2 * log_p).mean()


def _gaussian(z: Tensor, _: Tensor, targets: Tensor) -> Tensor:
    mean, raw = z.chunk(2, 1)
    return F.gaussian_nll_loss(mean, targets[:, : mean.shape[1]], F.softplus(raw) + 1e-3)


LOSSES: dict[str, Loss] = {
    "cross-entropy": lambda z, classes, _: F.cross_entropy(z, classes),
    "focal": _focal,
    "hinge": lambda z, classes, _: (1 - z[:, 0] * (2.0 * (classes > 4) - 1)).relu().mean(),
    "multi-class hinge": lambda z, classes, _: F.multi_margin_loss(z, classes),
    "binary cross-entropy": lambda z, classes, _: F.binary_cross_entropy_with_logits(
        z, F.one_hot(classes, CLASSES).to(z)
    ),
    "Wasserstein critic": lambda z, classes, _: (z[:, 0] * (2.0 * (classes > 4) - 1)).mean(),
    "MSE": lambda z, _, targets: F.mse_loss(z, targets),
    "MSE × 1e-4": lambda z, _, targets: 1e-4 * F.mse_loss(z, targets),
    "MSE × 1e4": lambda z, _, targets: 1e4 * F.mse_loss(z, targets),
    "L1": lambda z, _, targets: F.l1_loss(z, targets),
    "Huber": lambda z, _, targets: F.smooth_l1_loss(z, targets),
    "Poisson": lambda z, _, targets: F.poisson_nll_loss(z, targets.abs().round()),
    "Gaussian": _gaussian,
}


def build(network: str, loss: str) -> Case:
    """Return a network, initialized by the global seed, with a loss of a new batch at each call."""
    model, batches = NETWORKS[network](), _batches()

    def next_loss() -> Tensor:
        x, classes, targets = next(batches)
        return LOSSES[loss](model(x), classes, targets)

    return Case(network, model, next_loss)


def _batches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    while True:
        x = torch.randn(_BATCH, CLASSES, generator=generator)
        classes = torch.randint(CLASSES, (_BATCH,), generator=generator)
        yield x, classes, torch.randn(_BATCH, CLASSES, generator=generator)


def all_cases() -> dict[tuple[str, str], Build]:
    """Return what builds each network with each loss, by their names."""
    return {
        (network, loss): partial(build, network, loss) for network in NETWORKS for loss in LOSSES
    }
