"""Step scaling by a trust region (Elsayed et al., ICML 2024, Algorithm 3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from hesrl.optim.base import CurvatureOptimizer
from hesrl.optim.sgd import SGD
from hesrl.optim.update import Update, wide


class Scaled(CurvatureOptimizer):
    """A trust region over any optimizer: ``class ScaledAdam(Scaled, Adam)``.

        θ ← θ − η u,    η = min(η_max, √(2Δ / Σ H u²))

    u is the whole update of one parameter group, weight decay included, so that ½ Σ H (η u)², the
    change of the loss by curvature, never exceeds Δ. H = √v is the root of the moving average of
    h², or the average of h itself where an optimizer keeps that one, not below 0 and not
    bias-corrected. An optimizer with a curvature of its own takes that one; the others keep
    the average beside their state, arm their parameters with ``"hesscale"``, and pay for it.
    Σ H u² = 0 gives η_max. The sum runs over one group: actor and critic are two.

    The optimizer keeps its own arguments. Two are new: ``delta`` is Δ, in the unit of the loss
    (default 1e-8), and ``max_scale`` is η_max, dimensionless (default 1).
    """

    OPTIONS: ClassVar[dict[str, Any]] = {"delta": 1e-8, "max_scale": 1.0}

    def _finish(self, group: dict[str, Any], updates: Iterable[Update]) -> None:
        moves = [(update.params, update.direction()) for update in updates]
        terms = [self._curvature_along(params, u) for params, u in moves]
        total = torch.stack([term.to(terms[0].device) for term in terms]).sum()
        eta = (2 * group["delta"] / total).sqrt().clamp(max=group["max_scale"])
        for params, u in moves:
            if group["capturable"] or params[0].device.type != "cpu":
                # Without waiting for the number.
                torch._foreach_mul_(u, eta.to(params[0].device))
                torch._foreach_sub_(params, u)
            else:
                torch._foreach_sub_(params, u, alpha=eta.item())

    def _curvature_along(self, params: list[Tensor], u: list[Tensor]) -> Tensor:
        """Return Σ H u² over some parameters."""
        first = params[0]
        squares = torch._foreach_mul(wide(u), wide(u))
        torch._foreach_mul_(squares, self._curvature_of(params))
        return torch.stack([square.sum().to(first.device) for square in squares]).sum()

    def _curvature_of(self, params: list[Tensor]) -> list[Tensor]:
        """Return H of each parameter."""
        states = [self.state[param] for param in params]
        if "exp_hess" in states[0]:
            return list(torch._foreach_clamp_min(wide([s["exp_hess"] for s in states]), 0.0))
        return list(torch._foreach_sqrt(wide([s["exp_hess_sq"] for s in states])))


class ScaledSGD(Scaled, SGD):
    """`SGD` within a trust region; ``curvature_beta`` is β of the average of h² (default 0.999)."""

    curvature = "hesscale"
    OPTIONS: ClassVar[dict[str, Any]] = {"curvature_beta": 0.999}

    def _curvature_beta(self, group: dict[str, Any]) -> float:
        beta: float = group["curvature_beta"]
        return beta
