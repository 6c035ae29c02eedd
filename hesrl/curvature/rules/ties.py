"""How PyTorch's gradient counts a tie, which differs between its releases.

Where ``max(a, b)`` has a = b, and where an entry lies on a bound, the slope could be anything
between 0 and 1. Up to PyTorch 2.13 `torch.clamp`, `torch.fmax` and `torch.fmin` give it all to the
first tensor; from 2.14 on each tensor has a half, as `torch.maximum` always had it, and a bound
that is a number leaves nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import Masked


def _are_shared() -> bool:
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.zeros((), device="cpu", requires_grad=True)
        (slope,) = torch.autograd.grad(torch.fmax(x, x.detach()), x)
    return slope.item() < 1


SHARED = _are_shared()
"""Whether the tensors of a tie share the slope."""


def larger(a: Tensor, b: Tensor, dtype: torch.dtype) -> tuple[Masked, Masked]:
    """Return the slopes of max(a, b); a tie counts half for either."""
    value = 1 - 0.5 * (a == b).to(dtype)
    return Masked(a >= b, value), Masked(b >= a, value)


def larger_or_number(a: Tensor, b: Tensor, dtype: torch.dtype) -> tuple[Masked, Masked]:
    """Return the same, where NaN counts as PyTorch's gradient has it: in full for either."""
    value = 1 - 0.5 * (a == b).to(dtype)
    return Masked(~(a < b), value), Masked(~(b < a), value)


def within(
    x: Tensor, low: Tensor, high: Tensor, dtype: torch.dtype
) -> tuple[Masked, Masked, Masked]:
    """Return the slopes of ``min(max(x, low), high)`` if ties are shared.

    Where both bounds meet in x, x has it all; where they are crossed, ``high``.
    """
    at_low, at_high, is_open = x == low, x == high, low < high
    low_value = 1 - 0.5 * at_low.to(dtype)
    return (
        Masked((x >= low) & (x <= high), 1 - 0.5 * (at_low ^ at_high).to(dtype)),
        Masked(((x < low) & (low <= high)) | (at_low & is_open), low_value),
        Masked(
            (x > high) | (high < low) | (at_high & is_open),
            1 - 0.5 * (at_high & is_open).to(dtype),
        ),
    )


def above(x: Tensor, bound: float) -> Tensor:
    """Return where a number bounds x from below and leaves it its slope."""
    return x > bound if SHARED else x >= bound


def below(x: Tensor, bound: float) -> Tensor:
    """Return where a number bounds x from above and leaves it its slope."""
    return x < bound if SHARED else x <= bound
