"""Alignments of labels with sequences."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.curvature.rows.row import Row, normal

CLASSES, BLANK = 3, 1
TARGETS = [[2, 2], [0, 2], [0], []]
"""With a label that repeats, which takes a blank between, and without any label."""
LENGTHS = (3, 4, 2, 3)


def logits() -> tuple[Tensor, ...]:
    return (normal(4, len(TARGETS), CLASSES),)


def labels_of(alignment: tuple[int, ...]) -> list[int]:
    """Repetitions count once, blanks not at all."""
    return [label for label, _ in itertools.groupby(alignment) if label != BLANK]


def by_alignments(
    y: Tensor, targets: list[list[int]], reduction: str, added: float = 1.0
) -> Tensor:
    """The loss, and the sum of probabilities that PyTorch's gradient adds to it."""
    losses = []
    for n, (length, labels) in enumerate(zip(LENGTHS, targets, strict=True)):
        alignments = itertools.product(range(CLASSES), repeat=length)
        logs = [
            sum(y[t, n, k] for t, k in enumerate(alignment))
            for alignment in alignments
            if labels_of(alignment) == labels
        ]
        normalizer = added * y[:length, n].exp().sum()
        loss = normalizer - torch.stack(logs).logsumexp(0) if logs else 0 * y.sum()
        losses.append(loss / max(len(labels), 1) if reduction == "mean" else loss)
    terms = torch.stack(losses)
    return {"none": torch.clone, "mean": torch.mean, "sum": torch.sum}[reduction](terms)


def ctc(targets: list[list[int]], **options: Any) -> Callable[[Tensor], Tensor]:
    flat = torch.tensor([label for labels in targets for label in labels])
    sizes = tuple(len(labels) for labels in targets)
    return lambda y: F.ctc_loss(y, flat, LENGTHS, sizes, BLANK, **options)


def by_tensors(y: Tensor) -> Tensor:
    """As on a GPU, where the lengths are tensors."""
    flat = torch.tensor([label for labels in TARGETS for label in labels])
    sizes = torch.tensor([len(labels) for labels in TARGETS])
    return torch._ctc_loss(y, flat, torch.tensor(LENGTHS), sizes, BLANK)[0]


IMPOSSIBLE = [[2, 2], [0, 0, 0], [0], []]
ROWS = [
    *(
        Row(
            f"ctc {reduction}",
            "CtcLossBackward0",
            ctc(TARGETS, reduction=reduction),
            logits,
            partial(by_alignments, targets=TARGETS, reduction=reduction),
        )
        for reduction in ("none", "mean", "sum")
    ),
    Row(
        "ctc impossible",
        "CtcLossBackward0",
        ctc(IMPOSSIBLE, reduction="none", zero_infinity=True),
        logits,
        partial(by_alignments, targets=IMPOSSIBLE, reduction="none"),
    ),
    Row(
        "ctc by tensors",
        "CtcLossBackward1",
        by_tensors,
        logits,
        partial(by_alignments, targets=TARGETS, reduction="none"),
    ),
    Row(
        "ctc of one",
        "CtcLossBackward0",
        lambda y: F.ctc_loss(y[:, 1], torch.tensor(TARGETS[1]), (4,), (2,), BLANK, "sum"),
        logits,
        lambda y: by_alignments(y, TARGETS, "none")[1],
    ),
]
