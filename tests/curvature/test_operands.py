"""Constant operands of another precision than the output, whose squares would not be in theirs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hesrl.curvature import hess_diag

CONSTANTS = {
    "uint8": torch.tensor([3, 200, 17], dtype=torch.uint8),
    "int8": torch.tensor([3, 100, 17], dtype=torch.int8),
    "int16": torch.tensor([3, 100, 300], dtype=torch.int16),
    "int64": torch.tensor([3, 100, 300]),
    "float16": torch.tensor([3.0, 0.3, 300.0], dtype=torch.float16),
    "bfloat16": torch.tensor([3.0, 0.3, 300.0], dtype=torch.bfloat16),
    "float32": torch.tensor([3.0, 0.3, 300.0]),
    "bool": torch.tensor([True, True, True]),
}
FUNCTIONS = {
    "product": lambda x, c: (x * c).square().sum(),
    "mean of a product": lambda x, c: (x * c).mean() ** 2,
    "in place": lambda x, c: (x * 1.0).mul_(c).square().sum(),
    "masked": lambda x, c: (x.relu() * c).square().sum(),
    "two factors": lambda x, c: (x * c * c).square().sum(),
    "paths that meet": lambda x, c: ((x * c) + (x.exp() * c)).square().sum(),
    "layer below": lambda x, c: F.softplus(x * c).sum(),
    "quotient": lambda x, c: (x / c).square().sum(),
    "addcmul": lambda x, c: torch.addcmul(torch.zeros_like(x), x, c).square().sum(),
    "addcdiv": lambda x, c: torch.addcdiv(torch.zeros_like(x), x, c).square().sum(),
    "exponent": lambda x, c: (x + 1).pow(c).log().square().sum(),
    "base": lambda x, c: torch.pow(c, x).sum(),
    "hypot": lambda x, c: torch.hypot(x, c).square().sum(),
    "logarithm": lambda x, c: torch.xlogy(x, c).square().sum(),
    "factor of a logarithm": lambda x, c: torch.xlogy(c, x).sum(),
    "logaddexp": lambda x, c: torch.logaddexp(x, c).square().sum(),
    "zeta": lambda x, c: torch.special.zeta(c.clamp(min=2), x).sum(),
}
OF_FLOATS = {"addcdiv", "hypot", "logaddexp", "zeta"}
"""What PyTorch computes for floating-point tensors only."""
CASES = [
    (name, kind)
    for name in FUNCTIONS
    for kind, c in CONSTANTS.items()
    if (c.is_floating_point() or name not in OF_FLOATS) and (name, kind) != ("exponent", "bool")
]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_it_counts_as_in_the_precision_of_the_output(name, kind):
    c, function = CONSTANTS[kind], FUNCTIONS[name]
    x = torch.tensor([0.01, 0.02, 0.03], dtype=torch.float64, requires_grad=True)
    (h,) = hess_diag(function(x, c), [x])
    (wide,) = hess_diag(function(x, c.double()), [x])
    torch.testing.assert_close(h, wide, rtol=1e-12, atol=0)


def test_an_image_of_bytes_under_a_mask_that_is_learned():
    image = torch.tensor([[0, 200], [255, 16]], dtype=torch.uint8)
    mask = torch.full((2, 2), 0.5, requires_grad=True)
    (h,) = hess_diag((mask * image).square().sum(), [mask])
    assert torch.equal(h, 2 * image.float().square())
