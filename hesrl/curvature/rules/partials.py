"""The two shapes of answer that elementwise functions of one tensor give, ``y = f(x)``.

h(x) = f'(x)² h(y) + f''(x) g(y)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import Coefficient, Partials


def curved(df: Coefficient, d2f: Coefficient) -> Partials:
    """Return the derivatives f' and f'' of a function."""
    return (df,), ((0, 0, d2f),)


def straight(slope: Coefficient) -> Partials:
    """Return the slope of a piecewise linear function; at a kink, the native gradient's."""
    return (slope,), ()


def routed(node: Any, grad_out: Any, hess_out: Tensor) -> Tensor:
    """``h(x) = f' h(y)`` for slopes of 0 and 1, by the gradient's own map, which selects."""
    hess_in: Tensor = node(hess_out)
    return hess_in


def operand(node: Any, saved: Any) -> Any:
    """Return a saved operand in the precision of the output.

    A constant operand may be narrower: of integers, whose squares wrap around, or of a float format
    in which they overflow or are rounded.

    Args:
        node: The node that saved it.
        saved: The operand; what is no tensor stays as it is.
    """
    if not isinstance(saved, Tensor):
        return saved
    dtype = node._input_metadata[0].dtype
    if dtype.is_complex and not saved.is_complex():
        dtype = dtype.to_real()
    return saved if saved.dtype == dtype else saved.to(dtype)


def native_slope(node: Any) -> Tensor:
    """Return the slope of a linear function, as its own gradient map has it."""
    output = node._input_metadata[0]
    return node(torch.ones(tuple(output.shape), dtype=output.dtype, device=output.device))
