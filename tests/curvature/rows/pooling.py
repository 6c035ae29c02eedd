"""Max and average pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.curvature.rows.row import Row, normal, positive

SAMPLES = torch.tensor([[[0.1, 0.7], [0.6, 0.3]]] * 2, dtype=torch.float64)
SAMPLES_3D = torch.tensor([[[0.1, 0.7, 0.4], [0.6, 0.3, 0.9]]] * 2, dtype=torch.float64)


def image(*size: int, batch: int = 2, channels: int = 2) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (normal(batch, channels, *size),)


def picked(pool: Callable[..., Any]) -> Callable[[Tensor], Tensor]:
    """The entries at the indices that ``pool`` returns, one window each."""

    def function(x: Tensor) -> Tensor:
        indices = pool(x.detach())[1]
        spatial = indices.dim() - 2
        return x.flatten(-spatial).gather(-1, indices.flatten(-spatial)).view_as(indices)

    return function


def fractional_2d(x: Tensor) -> Any:
    return F.fractional_max_pool2d(x, 2, (3, 2), return_indices=True, _random_samples=SAMPLES)


def fractional_3d(x: Tensor) -> Any:
    samples = SAMPLES_3D[:, :1]
    return F.fractional_max_pool3d(x, 2, (2, 2, 1), return_indices=True, _random_samples=samples)


def unpooled(pool: Callable[..., Tensor], unpool: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``unpool`` to the places of the largest entries of another, fixed tensor."""

    def function(x: Tensor) -> Tensor:
        size = [2 * length for length in x.shape[2:]]
        generator = torch.Generator().manual_seed(0)
        fixed = torch.randn(*x.shape[:2], *size, generator=generator, dtype=torch.float64)
        return unpool(x, pool(fixed, 2, return_indices=True)[1], 2)

    return function


MAX = [
    Row("max_pool1d", "MaxPool2DWithIndicesBackward0", lambda x: F.max_pool1d(x, 3, 2), image(8)),
    Row(
        "max_pool1d hostile",
        "MaxPool2DWithIndicesBackward0",
        lambda x: F.max_pool1d(x, 3, 2, padding=1, dilation=2, ceil_mode=True),
        image(8),
    ),
    Row("max_pool2d", "MaxPool2DWithIndicesBackward0", lambda x: F.max_pool2d(x, 2), image(4, 4)),
    Row(
        "max_pool2d hostile",
        "MaxPool2DWithIndicesBackward0",
        lambda x: F.max_pool2d(x, (3, 2), (1, 2), (1, 0), (2, 1), ceil_mode=True),
        image(5, 5),
    ),
    Row(
        "max_pool2d values and indices",
        "MaxPool2DWithIndicesBackward0",
        lambda x: F.max_pool2d(x, 3, 1, return_indices=True)[0],
        image(4, 4),
    ),
    Row(
        "max_pool2d without batch",
        "MaxPool2DWithIndicesBackward0",
        lambda x: F.max_pool2d(x, 3, 1),
        lambda: (normal(2, 4, 4),),
    ),
    Row(
        "max_pool3d",
        "MaxPool3DWithIndicesBackward0",
        lambda x: F.max_pool3d(x, (2, 3, 2), (1, 2, 1), (1, 0, 1), ceil_mode=True),
        image(3, 4, 2, batch=1),
    ),
    Row(
        "adaptive_max_pool1d",
        "AdaptiveMaxPool2DBackward0",
        lambda x: F.adaptive_max_pool1d(x, 3),
        image(7),
    ),
    Row(
        "adaptive_max_pool2d",
        "AdaptiveMaxPool2DBackward0",
        lambda x: F.adaptive_max_pool2d(x, (3, 2)),
        image(4, 5),
    ),
    Row(
        "adaptive_max_pool3d",
        "AdaptiveMaxPool3DBackward0",
        lambda x: F.adaptive_max_pool3d(x, (2, 2, 3)),
        image(3, 2, 4, batch=1),
    ),
    Row(
        "fractional_max_pool2d",
        "FractionalMaxPool2DBackward0",
        lambda x: fractional_2d(x)[0],
        image(5, 5),
        picked(fractional_2d),
    ),
    Row(
        "fractional_max_pool3d",
        "FractionalMaxPool3DBackward0",
        lambda x: fractional_3d(x)[0],
        image(4, 4, 3, channels=1),
        picked(fractional_3d),
    ),
    Row("max_unpool1d", "MaxUnpool2DBackward0", unpooled(F.max_pool1d, F.max_unpool1d), image(3)),
    Row(
        "max_unpool2d", "MaxUnpool2DBackward0", unpooled(F.max_pool2d, F.max_unpool2d), image(2, 3)
    ),
    Row(
        "max_unpool3d",
        "MaxUnpool3DBackward0",
        unpooled(F.max_pool3d, F.max_unpool3d),
        image(1, 2, 2),
    ),
]

