"""Losses of supervised learning: softmax cross-entropy and mean squared error."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.estimators.likelihood import Categorical, Edges, Output
from hesrl.losses.checks import require_classes, require_constant, require_shape
from hesrl.losses.operation import ClosedFormLoss, Terms, divisor, reduce, separable_terms, spread

IGNORE_INDEX = -100
"""The class that stands for "no target", as in torch."""


def _class_masses(
    logits: Tensor,
    targets: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
) -> tuple[Tensor, Tensor | int]:
    """Return the mass m of every class (N, K), and what a mean divides by, as torch has them."""
    counts: Tensor | float = 1.0
    if targets.is_floating_point():
        masses = targets
    else:
        counts = (targets != ignore_index).unsqueeze(1).to(logits.dtype)
        index = targets.masked_fill(targets == ignore_index, 0).unsqueeze(1)
        masses = torch.zeros_like(logits).scatter(1, index, counts)
    weighted = masses if weight is None else masses * weight
    divided_by = len(logits) if targets.is_floating_point() else weighted.sum()
    if label_smoothing:
        masses = (1 - label_smoothing) * masses + label_smoothing / logits.shape[1] * counts
        weighted = masses if weight is None else masses * weight
    return weighted, divided_by


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Terms:
    """Softmax cross-entropy, with the options and conventions of `torch.nn.CrossEntropyLoss`.

    With q = softmax(z), the mass m_k of class k in the target and M = Σ_k m_k:

        ℓ_n = −Σ_k m_k log q_k,      ∂ℓ/∂z = M q − m,      ∂²ℓ/∂z² = M q (1 − q)

    m is the target's one-hot vector or the soft target t, smoothed to ``(1 − s) t + s/K``, times
    the weights of the classes; it is zero for an ignored target. A mean divides by N for soft
    targets, otherwise by the sum over n of the weight of the target class.

    Args:
        logits: z (N, K).
        targets: Classes (N,), integers from 0 to K − 1, or probabilities t (N, K).
        weight: Weights of the classes (K,); None: all 1.
        ignore_index: The class that stands for no target.
        label_smoothing: s, from 0 to 1.
        reduction: "mean", "sum" or "none".
    """
    divisor(len(logits), reduction)  # refuses a mean without samples
    masses, divided_by = _class_masses(logits, targets, weight, ignore_index, label_smoothing)
    total = masses.sum(1, keepdim=True)
    logq = logits.log_softmax(1)
    q = logq.exp()
    # A class without mass does not count, even if its logit is −∞.
    losses = -(masses * logq.masked_fill(masses == 0, 0)).sum(1)
    grad, hess = total * q - masses, total * (q - q * q)
    if reduction == "mean":
        return Terms(losses.sum() / divided_by, grad / divided_by, hess / divided_by)
    return Terms(reduce(losses, reduction), grad, hess)


def _outputs(node: Any, edges: Edges, grad_out: Tensor) -> list[Output]:
    """The logits, with the mass of each sample as its weight."""
    logits, targets, weight = node.saved_tensors[:3]
    *settings, reduction = node.settings
    masses, divided_by = _class_masses(logits, targets, weight, *settings)
    mass = masses.sum(1, keepdim=True)
    if reduction == "mean":
        mass = mass / divided_by
    if edges[0] is None:
        return []
    return [Categorical(edges[0], logits.softmax(1), spread(grad_out, mass) * mass, dim=1)]


class CrossEntropyLoss(ClosedFormLoss, form=cross_entropy, likelihood=_outputs):
    """`cross_entropy` as one operation of the autograd graph."""

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = IGNORE_INDEX,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing must be from 0 to 1, not {label_smoothing!r}")
        self.register_buffer("weight", weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss."""
        require_shape("logits", logits, "(N, K)")
        if targets.is_floating_point():
            require_constant("targets", targets, "logits", logits.shape)
        else:
            require_classes("targets", targets, logits, self.ignore_index)
        if self.weight is not None:
            require_constant("weight", self.weight, "logits", logits.shape[1:])
        settings = self.ignore_index, self.label_smoothing, self.reduction
        return self.operation(logits, targets, self.weight, settings)


def mse(predictions: Tensor, targets: Tensor, reduction: str = "mean") -> Terms:
    """Squared error without ½, ``(y − t)²`` of every entry, with a mean over all of them.

    That is torch's convention. For predictions (N, K), with C = N K for "mean" and 1 for "sum":

        L = (1/C) Σ_nk (y_nk − t_nk)²,      ∂L/∂y = 2 (y − t)/C,      ∂²L/∂y² = 2/C

    Without reduction the loss of a sample is the sum over its entries, with C = 1.

    Args:
        predictions: y (N, …).
        targets: t (N, …).
        reduction: "mean" over all entries, "sum", or "none" for the samples' sums (N,).
    """
    error = predictions - targets
    square = error * error
    if reduction == "none" and square.dim() > 1:
        square = square.flatten(1).sum(1)
    c = 2 / divisor(error.numel(), reduction)
    return Terms(reduce(square, reduction), grad=c * error, hess=torch.full_like(error, c))


class MSELoss(ClosedFormLoss, form=mse, likelihood=separable_terms):
    """`mse` as one operation of the autograd graph."""

    def forward(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Return the loss."""
        if predictions.dim() == 0:
            raise ValueError("predictions must have shape (N, …), not ()")
        require_constant("targets", targets, "predictions", predictions.shape)
        return self.operation(predictions, targets, (self.reduction,))
