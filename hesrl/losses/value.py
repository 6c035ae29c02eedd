"""Losses of a critic's values: half the squared error, plain or clipped as in PPO, and Huber's."""

from __future__ import annotations

import torch
from torch import Tensor

from hesrl.losses.checks import require_constant, require_positive, require_shape
from hesrl.losses.operation import ClosedFormLoss, Terms, divisor, reduce, separable_terms


def value_loss(
    values: Tensor,
    returns: Tensor,
    old_values: Tensor | None = None,
    clip_coef: float | None = None,
    reduction: str = "mean",
) -> Terms:
    """Half the squared error of values, optionally clipped as in PPO.

        ℓ_n = ½ max[(V_n − R_n)², (V_old,n + clip(V_n − V_old,n, −ε, ε) − R_n)²]

    Where the larger error moves with V, ∂ℓ/∂V = V − R and ∂²ℓ/∂V² = 1; elsewhere both are zero.
    A mean is over the N samples.

    Args:
        values: V (N,).
        returns: R (N,).
        old_values: V_old (N,), before the update; unused without clipping.
        clip_coef: ε, in the unit of the values; None for the plain error ``(V − R)²``.
        reduction: "mean", "sum" or "none".
    """
    error = values - returns
    square = error * error
    if clip_coef is None:
        moves = torch.ones_like(error)
    else:
        assert old_values is not None
        # Written so that within the clip it is the plain error to the last bit.
        change = values - old_values
        clipped = error + (change.clamp(-clip_coef, clip_coef) - change)
        clipped_square = clipped * clipped
        moves = (square >= clipped_square).to(error.dtype)
        square = torch.maximum(square, clipped_square)
    hess = moves / divisor(len(error), reduction)
    return Terms(0.5 * reduce(square, reduction), grad=hess * error, hess=hess)


class ValueLoss(ClosedFormLoss, form=value_loss, likelihood=separable_terms):
    """`value_loss` as one operation of the autograd graph."""

    def __init__(self, clip_coef: float | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        if clip_coef is not None:
            require_positive("clip_coef", clip_coef)
        self.clip_coef = clip_coef

    def forward(self, values: Tensor, returns: Tensor, old_values: Tensor | None = None) -> Tensor:
        """Return the loss."""
        require_shape("values", values, "(N,)")
        require_constant("returns", returns, "values", values.shape)
        if old_values is not None:
            require_constant("old_values", old_values, "values", values.shape)
        elif self.clip_coef is not None:
            raise ValueError("old_values are missing: the clipped value loss starts from them")
        settings = self.clip_coef, self.reduction
        return self.operation(values, returns, old_values, settings)


def huber_value_loss(
    values: Tensor, returns: Tensor, delta: float = 1.0, reduction: str = "mean"
) -> Terms:
    """Huber's loss of values (Huber, 1964), as torch has it.

        ℓ_n = ½ e²  where |e| < δ,  else  δ (|e| − ½ δ),      e = V_n − R_n

    Within δ, ∂ℓ/∂V = e and ∂²ℓ/∂V² = 1; outside ∂ℓ/∂V = δ sign(e) and ∂²ℓ/∂V² = 0. The smooth L1
    loss is this divided by δ. A mean is over the N samples.

    Args:
        values: V (N,).
        returns: R (N,).
        delta: δ, in the unit of the values.
        reduction: "mean", "sum" or "none".
    """
    error = values - returns
    slope = error.clamp(-delta, delta)
    count = divisor(len(error), reduction)
    return Terms(
        reduce(slope * (error - 0.5 * slope), reduction),
        grad=slope / count,
        hess=(error.abs() < delta).to(error.dtype) / count,
    )


class HuberValueLoss(ClosedFormLoss, form=huber_value_loss, likelihood=separable_terms):
    """`huber_value_loss` as one operation of the autograd graph."""

    def __init__(self, delta: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        require_positive("delta", delta)
        self.delta = delta

    def forward(self, values: Tensor, returns: Tensor) -> Tensor:
        """Return the loss."""
        require_shape("values", values, "(N,)")
        require_constant("returns", returns, "values", values.shape)
        return self.operation(values, returns, (self.delta, self.reduction))
