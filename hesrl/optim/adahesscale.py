"""AdaHesScale (Elsayed et al., ICML 2024, arXiv 2406.03276, Algorithm 2)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from hesrl.curvature import arm, clear_curvature, take_curvature
from hesrl.optim.adaptive import Adaptive


class HesScale:
    """The Hessian diagonal that each backward pass leaves: d = h."""

    state_name = "exp_hess_sq"

    def prepare(self, params: Iterable[Tensor]) -> None:
        """Arm the parameters, so that ``backward`` fills ``p.hess_diag``."""
        arm(params)

    def scales(self, group: dict[str, Any], params: list[Tensor]) -> list[Tensor]:
        """Return the curvatures; zero where ``zero_grad(set_to_none=False)`` left only zeros.

        Raises:
            RuntimeError: A parameter has a gradient but no curvature.
        """
        result = []
        for param in params:
            hess = take_curvature(param)
            if hess is None:
                if param.grad is None or param.grad.any():
                    raise _missing_curvature(group, param)
                hess = torch.zeros_like(param)
            result.append(hess)
        return result

    def clear(self, params: Iterable[Tensor]) -> None:
        """Forget the curvatures."""
        clear_curvature(params)


def _missing_curvature(group: dict[str, Any], param: Tensor) -> RuntimeError:
    index = next(i for i, other in enumerate(group["params"]) if other is param)
    name = group["param_names"][index] if "param_names" in group else f"parameter {index}"
    return RuntimeError(
        f"{name} of shape {tuple(param.shape)} has a gradient but no curvature: its gradient must "
        "come from loss.backward() called after the optimizer was made (not from "
        "torch.autograd.grad, nor from a backward() before that)"
    )


class AdaHesScale(Adaptive):
    """Adam's step with HesScale's Hessian diagonal in place of the squared gradient.

        m ← β₁ m + (1 − β₁) g
        v ← β₂ v + (1 − β₂) h²
        θ ← θ − α m̂ / (√v̂ + ε)

    It arms its parameters: from then on ``loss.backward()`` also fills ``p.hess_diag``, which
    accumulates and is cleared as ``p.grad`` is. All state has the shape of the parameter. Note
    that `torch.nn.utils.clip_grad_norm_` scales g but not h.

    Args:
        params: Parameters or parameter groups.
        lr: Step size α, dimensionless: g/|h| has the unit of the parameters.
        betas: β₁ and β₂.
        eps: ε, in the unit of curvature (loss per squared parameter).

    Raises:
        ValueError: A hyperparameter is out of range, or a parameter is not a floating-point leaf.
    """

    second_order = True

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, HesScale(), lr=lr, betas=betas, eps=eps)
