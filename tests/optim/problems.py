"""The table of all optimizers, and a small problem for them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hesrl import optim

ADAPTIVE = {"form": "adaptive", "divide_by": "curvature"}
TABLE = {
    "sgd": {"form": "momentum"},
    "adam": {"form": "adaptive", "divide_by": "gradient"},
    "adahessian": {**ADAPTIVE, "spatial_averaging": True},
    "adahesscale": ADAPTIVE,
    "adahesscalegn": ADAPTIVE,
    "adabl89": ADAPTIVE,
    "adaggnmc": ADAPTIVE,
}
TABLE |= {f"scaled-{name}": {**how, "delta": 1e-6} for name, how in TABLE.items()}
"""What the reference needs to know of each optimizer."""

ALL = [optim.get(name) for name in TABLE]
EACH = pytest.mark.parametrize("optimizer_class", ALL, ids=lambda cls: cls.__name__)
CURVED = pytest.mark.parametrize(
    "optimizer_class", [cls for cls in ALL if cls.curvature], ids=lambda cls: cls.__name__
)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def loss_of(model, step):
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    return nn.functional.mse_loss(model(x), x[:, :2].sin())


def groups(model, **settings):
    """Two groups of parameters, whose settings differ."""
    first, last = model[0], model[2]
    return [
        {"params": first.parameters(), "lr": 1e-2},
        {"params": last.parameters(), "weight_decay": 0.1, **settings},
    ]


def train(model, optimizer, steps, scheduler=None):
    """Take the steps with the given numbers; a plain torch training loop."""
    for step in steps:
        optimizer.zero_grad()
        torch.manual_seed(step)  # for curvature that is sampled
        loss_of(model, step).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def assert_same_parameters(model, other, tolerance=0.0):
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=tolerance, atol=tolerance)
