"""Connectionist temporal classification: the loss of all alignments of a sequence of labels.

    L_n = −log Σ_π exp(Σ_t y_{t, n, π(t)})

Index legend: ``t`` times, ``n`` sequences, ``k`` classes, ``π`` alignments, each of one class per
time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import Local, register_rule


@register_rule("CtcLossBackward0", "CtcLossBackward1")
def ctc_loss(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """``h(y) = f² h(L) + f_y g(L)`` for log-probabilities y (t, n, k), in linear time.

    With γ_tnk, the probability that an alignment takes k at t if it yields the labels:

        ∂L/∂y = −γ,  ∂²L/∂y² = −γ (1 − γ)

    PyTorch gives the gradient of ``L + Σ e^y``, which differs by a constant if y is a log-softmax:
    ``f = e^y − γ`` and so ``f_y = e^y − γ (1 − γ)``. Exact by the definition for that function.
    """
    y = node._saved_log_probs
    lengths = torch.as_tensor(node._saved_input_lengths, device=y.device)
    taken = torch.arange(len(y), device=y.device).unsqueeze(1) < lengths
    slope: Tensor = node(torch.ones_like(hess_out))
    p = y.exp()
    posterior = p - slope
    second = torch.where(taken.unsqueeze(2), p - posterior * (1 - posterior), 0.0)
    return slope.square() * hess_out.unsqueeze(1) + second * grad_out.unsqueeze(1)


def _of_logits(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """The loss of ``y = log_softmax(z)``, by z: ``f = p − γ``, ``f_z = p (1 − p) − γ (1 − γ)``."""
    slope: Tensor = node(torch.ones_like(hess_out))
    second = slope * (1 - 2 * node._saved_log_probs.exp() + slope)
    return slope.square() * hess_out.unsqueeze(1) + second * grad_out.unsqueeze(1)


def _passed_on(node: Any, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    """The log-softmax: its output's place is taken by the logits."""
    return hess_out


CTC_OF_LOG_SOFTMAX = Local(_of_logits, linear=False)
LOG_SOFTMAX_BELOW_CTC = Local(_passed_on, linear=True)
"""The rules of a loss of a log-softmax and of that log-softmax, exact together."""
