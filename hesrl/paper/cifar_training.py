"""Training on CIFAR-100 as in DeepOBS and the authors' code, one network, optimizer and seed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hesrl.measuring.cifar import CLASSES, Images, load_cifar100
from hesrl.measuring.networks import all_cnn_c, three_c_three_d, xavier_init
from hesrl.optim import CurvatureOptimizer
from hesrl.paper.training import unbounded

MEAN = (0.50707516, 0.48654887, 0.44091784)
DEVIATION = (0.26733429, 0.25643846, 0.27615047)
"""Of the channels of the training images, from 0 to 1."""
PAD, BRIGHTNESS, SATURATION, CONTRAST = 2, 63 / 255, (0.5, 1.5), (0.2, 1.8)
"""Of the augmentation: pixels around an image, and ranges of factors (brightness: 1 ± it)."""
VALIDATION = 0.2
"""Part of the training images that the step size is chosen by."""


class Problem(NamedTuple):
    """A network with its settings in DeepOBS."""

    make: Callable[..., nn.Sequential]
    channels: int
    bias: float
    """What biases start with."""
    batch_size: int
    epochs: int
    weight_decay: float


PROBLEMS = {
    "3c3d": Problem(three_c_three_d, 64, 0.0, 128, 200, 0.002),
    "all-cnn-c": Problem(partial(all_cnn_c, padding=0), 96, 0.1, 256, 350, 5e-4),
}


class Row(NamedTuple):
    """A network after an epoch."""

    network: str
    optimizer: str
    learning_rate: float
    seed: int
    epoch: int
    seconds: float
    """Time of training so far (s)."""
    train_loss: float
    """Mean over the epoch's batches; NaN in the last row of a run that has diverged."""
    valid_accuracy: float
    test_accuracy: float


class Data(NamedTuple):
    """Images on a device."""

    train: Images
    valid: Images
    test: Images


@lru_cache(maxsize=1)
def _loaded(path: Path, official: bool) -> tuple[Images, Images]:
    return load_cifar100(path, official=official)


def split(path: Path, official: bool, seed: int, device: str) -> Data:
    """Return the images, with validation images that the seed draws from the training images."""
    train, test = _loaded(path, official)
    order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(seed))
    count = int(VALIDATION * len(order))
    parts = order[count:], order[:count]
    train, valid = (Images(train.pixels[part], train.labels[part]) for part in parts)
    return Data(*(Images(i.pixels.to(device), i.labels.to(device)) for i in (train, valid, test)))


def train_run(
    network: str,
    optimizer: str,
    learning_rate: float,
    seed: int,
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    channels: int,
) -> list[Row]:
    """Train and return a row for each epoch; a run that diverges ends with a row of NaN.

    Args:
        network: Key of `PROBLEMS`.
        optimizer: A name of `hesrl.optim`, with its default β and ε.
        learning_rate: Its step size.
        seed: Of initialization, order of the images and augmentation; the same for all optimizers.
        data: The images.
        epochs: Passes over the training images.
        batch_size: Images in a step.
        channels: Of the first layer.
    """
    problem, device = PROBLEMS[network], data.train.labels.device
    torch.manual_seed(seed)
    model = problem.make(CLASSES, channels)
    xavier_init(model, problem.bias)
    model.to(device)
    steps = unbounded(optimizer)(
        model.parameters(), lr=learning_rate, weight_decay=problem.weight_decay
    )
    rows: list[Row] = []
    seconds = 0.0
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        try:
            loss = _train_epoch(model, steps, data.train, batch_size)
            diverged = not math.isfinite(loss)
        except FloatingPointError:
            diverged = True
        seconds += time.perf_counter() - start
        key = network, optimizer, learning_rate, seed, epoch, round(seconds, 3)
        if diverged:
            return [*rows, Row(*key, math.nan, math.nan, math.nan)]
        accuracies = (round(accuracy(model, images), 5) for images in (data.valid, data.test))
        rows.append(Row(*key, float(f"{loss:.6g}"), *accuracies))
    return rows


def _train_epoch(
    model: nn.Module, optimizer: CurvatureOptimizer, images: Images, batch_size: int
) -> float:
    model.train()
    losses = []
    order = torch.randperm(len(images.labels)).to(images.labels.device)
    for batch in order.split(batch_size):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(augmented(images.pixels[batch])), images.labels[batch])
        if not loss.isfinite():
            raise FloatingPointError("the loss is not finite")
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


@torch.no_grad()
def accuracy(model: nn.Module, images: Images) -> float:
    """Return the share of images that a network classifies rightly."""
    model.eval()
    right = 0
    for pixels, labels in zip(images.pixels.split(1000), images.labels.split(1000), strict=True):
        right += int((model(normalized(pixels / 255)).argmax(1) == labels).sum())
    return right / len(images.labels)


def normalized(x: Tensor) -> Tensor:
    """Return images (N, 3, H, W) from 0 to 1 with mean 0 and deviation 1 over all of CIFAR-100."""
    mean, deviation = (x.new_tensor(values).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
    return (x - mean) / deviation


def augmented(pixels: Tensor) -> Tensor:
    """Return normalized images (N, 3, H, W), each moved, mirrored and changed in colour at random.

    Each is padded by `PAD` pixels and cut out anew; then its brightness, saturation and contrast
    are multiplied.
    """
    count, _, height, width = pixels.shape
    device = pixels.device
    x = F.pad(pixels / 255, [PAD] * 4)

    def places(size: int) -> Tensor:
        """Return the pixels of each image that are kept along one side (N, size)."""
        first = torch.randint(2 * PAD + 1, (count, 1)).to(device)
        return first + torch.arange(size, device=device)

    down, along = places(height), places(width)
    mirrored = torch.rand(count, 1).to(device) < 0.5
    along = torch.where(mirrored, along.flip(1), along)
    image = torch.arange(count, device=device).view(-1, 1, 1)
    x = x.permute(0, 2, 3, 1)[image, down.unsqueeze(2), along.unsqueeze(1)].permute(0, 3, 1, 2)

    def factor(low: float, high: float) -> Tensor:
        return torch.empty(count, 1, 1, 1).uniform_(low, high).to(device)

    x = (x * factor(1 - BRIGHTNESS, 1 + BRIGHTNESS)).clamp(0, 1)
    x = torch.lerp(_grey(x), x, factor(*SATURATION)).clamp(0, 1)
    x = torch.lerp(_grey(x).mean((1, 2, 3), keepdim=True), x, factor(*CONTRAST)).clamp(0, 1)
    return normalized(x)


def _grey(x: Tensor) -> Tensor:
    """Return the brightness that eyes see (N, 1, H, W), as in ITU-R 601."""
    weights = x.new_tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)
    return (weights * x).sum(1, keepdim=True)
