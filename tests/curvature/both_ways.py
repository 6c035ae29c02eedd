"""Exact diagonals held against the general way, and what is left to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from hesrl.curvature import hess_diag
from hesrl.curvature.estimators import products
from hesrl.curvature.estimators.likelihood import find_outputs
from hesrl.curvature.graph import Graph

METHODS = ("hessian", "ggn")


def general(loss: Tensor, params: Sequence[Tensor], method: str) -> list[Tensor]:
    """The diagonal by Hessian-vector products, or by a product for each row and factor."""
    if method == "hessian":
        return products.hessian_diagonal(loss, params)
    return products.ggn_diagonal(find_outputs(Graph([loss.grad_fn]), (loss,)), params)


def noted(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The parameters that `hess_diag` will leave to the general way."""
    params: list[Tensor] = []

    def noting(function: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
        def call(first: object, rest: Sequence[Tensor]) -> list[Tensor]:
            params.extend(rest)
            return function(first, rest)

        return call

    for name in ("hessian_diagonal", "ggn_diagonal"):
        monkeypatch.setattr(products, name, noting(getattr(products, name)))
    return params


def assert_both_ways(
    loss: Tensor, params: Sequence[Tensor], method: str, left: list[Tensor]
) -> list[int]:
    """Hold `hess_diag` against the general way; return which parameters it left to that."""
    left.clear()
    found = hess_diag(loss, params, method)
    numbers = [i for i, p in enumerate(params) if any(p is other for other in left)]
    expected = general(loss, params, method)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)
    assert all(
        h.shape == p.shape and not h.requires_grad for h, p in zip(found, params, strict=True)
    )
    return numbers
