"""Embeddings whose gradient is sparse have no curvature, and say so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hesrl.curvature import arm


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_a_sparse_gradient_is_refused(kind):
    embedding = kind(5, 3, sparse=True)
    arm(embedding.parameters())
    loss = embedding(torch.tensor([[0, 2, 2]])).square().sum()
    with pytest.raises(RuntimeError, match="sparse=False"):
        loss.backward()
