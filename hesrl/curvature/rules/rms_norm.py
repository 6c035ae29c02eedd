"""RMS norm as ``x · rsqrt(mean(x²) + ε)``, the form in which PyTorch writes it on a CPU.

`hesrl.curvature.patterns` finds the form; its product then has the rule of RMS norm.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import Local
from hesrl.curvature.rules.normalization import Hessians, hess_of_input
from hesrl.curvature.rules.reduce import reduced_dims


def _mean_square(rsqrt: Any) -> tuple[Any, Any] | None:
    """Return the nodes of the mean and the square if a node is ``rsqrt(mean(x²) + ε)``.

    The mean keeps its dimensions, of size 1, and ε is a constant.
    """
    mean = rsqrt.next_functions[0][0]
    if mean.name() in ("AddBackward0", "AddBackward1"):
        mean, *epsilon = (source for source, _ in mean.next_functions)
        if any(source is not None for source in epsilon):
            return None
    if mean is None or mean.name() != "MeanBackward1" or not mean._saved_keepdim:
        return None
    square = mean.next_functions[0][0]
    is_square = square.name() == "PowBackward0" and square._saved_exponent == 2
    return (mean, square) if is_square else None


def mean_square_dims(rsqrt: Any) -> tuple[int, ...] | None:
    """Return the dimensions of the mean if a node is ``rsqrt(mean(x²) + ε)``, else None."""
    found = _mean_square(rsqrt)
    if found is None:
        return None
    mean, square = found
    return tuple(reduced_dims(mean._saved_dim, len(square._input_metadata[0].shape)))


def _rms_norm_by_rsqrt(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """``x · rsqrt(mean(x²) + ε)``, or swapped, at the product; the other nodes are left out."""
    factors = node._saved_self, node._saved_other
    (first, _), second = node.next_functions
    found = _mean_square(first) if first.name() == "RsqrtBackward0" else None
    is_swapped = found is not None and found[1].next_functions[0] == second
    rstd, x = factors if is_swapped else factors[::-1]
    dims = mean_square_dims(first if is_swapped else second[0])
    assert dims is not None
    x_hat = x * rstd
    by_x, by_grad = hess_out * x_hat, grad_out * x_hat
    of_group = (hess_out, by_x, by_x * x_hat, grad_out, by_grad)
    sums = [v.sum(dims, keepdim=True) for v in of_group]
    n, one = x.numel() // max(1, rstd.numel()), torch.ones_like(rstd)
    hess = hess_of_input(x_hat, by_x, grad_out, hess_out, one, rstd, n, False, sums)
    return (None, hess) if is_swapped else (hess, None)


RMS_NORM_BY_RSQRT = Local(_rms_norm_by_rsqrt, linear=False)
