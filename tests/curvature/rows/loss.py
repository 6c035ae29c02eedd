"""Losses that PyTorch computes in one operation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.curvature.rows.row import Row, normal, one, pair

TARGETS = torch.tensor([2, 0, 1])
PIXELS = torch.tensor([[[2, 0], [1, 1]], [[0, 2], [2, 1]]])
LABELS = torch.tensor([[1, 0, -1, 0], [3, -1, 0, 0], [2, 1, 0, -1]])
SIGNS = torch.tensor([[1.0, -1.0, -1.0, 1.0]], dtype=torch.float64).expand(3, 4)
WEIGHTS = torch.tensor([0.5, 2.0, 1.7, 1.0], dtype=torch.float64)


def probabilities() -> tuple[Tensor, ...]:
    return torch.sigmoid(normal(3, 4)), torch.sigmoid(normal(3, 4))


def logits_and_probabilities() -> tuple[Tensor, ...]:
    return normal(3, 4), torch.sigmoid(normal(3, 4))


def pixels() -> tuple[Tensor, ...]:
    return (normal(2, 3, 2, 2),)


def each_reduction(
    name: str,
    node: str,
    loss: Callable[..., Any],
    inputs: Callable[[], Any] = one,
    terms: Callable[..., Any] | None = None,
) -> list[Row]:
    """A loss under each reduction; its terms by other operations, if they are the reference."""

    def reduced(*x: Tensor, reduction: str) -> Tensor:
        assert terms is not None
        return {"none": torch.clone, "mean": torch.mean, "sum": torch.sum}[reduction](terms(*x))

    return [
        Row(
            f"{name} {reduction}",
            node,
            partial(loss, reduction=reduction),
            inputs,
            partial(reduced, reduction=reduction) if terms else None,
        )
        for reduction in ("none", "mean", "sum")
    ]


def huber(x: Tensor, t: Tensor, reduction: str) -> Tensor:
    return F.huber_loss(x, t, reduction, 0.7)


def smooth_l1(x: Tensor, t: Tensor, reduction: str) -> Tensor:
    return F.smooth_l1_loss(x, t, reduction=reduction, beta=0.7)


def bce_terms(x: Tensor, t: Tensor) -> Tensor:
    return -t * x.log() - (1 - t) * (1 - x).log()


def weighted_bce(x: Tensor, t: Tensor, reduction: str) -> Tensor:
    return F.binary_cross_entropy(x, t, WEIGHTS, reduction=reduction)


def weighted_bce_with_logits(x: Tensor, t: Tensor, reduction: str) -> Tensor:
    return F.binary_cross_entropy_with_logits(
        x, t, WEIGHTS, reduction=reduction, pos_weight=1 / WEIGHTS
    )


def nll(x: Tensor, reduction: str) -> Tensor:
    return F.nll_loss(x, TARGETS, WEIGHTS, ignore_index=1, reduction=reduction)


def nll_of_pixels(x: Tensor, reduction: str) -> Tensor:
    return F.nll_loss(x, PIXELS, WEIGHTS[:3], ignore_index=1, reduction=reduction)


def soft_margin(x: Tensor, reduction: str) -> Tensor:
    return F.soft_margin_loss(x, SIGNS, reduction=reduction)


def soft_margin_terms(x: Tensor) -> Tensor:
    return F.softplus(-SIGNS * x)


def multilabel_margin(x: Tensor, reduction: str) -> Tensor:
    return F.multilabel_margin_loss(x, LABELS, reduction=reduction)


def multilabel_margin_terms(x: Tensor) -> Tensor:
    labels = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 1], [1, 1, 1, 0]])
    margins = (1 - x.unsqueeze(2) + x.unsqueeze(1)).clamp(min=0)
    return (margins * labels.unsqueeze(2) * (1 - labels).unsqueeze(1)).sum((1, 2)) / 4


def multi_margin(p: int, weight: Tensor | None = None) -> Callable[..., Tensor]:
    return partial(F.multi_margin_loss, target=TARGETS, p=p, margin=0.8, weight=weight)


def multi_margin_terms(p: int, weight: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    def terms(x: Tensor) -> Tensor:
        others = 1 - F.one_hot(TARGETS, 4)
        margins = (0.8 - x.gather(1, TARGETS[:, None]) + x).clamp(min=0) * others
        return (margins**p).mean(1) * (1 if weight is None else weight[TARGETS])

    return terms


BCE, BCE_LOGITS = "BinaryCrossEntropyBackward0", "BinaryCrossEntropyWithLogitsBackward0"
ROWS = [
    *each_reduction("mse", "MseLossBackward0", F.mse_loss, pair),
    *each_reduction("huber", "HuberLossBackward0", huber, pair),
    *each_reduction("smooth_l1", "SmoothL1LossBackward0", smooth_l1, pair),
    *each_reduction("bce", BCE, F.binary_cross_entropy, probabilities, bce_terms),
    *each_reduction(
        "bce weighted", BCE, weighted_bce, probabilities, lambda x, t: WEIGHTS * bce_terms(x, t)
    ),
    *each_reduction(
        "bce with logits",
        BCE_LOGITS,
        F.binary_cross_entropy_with_logits,
        logits_and_probabilities,
    ),
    *each_reduction(
        "bce with logits weighted", BCE_LOGITS, weighted_bce_with_logits, logits_and_probabilities
    ),
    *each_reduction("soft margin", "SoftMarginLossBackward0", soft_margin, one, soft_margin_terms),
    *each_reduction("nll", "NllLossBackward0", nll),
    Row(
        "nll of one", "NllLossBackward0", lambda x: F.nll_loss(x, TARGETS[0]), lambda: (normal(4),)
    ),
    *each_reduction("nll 2d", "NllLoss2DBackward0", nll_of_pixels, pixels),
    *each_reduction(
        "multilabel margin",
        "MultilabelMarginLossBackward0",
        multilabel_margin,
        one,
        multilabel_margin_terms,
    ),
    *(
        row
        for p in (1, 2)
        for weight in (None, WEIGHTS)
        for row in each_reduction(
            f"multi margin {p} {'plain' if weight is None else 'weighted'}",
            "MultiMarginLossBackward0",
            multi_margin(p, weight),
            one,
            multi_margin_terms(p, weight),
        )
    ),
    Row(
        "multi margin of one",
        "MultiMarginLossBackward0",
        lambda x: F.multi_margin_loss(x, TARGETS[0], p=2),
        lambda: (normal(4),),
        lambda x: ((1 - x[2] + x).clamp(min=0)[[0, 1, 3]] ** 2).sum() / 4,
    ),
]
