"""Layer, group, instance, batch and RMS norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.curvature.rows.row import Row, normal

aten = torch.ops.aten
EPS = 0.1
"""Large, so that no rule can do without it."""


def scaled(*shape: int, own: tuple[int, ...]) -> Callable[[], tuple[Tensor, ...]]:
    """An input, and a scale and a shift of the shape ``own``."""
    return lambda: (normal(*shape), normal(*own), normal(*own))


def alone(*shape: int) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (normal(*shape),)


def layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Over the last two dimensions."""
    return F.layer_norm(x, x.shape[-2:], weight, bias, EPS)


def group_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    return F.group_norm(x, 2, weight, bias, EPS)


def statistics(channels: int) -> tuple[Tensor, Tensor]:
    ramp = torch.arange(1, channels + 1, dtype=torch.float64)
    return 0.2 * ramp, 0.3 * ramp


def batch_norm(x: Tensor, *affine: Tensor, training: bool = True) -> Tensor:
    """With running statistics of its own, which training updates."""
    return F.batch_norm(x, *statistics(x.shape[1]), *affine, training=training, eps=EPS)


def batch_norm_in_evaluation(x: Tensor, *affine: Tensor) -> Tensor:
    return batch_norm(x, *affine, training=False)


KERNELS = torch.library.Library("aten", "IMPL")
"""Stand-ins that let a CPU run, and so record, the operations of a GPU."""


def _cudnn_batch_norm(x: Tensor, weight: Tensor, bias: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return (*aten.native_batch_norm(x, weight, bias, *rest), torch.empty(0))


def _cudnn_batch_norm_backward(
    x: Tensor, grad: Tensor, weight: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    *statistics, eps, _ = rest
    mask = [True, True, True]
    return aten.native_batch_norm_backward(grad, x, weight, *statistics, True, eps, mask)


KERNELS.impl("cudnn_batch_norm", _cudnn_batch_norm, "CPU")
KERNELS.impl("cudnn_batch_norm_backward", _cudnn_batch_norm_backward, "CPU")


def cudnn_batch_norm(x: Tensor, *affine: Tensor, training: bool = True) -> Tensor:
    return torch.cudnn_batch_norm(x, *affine, *statistics(x.shape[1]), training, 0.1, EPS)[0]


def rms_norm(x: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Over the last two dimensions."""
    return x / (x.square().mean((-2, -1), keepdim=True) + EPS).sqrt() * weight


def _fused_rms_norm(
    x: Tensor, shape: list[int], weight: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    rstd = (x.square().mean((-2, -1), keepdim=True) + eps).rsqrt()
    return x * rstd * (1 if weight is None else weight), rstd


def _fused_rms_norm_backward(
    grad: Tensor, x: Tensor, shape: list[int], rstd: Tensor, weight: Tensor | None, mask: list[bool]
) -> tuple[Tensor, Tensor]:
    x_hat = x * rstd
    grad_x_hat = grad * (1 if weight is None else weight)
    along = (grad_x_hat * x_hat).mean((-2, -1), keepdim=True)
    return rstd * (grad_x_hat - along * x_hat), (grad * x_hat).sum_to_size(shape)


KERNELS.impl("_fused_rms_norm_backward", _fused_rms_norm_backward, "CPU")


def fused_rms_norm(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Its stand-in lasts for the call, because `F.rms_norm` would use it too."""
    with torch.library._scoped_library("aten", "IMPL") as kernels:
        kernels.impl("_fused_rms_norm", _fused_rms_norm, "CPU")
        return aten._fused_rms_norm(x, x.shape[-2:], weight, EPS)[0]


LAYER, GROUP = "NativeLayerNormBackward0", "NativeGroupNormBackward0"
PRODUCT = "MulBackward0"
BATCH, CUDNN, RMS = "NativeBatchNormBackward0", "CudnnBatchNormBackward0", "FusedRmsNormBackward0"

ROWS = [
    Row("layer_norm", LAYER, layer_norm, alone(2, 2, 3)),
    Row("layer_norm affine", LAYER, layer_norm, scaled(2, 2, 3, own=(2, 3))),
    Row("layer_norm of all dimensions", LAYER, layer_norm, scaled(2, 3, own=(2, 3))),
    Row("group_norm", GROUP, group_norm, alone(2, 4, 3)),
    Row("group_norm affine", GROUP, group_norm, scaled(2, 4, 1, 3, own=(4,))),
    Row("group_norm without positions", GROUP, group_norm, scaled(2, 4, own=(4,))),
    Row("batch_norm", BATCH, batch_norm, alone(3, 2, 2)),
    Row("batch_norm affine", BATCH, batch_norm, scaled(2, 3, 2, 2, own=(3,))),
    Row("batch_norm without positions", BATCH, batch_norm, scaled(4, 3, own=(3,))),
    Row(
        "batch_norm without statistics",
        BATCH,
        lambda x: F.batch_norm(x, None, None, training=True, eps=EPS),
        alone(3, 2, 2),
    ),
    Row("batch_norm in evaluation", BATCH, batch_norm_in_evaluation, alone(3, 2, 2)),
    Row(
        "batch_norm affine in evaluation",
        BATCH,
        batch_norm_in_evaluation,
        scaled(2, 3, 2, 2, own=(3,)),
    ),
    Row(
        "instance_norm",
        BATCH,
        lambda x, *affine: F.instance_norm(x, None, None, *affine, eps=EPS),
        scaled(2, 2, 3, own=(2,)),
    ),
    Row(
        "instance_norm in evaluation",
        BATCH,
        lambda x, *affine: F.instance_norm(
            x, *statistics(2), *affine, use_input_stats=False, eps=EPS
        ),
        scaled(2, 2, 3, own=(2,)),
    ),
    Row(
        "cudnn_batch_norm",
        CUDNN,
        cudnn_batch_norm,
        scaled(2, 3, 2, 2, own=(3,)),
        batch_norm,
    ),
    Row(
        "cudnn_batch_norm in evaluation",
        CUDNN,
        lambda x, *affine: cudnn_batch_norm(x, *affine, training=False),
        scaled(2, 3, 2, 2, own=(3,)),
        batch_norm_in_evaluation,
    ),
    # As PyTorch writes it on a CPU; factors swapped, over other dimensions, and without ε.
    Row("rms_norm", PRODUCT, lambda x: F.rms_norm(x, (2, 3), eps=EPS), alone(2, 2, 3)),
    Row(
        "rms_norm affine",
        PRODUCT,
        lambda x, weight: F.rms_norm(x, (2, 3), weight, EPS),
        lambda: (normal(2, 2, 3), normal(2, 3)),
    ),
    Row(
        "rms_norm by hand",
        PRODUCT,
        lambda x: torch.rsqrt(x.square().mean((0, -1), keepdim=True)) * x,
        alone(2, 2, 3),
    ),
    Row("rms_norm fused", RMS, fused_rms_norm, alone(2, 2, 3), rms_norm),
    Row(
        "rms_norm fused affine",
        RMS,
        fused_rms_norm,
        lambda: (normal(2, 2, 3), normal(2, 3)),
        rms_norm,
    ),
]
