"""Networks as the paper, the benchmarks and the examples have them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

from torch import nn


def dense_network(
    sizes: Iterable[int], activation: Callable[[], nn.Module] = nn.Tanh
) -> nn.Sequential:
    """Return linear layers with an activation between them, with PyTorch's initialization.

    Args:
        sizes: Number of inputs, units of each hidden layer, number of outputs.
        activation: Makes the module that follows each layer but the last.
    """
    modules: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        modules += [nn.Linear(n_in, n_out), activation()]
    return nn.Sequential(*modules[:-1])


def three_c_three_d(classes: int = 100, channels: int = 64) -> nn.Sequential:
    """3C3D of DeepOBS (Schneider et al., 2019) for images of 32×32×3, with ELU as in the paper.

    Args:
        classes: Number of classes; the output has the shape (N, classes).
        channels: Channels of the first layer, by which the others go; 64 in DeepOBS.
    """
    middle, last = 3 * channels // 2, 2 * channels
    return nn.Sequential(
        *_convolution(3, channels, 5),
        nn.MaxPool2d(3, stride=2),
        *_convolution(channels, middle, 3),
        nn.MaxPool2d(3, stride=2),
        *_convolution(middle, last, 3),
        nn.MaxPool2d(3, stride=2),
        nn.Flatten(),
        *dense_network((last, 8 * channels, 4 * channels, classes), nn.ELU),
    )


def all_cnn_c(classes: int = 100, channels: int = 96, padding: int = 1) -> nn.Sequential:
    """ALL-CNN-C (Springenberg et al., 2015) for images of 32×32×3, with ELU as in the paper.

    Args:
        classes: Number of classes; the output has the shape (N, classes).
        channels: Channels of the first three layers, twice of them in the next five.
        padding: Pixels around the inputs of the first six layers; 0 in the authors' code.
    """
    wide = 2 * channels
    return nn.Sequential(
        nn.Dropout(0.2),
        *_convolution(3, channels, 3, padding=padding),
        *_convolution(channels, channels, 3, padding=padding),
        *_convolution(channels, channels, 3, padding=padding, stride=2),
        nn.Dropout(0.5),
        *_convolution(channels, wide, 3, padding=padding),
        *_convolution(wide, wide, 3, padding=padding),
        *_convolution(wide, wide, 3, padding=padding, stride=2),
        nn.Dropout(0.5),
        *_convolution(wide, wide, 3),
        *_convolution(wide, wide, 1),
        *_convolution(wide, classes, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def _convolution(
    n_in: int, n_out: int, size: int, padding: int = 0, stride: int = 1
) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(n_in, n_out, size, padding=padding, stride=stride), nn.ELU()


def xavier_init(network: nn.Module, bias: float) -> None:
    """Initialize a network as DeepOBS does: normal convolutions, uniform dense layers."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            draw = (
                nn.init.xavier_normal_ if isinstance(module, nn.Conv2d) else nn.init.xavier_uniform_
            )
            draw(module.weight)
            assert module.bias is not None
            nn.init.constant_(module.bias, bias)
