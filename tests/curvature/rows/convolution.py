"""Convolutions and transposed convolutions."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.curvature.rows.row import Row, normal

CONVOLUTION = "ConvolutionBackward0"


def shapes(
    x: tuple[int, ...], weight: tuple[int, ...], bias: int | None = None
) -> Callable[[], tuple[Tensor, ...]]:
    """The inputs of a convolution: x (batch, in, …), weight (out, in/groups, …) and bias."""
    return lambda: (normal(*x), normal(*weight), *([] if bias is None else [normal(bias)]))


def time_first(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The convolution of (time, batch, channels) with (time, in, out) by an ordinary one."""
    z = F.conv1d(x.permute(1, 2, 0), weight.permute(2, 1, 0), bias, padding=1)
    return z.permute(2, 0, 1)


FORWARD = [
    Row("conv1d", CONVOLUTION, F.conv1d, shapes((2, 2, 5), (3, 2, 3), 3)),
    Row("conv2d", CONVOLUTION, F.conv2d, shapes((2, 2, 3, 4), (3, 2, 2, 3), 3)),
    Row("conv3d", CONVOLUTION, F.conv3d, shapes((2, 1, 3, 2, 3), (2, 1, 2, 2, 1), 2)),
    Row("conv2d without bias", CONVOLUTION, F.conv2d, shapes((2, 2, 3, 3), (3, 2, 2, 2))),
    Row("conv2d without batch", CONVOLUTION, F.conv2d, shapes((2, 3, 4), (3, 2, 2, 3), 3)),
    Row("conv2d 1x1", CONVOLUTION, F.conv2d, shapes((2, 3, 2, 2), (2, 3, 1, 1), 2)),
    Row(
        "conv1d hostile",
        CONVOLUTION,
        lambda *x: F.conv1d(*x, stride=2, padding=3, dilation=2, groups=2),
        shapes((2, 4, 6), (6, 2, 3), 6),
    ),
    Row(
        "conv2d hostile",
        CONVOLUTION,
        lambda *x: F.conv2d(*x, stride=(2, 1), padding=(0, 2), dilation=(1, 2), groups=2),
        shapes((2, 2, 5, 4), (4, 1, 2, 3), 4),
    ),
    Row(
        "conv3d hostile",
        CONVOLUTION,
        lambda *x: F.conv3d(*x, stride=(1, 2, 1), padding=(1, 0, 1), dilation=2, groups=2),
        shapes((1, 2, 2, 3, 2), (2, 1, 2, 2, 2), 2),
    ),
    Row(
        "conv2d depthwise",
        CONVOLUTION,
        lambda *x: F.conv2d(*x, padding=1, groups=3),
        shapes((2, 3, 3, 3), (6, 1, 3, 3), 6),
    ),
    Row(
        "conv1d same",
        CONVOLUTION,
        lambda *x: F.conv1d(*x, padding="same", dilation=2),
        shapes((2, 2, 5), (2, 2, 3), 2),
    ),
    Row(
        "conv2d valid",
        CONVOLUTION,
        lambda *x: F.conv2d(*x, padding="valid"),
        shapes((2, 2, 4, 3), (2, 2, 3, 2), 2),
    ),
    Row(
        "conv2d channels last",
        CONVOLUTION,
        lambda x, *w: F.conv2d(x.contiguous(memory_format=torch.channels_last), *w),
        shapes((2, 2, 4, 3), (2, 2, 3, 2), 2),
    ),
    Row(
        "conv_tbc",
        "ConvTbcBackward0",
        lambda *x: torch.conv_tbc(*x, 1),
        shapes((4, 2, 3), (3, 3, 2), 2),
        time_first,
    ),
]

TRANSPOSED = [
    Row("conv_transpose1d", CONVOLUTION, F.conv_transpose1d, shapes((2, 2, 4), (2, 3, 3), 3)),
    Row("conv_transpose2d", CONVOLUTION, F.conv_transpose2d, shapes((2, 2, 2, 3), (2, 3, 2, 2), 3)),
    Row(
        "conv_transpose3d",
        CONVOLUTION,
        F.conv_transpose3d,
        shapes((1, 2, 2, 1, 2), (2, 2, 2, 2, 1), 2),
    ),
    Row(
        "conv_transpose2d without bias or batch",
        CONVOLUTION,
        F.conv_transpose2d,
        shapes((2, 2, 3), (2, 3, 2, 2)),
    ),
    Row(
        "conv_transpose1d hostile",
        CONVOLUTION,
        lambda *x: F.conv_transpose1d(
            *x, stride=3, padding=1, output_padding=2, groups=2, dilation=2
        ),
        shapes((2, 4, 3), (4, 3, 2), 6),
    ),
    Row(
        "conv_transpose2d hostile",
        CONVOLUTION,
        lambda *x: F.conv_transpose2d(
            *x, stride=(2, 1), padding=(1, 0), output_padding=(1, 0), groups=2, dilation=(1, 2)
        ),
        shapes((2, 2, 2, 2), (2, 2, 3, 2), 4),
    ),
    Row(
        "conv_transpose3d hostile",
        CONVOLUTION,
        lambda *x: F.conv_transpose3d(
            *x, stride=2, padding=(1, 0, 1), output_padding=1, groups=2, dilation=1
        ),
        shapes((1, 2, 2, 1, 2), (2, 1, 2, 2, 2), 2),
    ),
]

ROWS = FORWARD + TRANSPOSED
