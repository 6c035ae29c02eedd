"""Products by einsum over a dimension of size one, which autograd records as elementwise ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hesrl.curvature import hess_diag

PRODUCTS = {
    "ni,io->no": (lambda z, w: z @ w, (1, 4)),
    "ni,oi->no": (lambda z, w: z @ w.t(), (4, 1)),
    "bti,hio->bhto": (lambda z, w: z.unsqueeze(1) @ w, (2, 1, 4)),
}


def curvatures(product: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...]) -> list[Tensor]:
    """HesScaleGN of a hidden layer of one unit, of a product with it, and of what is behind it."""
    torch.manual_seed(0)
    x, first, second, last = (
        torch.randn(size, dtype=torch.float64) for size in ((5, 3), (3, 1), shape, (4,))
    )
    params = [first.requires_grad_(), second.requires_grad_(), last.requires_grad_()]
    hidden = (x @ first).tanh()
    if len(shape) == 3:
        hidden = hidden[None].expand(2, 5, 1)
    loss = (product(hidden, second).tanh() * last).exp().sum()
    return hess_diag(loss, params, "hesscale_gn")


@pytest.mark.parametrize("equation", PRODUCTS)
def test_a_product_over_one_unit_is_a_layer(equation):
    product, shape = PRODUCTS[equation]
    found = curvatures(lambda z, w: torch.einsum(equation, z, w), shape)
    for ours, expected in zip(found, curvatures(product, shape), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)


def test_a_gain_is_none():
    torch.manual_seed(0)
    x, gain = (torch.randn(4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    y = x.expand(3, 4).tanh()
    found, expected = (
        hess_diag(product.exp().sum(), [x, gain], method)
        for product, method in (
            (torch.einsum("ni,i->ni", y, gain), "hesscale_gn"),
            (y * gain, "hesscale"),
        )
    )
    for ours, of_product in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, of_product, rtol=1e-12, atol=1e-14)