AVERAGE = [
    Row("avg_pool1d", "AvgPool2DBackward0", lambda x: F.avg_pool1d(x, 3, 2, 1, True), image(8)),
    Row("avg_pool2d", "AvgPool2DBackward0", lambda x: F.avg_pool2d(x, (2, 3)), image(4, 6)),
    Row("avg_pool2d overlap", "AvgPool2DBackward0", lambda x: F.avg_pool2d(x, 3, 1), image(4, 5)),
    Row(
        "avg_pool2d one size",
        "AvgPool2DBackward0",
        lambda x: F.avg_pool2d(x, [3], [2], [1], ceil_mode=True),
        image(4, 4),
    ),
    *(
        Row(
            f"avg_pool2d ceil_mode={ceil} count_include_pad={count} divisor_override={divisor}",
            "AvgPool2DBackward0",
            lambda x, c=ceil, n=count, d=divisor: F.avg_pool2d(x, (3, 2), 2, 1, c, n, d),
            image(4, 4),
        )
        for ceil in (False, True)
        for count in (False, True)
        for divisor in (None, 5)
    ),
    *(
        Row(
            f"avg_pool3d ceil_mode={ceil} count_include_pad={count}",
            "AvgPool3DBackward0",
            lambda x, c=ceil, n=count: F.avg_pool3d(x, (2, 3, 2), (1, 2, 2), (1, 1, 0), c, n),
            image(2, 4, 3, batch=1),
        )
        for ceil in (False, True)
        for count in (False, True)
    ),
    Row(
        "avg_pool3d without batch",
        "AvgPool3DBackward0",
        lambda x: F.avg_pool3d(x, 2, divisor_override=3),
        lambda: (normal(2, 2, 4, 2),),
    ),
    Row(
        "adaptive_avg_pool1d",
        "AdaptiveAvgPool2DBackward0",
        lambda x: F.adaptive_avg_pool1d(x, 3),
        image(7),
    ),
    Row(
        "adaptive_avg_pool2d",
        "AdaptiveAvgPool2DBackward0",
        lambda x: F.adaptive_avg_pool2d(x, (3, 2)),
        image(4, 5),
    ),
    Row(
        "adaptive_avg_pool2d larger",
        "AdaptiveAvgPool2DBackward0",
        lambda x: F.adaptive_avg_pool2d(x, (None, 4)),
        image(2, 3),
    ),
    Row(
        "adaptive_avg_pool3d",
        "AdaptiveAvgPool3DBackward0",
        lambda x: F.adaptive_avg_pool3d(x, (2, 1, 3)),
        image(3, 2, 4, batch=1),
    ),
    Row("global average", "MeanBackward1", lambda x: F.adaptive_avg_pool2d(x, 1), image(3, 4)),
    Row("lp_pool2d", "AvgPool2DBackward0", lambda x: F.lp_pool2d(x, 2, 3, 1), image(4, 4)),
    Row(
        "lp_pool1d",
        "AvgPool2DBackward0",
        lambda x: F.lp_pool1d(x, 2.5, 2, ceil_mode=True),
        lambda: (positive(2, 2, 5),),
    ),
    Row(
        "lp_pool3d",
        "AvgPool3DBackward0",
        lambda x: F.lp_pool3d(x, 3, (1, 2, 2)),
        lambda: (positive(1, 1, 2, 4, 4),),
    ),
    Row(
        "area interpolation",
        "AdaptiveAvgPool2DBackward0",
        lambda x: F.interpolate(x, (3, 2), mode="area"),
        image(4, 3),
    ),
]

ROWS = MAX + AVERAGE
