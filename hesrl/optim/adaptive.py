"""The moment form of Adam (Kingma and Ba, 2015) with an exchangeable divisor.

    m ← β₁ m + (1 − β₁) g
    v ← β₂ v + (1 − β₂) d²
    u = α m̂ / ((√v̂)ᵏ + ε),    m̂ = m / (1 − β₁ᵗ),  v̂ = v / (1 − β₂ⁿ)

d is the gradient or a curvature, t counts the steps of a parameter, n the d² that v has seen, and
k is 1 but for AdaHessian's ``hessian_power``. A curvature is zero where the loss is linear, so that
u has no bound there. `AdaptiveByCurvature` bounds u by c times the step of Adam:

    w ← β₂ w + (1 − β₂) g²
    u = α m̂ / max((√v̂)ᵏ + ε, √ŵ / c),    ŵ = w / (1 − β₂ᵗ)
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from hesrl.optim.base import CurvatureOptimizer, State
from hesrl.optim.update import Update, average_squares, decay_of, powers, step_size, wide


class Adaptive(CurvatureOptimizer):
    """Base of the optimizers that divide the mean gradient by the root of a mean square.

    Args:
        params: Parameters, named or not, or parameter groups.
        lr: Step size α, a number or a tensor of one: in the unit of the parameters if d is the
            gradient, dimensionless if it is a curvature, since g/|h| has the unit of θ.
        betas: β₁ and β₂, the decay rates of the two moving averages.
        eps: ε, in the unit of d: loss per parameter, or loss per squared parameter.
        **options: Those of docs/optimizers.md.

    Raises:
        ValueError: A hyperparameter is out of range, or a parameter cannot be optimized.
        TypeError: There is no such option.
    """

    divisor: ClassVar[str] = "exp_hess_sq"
    """The state v: ``exp_avg_sq`` if d is the gradient, ``exp_hess_sq`` if it is the curvature."""

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        **options: Any,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps}, options)

    def _state_names(self) -> tuple[str, ...]:
        names = ("step", "exp_avg", self.divisor, *super()._state_names())
        return tuple(dict.fromkeys(names))

    def _curvature_beta(self, group: dict[str, Any]) -> float:
        beta2: float = group["betas"][1]
        return beta2

    def _update(
        self, group: dict[str, Any], params: list[Tensor], states: list[State], grads: list[Tensor]
    ) -> Update:
        beta1, beta2 = group["betas"]
        lr, eps, power = step_size(group), group["eps"], group.get("hessian_power", 1.0)
        exp_avgs = [state["exp_avg"] for state in states]
        averages = [state[self.divisor] for state in states]
        torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)
        if self.divisor == "exp_avg_sq":
            average_squares(averages, grads, beta2)

        # u = (α c₂ᵏᐟ² / c₁) m / (√vᵏ + ε c₂ᵏᐟ²) with c = 1 − βᵗ: the same in fewer operations.
        rates: list[Any]
        offsets: list[Any]
        steps = [state["step"] for state in states]
        seen = steps
        if self.divisor == "exp_hess_sq" and any("hess_count" in state for state in states):
            seen = [state.get("hess_count", state["step"]) for state in states]
        bound = group.get("adam_bound", math.inf)
        floors: list[Any]
        if group["capturable"]:
            t = torch.stack(steps).double()
            n = t if seen is steps else torch.stack(seen).double()
            c1, root = 1 - powers(beta1, t), (1 - powers(beta2, n)) ** (power / 2)
            rates, offsets = list((lr * root / c1).unbind()), list((eps * root).unbind())
            floors = list((root / ((1 - powers(beta2, t)).sqrt() * bound)).unbind())
        else:
            counts = [step.item() for step in steps]
            totals = counts if seen is steps else [count.item() for count in seen]
            roots = [(1 - beta2**n) ** (power / 2) for n in totals]
            rates = [lr * r / (1 - beta1**t) for r, t in zip(roots, counts, strict=True)]
            offsets = [eps * root for root in roots]
            pairs = zip(roots, counts, strict=True)
            floors = [r / (math.sqrt(1 - beta2**t) * bound) for r, t in pairs]
        if power == 1:
            denominators = torch._foreach_sqrt(averages)
        else:
            denominators = torch._foreach_pow(averages, power / 2)
        torch._foreach_add_(denominators, offsets)
        if bound < math.inf:
            of_adam = torch._foreach_sqrt([state["exp_grad_sq"] for state in states])
            torch._foreach_mul_(of_adam, floors)
            torch._foreach_maximum_(denominators, of_adam)
        return Update(params, exp_avgs, list(denominators), rates, decay_of(group))


class AdaptiveByCurvature(Adaptive):
    """Base of the adaptive optimizers whose d is a curvature.

    Options beside the usual ones: ``adam_bound`` c, dimensionless (default 3). No entry moves more
    than c times as far as Adam would move it at the same α. With ``math.inf`` there is no bound,
    as in the papers, and no w is kept.
    """

    OPTIONS: ClassVar[dict[str, Any]] = {"adam_bound": 3.0}

    def _start(self, group: dict[str, Any], param: Tensor) -> State:
        state = super()._start(group, param)
        if group["adam_bound"] < math.inf:
            state["exp_grad_sq"] = torch.zeros_like(wide([param])[0])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take on a state; one of before there was a bound has none."""
        for group in state["param_groups"]:
            group.setdefault("adam_bound", math.inf)
        super().__setstate__(state)

    def _update(
        self, group: dict[str, Any], params: list[Tensor], states: list[State], grads: list[Tensor]
    ) -> Update:
        if group["adam_bound"] < math.inf:
            for state, grad in zip(states, grads, strict=True):
                if "exp_grad_sq" not in state:  # the bound was switched on in the course of a run
                    state["exp_grad_sq"] = wide([grad])[0].square()
            average_squares([s["exp_grad_sq"] for s in states], grads, group["betas"][1])
        return super()._update(group, params, states, grads)
