"""Embeddings, one by one and in bags; the references pick the rows by plain indexing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.curvature.rows.row import Row, normal

INDEX = torch.tensor([[1, 0, 1], [4, 1, 3]])
PLACES = torch.tensor([2, 2, 0, 3, 3, 3, 1, 2, 2])
OFFSETS = torch.tensor([0, 2, 2, 7])
"""Bags of 2, 0, 5 and 2 places; the first and the last one have the same row twice."""


def table() -> tuple[Tensor, ...]:
    return (normal(5, 3),)


def table_and_weights() -> tuple[Tensor, ...]:
    return normal(5, 3), normal(9)


def picked(w: Tensor) -> Tensor:
    return w[INDEX]


def without_padding(w: Tensor) -> Tensor:
    """The padding row is a constant for the gradient."""
    return torch.where(INDEX.unsqueeze(-1) == 1, w.detach()[INDEX], w[INDEX])


def bags(reduce: Callable[[Tensor], Tensor], padding: int | None = None) -> Callable[..., Any]:
    """The bags one after the other; an empty one is zero."""

    def function(w: Tensor, s: Tensor | None = None) -> Tensor:
        parts = []
        for start, end in zip(OFFSETS.tolist(), [*OFFSETS.tolist()[1:], len(PLACES)], strict=True):
            places = [i for i in range(start, end) if PLACES[i] != padding]
            rows = w[PLACES[places]]
            rows = rows if s is None else s[places].unsqueeze(1) * rows
            parts.append(reduce(rows) if places else w.new_zeros(3))
        return torch.stack(parts)

    return function


REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda rows: rows.sum(0),
    "mean": lambda rows: rows.mean(0),
    "max": lambda rows: rows.amax(0),
}

EMBEDDING, BAG = "EmbeddingBackward0", "EmbeddingBagBackward0"

ROWS = [
    Row("embedding", EMBEDDING, lambda w: F.embedding(INDEX, w), table),
    Row(
        "embedding scaled by frequency",
        EMBEDDING,
        lambda w: F.embedding(INDEX, w, scale_grad_by_freq=True),
        table,
        picked,
    ),
    Row(
        "embedding padding",
        EMBEDDING,
        lambda w: F.embedding(INDEX, w, padding_idx=-4),
        table,
        without_padding,
    ),
    Row(
        "embedding max_norm",
        EMBEDDING,
        lambda w: F.embedding(INDEX, w, max_norm=0.5),
        table,
        picked,
    ),
    *(
        Row(
            f"embedding_bag {mode} padding={padding}",
            BAG,
            lambda w, mode=mode, padding=padding: F.embedding_bag(
                PLACES, w, OFFSETS, mode=mode, padding_idx=padding
            ),
            table,
            bags(reduce, padding),
        )
        for mode, reduce in REDUCTIONS.items()
        for padding in (None, 2)
    ),
    *(
        Row(
            f"embedding_bag weighted padding={padding}",
            BAG,
            lambda w, s, padding=padding: F.embedding_bag(
                PLACES, w, OFFSETS, mode="sum", per_sample_weights=s, padding_idx=padding
            ),
            table_and_weights,
            bags(REDUCTIONS["sum"], padding),
        )
        for padding in (None, 2)
    ),
    Row(
        "embedding_bag last offset",
        BAG,
        lambda w: F.embedding_bag(
            PLACES, w, torch.tensor([0, 2, 2, 7, 9]), mode="mean", include_last_offset=True
        ),
        table,
        bags(REDUCTIONS["mean"]),
    ),
]
