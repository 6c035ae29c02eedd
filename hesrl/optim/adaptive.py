"""The moment form of Adam (Kingma and Ba, 2015) with an exchangeable divisor.

    m ← β₁ m + (1 − β₁) g
    v ← β₂ v + (1 − β₂) f
    u = α m̂ / (v̂ᵖ + ε),    m̂ = m / (1 − β₁ᵗ),  v̂ = v / (1 − β₂ⁿ)

Adam has f = g² and p = ½. t counts the steps of a parameter, n the values of f that v has seen.
With a curvature h there is a choice of the average, and h may be damped by ρ times its mean over
the parameter:

    ``rms``     f = h²,   p = k/2     AdaHesScale; k is 1 but for AdaHessian's ``hessian_power``
    ``mean``    f = |h|,  p = k
    ``root``    f = |h|,  p = k/2     Adam, with a curvature in place of g²
    ``signed``  f = h,    p = k       and max(v, 0) in place of v, as in Sophia (Liu et al., 2024)
    damped      v + ρ mean v in place of v

A curvature is zero where the loss is linear, so that u has no bound there. `AdaptiveByCurvature`
bounds u by c times the step of Adam:

    w ← β₂ w + (1 − β₂) g²
    u = α m̂ / max(v̂ᵖ + ε, √ŵ / c),    ŵ = w / (1 − β₂ᵗ)
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from hesrl.optim.base import CurvatureOptimizer
from hesrl.optim.hyperparameters import CURVATURE_AVERAGES
from hesrl.optim.states import State
from hesrl.optim.update import (
    Update,
    average,
    average_squares,
    decay_of,
    powers,
    step_size,
    wide,
)


class Scale(NamedTuple):
    """What divides the step of some parameters: v̂ᵖ, before ε and bounds."""

    averages: list[Tensor]
    """v of each parameter, not to be changed."""
    exponent: float
    """p."""
    counts: list[Tensor]
    """n of each parameter."""


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

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        **options: Any,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps}, options)

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(("step", "exp_avg", *super()._state_names(group))))

    def _scale(self, group: dict[str, Any], states: list[State], grads: list[Tensor]) -> Scale:
        """Return what divides the step; where that is an average of g², bring it up to date."""
        raise NotImplementedError

    def _curvature_beta(self, group: dict[str, Any]) -> float:
        beta2: float = group["betas"][1]
        return beta2

    def _update(
        self, group: dict[str, Any], params: list[Tensor], states: list[State], grads: list[Tensor]
    ) -> Update:
        beta1, beta2 = group["betas"]
        lr, eps = step_size(group), group["eps"]
        exp_avgs = [state["exp_avg"] for state in states]
        torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)
        averages, exponent, seen = self._scale(group, states, grads)

        # u = (α c₂ᵖ / c₁) m / (vᵖ + ε c₂ᵖ) with c = 1 − βᵗ: the same in fewer operations.
        rates: list[Any]
        offsets: list[Any]
        steps = [state["step"] for state in states]
        bound = group.get("adam_bound", math.inf)
        floors: list[Any]
        if group["capturable"]:
            t = torch.stack(steps).double()
            n = torch.stack(seen).double() if _differ(seen, steps) else t
            c1, root = 1 - powers(beta1, t), (1 - powers(beta2, n)) ** exponent
            rates, offsets = list((lr * root / c1).unbind()), list((eps * root).unbind())
            floors = list((root / ((1 - powers(beta2, t)).sqrt() * bound)).unbind())
        else:
            counts = [step.item() for step in steps]
            totals = [count.item() for count in seen] if _differ(seen, steps) else counts
            roots = [(1 - beta2**n) ** exponent for n in totals]
            rates = [lr * r / (1 - beta1**t) for r, t in zip(roots, counts, strict=True)]
            offsets = [eps * root for root in roots]
            pairs = zip(roots, counts, strict=True)
            floors = [r / (math.sqrt(1 - beta2**t) * bound) for r, t in pairs]
        if exponent == 0.5:
            denominators = torch._foreach_sqrt(averages)
        else:
            denominators = torch._foreach_pow(averages, exponent)
        torch._foreach_add_(denominators, offsets)
        if bound < math.inf:
            of_adam = torch._foreach_sqrt([state["exp_grad_sq"] for state in states])
            torch._foreach_mul_(of_adam, floors)
            torch._foreach_maximum_(denominators, of_adam)
        return Update(params, exp_avgs, list(denominators), rates, decay_of(group))


def _differ(seen: list[Tensor], steps: list[Tensor]) -> bool:
    return any(count is not step for count, step in zip(seen, steps, strict=True))


class AdaptiveByCurvature(Adaptive):
    """Base of the adaptive optimizers that divide by a curvature.

    Options beside the usual ones:

    - ``adam_bound`` c, dimensionless (default 3). No entry moves more than c times as far as Adam
      would move it at the same α. With ``math.inf`` there is no bound, as in the papers, and no w
      is kept.
    - ``curvature_average``: what v averages, ``"rms"`` (default), ``"mean"``, ``"root"`` or
      ``"signed"``. Where h is negative, ``"signed"`` divides by ε alone; it needs a bound.
    - ``damping`` ρ, dimensionless (default 0): v gets ρ times its mean over the parameter.
    """

    OPTIONS: ClassVar[dict[str, Any]] = {
        "adam_bound": 3.0,
        "curvature_average": "rms",
        "damping": 0.0,
    }

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        names = super()._state_names(group)
        if group.get("curvature_average", "rms") == "rms":  # a saved group may be of before
            return names
        return tuple("exp_hess" if name == "exp_hess_sq" else name for name in names)

    def _start(self, group: dict[str, Any], param: Tensor) -> State:
        state = super()._start(group, param)
        if group["adam_bound"] < math.inf:
            state["exp_grad_sq"] = torch.zeros_like(wide([param])[0])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take on a state; one of before there was an option has what was done then."""
        for group in state["param_groups"]:
            group.setdefault("adam_bound", math.inf)
            group.setdefault("curvature_average", "rms")
            group.setdefault("damping", 0.0)
        super().__setstate__(state)

    def _average(self, group: dict[str, Any], states: list[State], hessians: list[Any]) -> None:
        averages = self._averages(group, states)
        if group["curvature_average"] == "rms":
            super()._average(group, states, hessians)
            return
        if group["curvature_average"] != "signed":
            hessians = list(torch._foreach_abs(hessians))
        elif group["maximize"]:
            hessians = list(torch._foreach_neg(hessians))
        average(averages, hessians, self._curvature_beta(group))

    def _averages(self, group: dict[str, Any], states: list[State]) -> list[Tensor]:
        """Return v of each parameter.

        Raises:
            ValueError: The parameters have an average of another kind.
        """
        kind = group["curvature_average"]
        name = "exp_hess_sq" if kind == "rms" else "exp_hess"
        if name not in states[0]:
            raise ValueError(
                f"{type(self).__name__}: curvature_average={kind!r} does not go with what was "
                "averaged so far: make a new optimizer"
            )
        return [state[name] for state in states]

    def _scale(self, group: dict[str, Any], states: list[State], grads: list[Tensor]) -> Scale:
        averages = self._averages(group, states)
        if group["curvature_average"] == "signed":
            averages = list(torch._foreach_clamp_min(averages, 0.0))
        if group["damping"]:
            means = [v.mean() * group["damping"] for v in averages]
            averages = [v + mean for v, mean in zip(averages, means, strict=True)]
        exponent = CURVATURE_AVERAGES[group["curvature_average"]]
        exponent *= group.get("hessian_power", 1.0)
        counts = [state["hess_count" if "hess_count" in state else "step"] for state in states]
        return Scale(averages, exponent, counts)

    def _update(
        self, group: dict[str, Any], params: list[Tensor], states: list[State], grads: list[Tensor]
    ) -> Update:
        if group["adam_bound"] < math.inf:
            for state, grad in zip(states, grads, strict=True):
                if "exp_grad_sq" not in state:  # the bound was switched on in the course of a run
                    state["exp_grad_sq"] = wide([grad])[0].square()
            average_squares([s["exp_grad_sq"] for s in states], grads, group["betas"][1])
        return super()._update(group, params, states, grads)
