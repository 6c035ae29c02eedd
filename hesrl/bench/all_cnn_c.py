"""Networks of the paper's experiments that are more than a few lines."""

from __future__ import annotations

from torch import nn


def all_cnn_c(classes: int = 100, channels: int = 96) -> nn.Sequential:
    """ALL-CNN-C (Springenberg et al., 2015) for images of 32×32×3, with ELU as in the paper.

    Args:
        classes: Number of classes; the output has the shape (N, classes).
        channels: Channels of the first three layers, twice of them in the next five.
    """
    wide = 2 * channels
    return nn.Sequential(
        nn.Dropout(0.2),
        *_convolution(3, channels, 3, padding=1),
        *_convolution(channels, channels, 3, padding=1),
        *_convolution(channels, channels, 3, padding=1, stride=2),
        nn.Dropout(0.5),
        *_convolution(channels, wide, 3, padding=1),
        *_convolution(wide, wide, 3, padding=1),
        *_convolution(wide, wide, 3, padding=1, stride=2),
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
