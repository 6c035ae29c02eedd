"""Step scaling by intended change (Sharifnassab, Elsayed, De Asis and Mahmood, 2026).

A step size in the unit of the parameters says nothing about how far the function moves. Here the
change of the function is chosen, η, and the step size follows from it:

    ν ← β₂ ν + (1 − β₂) f,   ν̂ = ν / (1 − β₂ⁿ),   d = (ν̂ + ρ mean ν̂)ᵖ + ε
    e ← γλ e + g,   z = Σ e²/d
    σ ← σ + (1 − γλ) (Σ g²/d − σ),   σ̂ = σ / (1 − (γλ)ᵗ)
    α = η / √(σ̂ z)

f is g² or |h|, each a sample of the Fisher diagonal. By Cauchy and Schwarz the output moves by
|Σ g α δ̃ e/d| ≤ α |δ̃| √(Σ g²/d · z), which is η |δ̃| where Σ g²/d is at its mean.

    δ_clip = δ within ±c √Ê(δ²),   δ̃ = δ_clip / Ê|δ_clip|

Ê are moving averages with decay β, divided by 1 − βᵗ; as published, that of δ² starts at 1.
"""

from __future__ import annotations

from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from hesrl.curvature import Method
from hesrl.optim.base import SCALARS, State
from hesrl.optim.streaming import Streaming, total
from hesrl.optim.update import average_squares, powers, step_size, wide

SMALLEST = 1e-8
"""Of √(σ̂ z), as published."""


class Intentional(Streaming):
    """Base of the optimizers that step by an intended change.

    Args:
        params: Parameters, named or not, or parameter groups; each is scaled by itself.
        eta: η, the intended change; its unit is that of the subclass.
        gamma: γ, discount of one step.
        lamda: λ, decay of the trace.
        beta2: β₂ of the diagonal.
        eps: ε, in the unit of d.
        **options: Those of docs/optimizers.md, and

            - ``lr``: a factor of η, by which torch's schedulers anneal it (default 1);
            - ``source``: f: ``"gradient"`` for g², or the method that estimates h, such as
              ``"hesscale_gn"``, for |h|;
            - ``power``: p: ½ as published, 1 for a natural gradient, 0 for d = 1;
            - ``damping``: ρ, of the mean over each parameter (default 0);
            - ``td_beta``: β of the averages of the TD error (default 0.9998);
            - ``td_clip``: c (default 20).

    Raises:
        ValueError: A hyperparameter is out of range, or a parameter cannot be optimized.
        TypeError: There is no such option.
    """

    OPTIONS: ClassVar[dict[str, Any]] = {
        "lr": 1.0,
        "source": "gradient",
        "power": 0.5,
        "damping": 0.0,
        "td_beta": 0.9998,
        "td_clip": 20.0,
    }

    def __init__(
        self,
        params: Any,
        eta: float = 0.05,
        gamma: float = 0.99,
        lamda: float = 0.8,
        beta2: float = 0.999,
        eps: float = 1e-8,
        **options: Any,
    ) -> None:
        settings = dict(eta=eta, gamma=gamma, lamda=lamda, beta2=beta2, eps=eps)
        super().__init__(params, settings, options)

    def _state_names(self) -> tuple[str, ...]:
        return ("step", *super()._state_names(), "exp_fisher")

    def _method(self, group: dict[str, Any]) -> Method | None:
        source = group["source"]
        return source if source in get_args(Method) else None

    def _average(self, group: dict[str, Any], states: list[State], hessians: list[Any]) -> None:
        averages = [state["exp_fisher"] for state in states]
        magnitudes = [h.abs().to(a.dtype) for h, a in zip(hessians, averages, strict=True)]
        torch._foreach_lerp_(averages, magnitudes, 1 - group["beta2"])

    def _divisors(
        self, group: dict[str, Any], states: list[State], grads: list[Tensor]
    ) -> list[Tensor] | None:
        if self._method(group) is None:
            averages = [state["exp_fisher"] for state in states]
            average_squares(averages, grads, group["beta2"])
        if group["power"] == 0:
            return None
        divisors = _fisher(group, states)
        if group["damping"]:
            means = [fisher.mean() * group["damping"] for fisher in divisors]
            torch._foreach_add_(divisors, means)
        if group["power"] == 0.5:
            torch._foreach_sqrt_(divisors)
        elif group["power"] != 1:
            torch._foreach_pow_(divisors, group["power"])
        torch._foreach_add_(divisors, group["eps"])
        return divisors

    def _rate(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        traces: list[Tensor],
        divisors: list[Tensor],
        ratios: list[Tensor],
        error: Tensor,
    ) -> Tensor:
        scalars = self._scalars(group, params)
        scalars["td_count"] += 1
        squares: Any = [param.grad for param in params]
        squares = torch._foreach_mul(wide(squares), wide(squares))
        if divisors:
            torch._foreach_div_(squares, divisors)
        scalars["sigma"].lerp_(total(squares), 1 - group["gamma"] * group["lamda"])
        clipped, relative = _clip(group, scalars, error)
        size = self._size(group, params, traces, ratios, scalars)
        return self._intended(clipped, relative) * step_size(group) * group["eta"] / size

    def _scalars(self, group: dict[str, Any], params: list[Tensor]) -> State:
        """Return the state of a group as a whole: t, σ and the averages of the TD error."""
        for param in group["params"]:
            if "td_count" in self.state.get(param, {}):
                found: State = self.state[param]
                return found
        state: State = self.state[params[0]]
        for name in sorted(SCALARS):
            state[name] = torch.zeros((), dtype=torch.float64, device=params[0].device)
        state["td_error_sq"].fill_(1.0)
        return state

    def _size(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        traces: list[Tensor],
        ratios: list[Tensor],
        scalars: State,
    ) -> Tensor:
        """Return the change of the output for α = 1: √(σ̂ z)."""
        z = total(list(torch._foreach_mul(wide(ratios), wide(traces))))
        correction = 1 - powers(group["gamma"] * group["lamda"], scalars["td_count"])
        return (scalars["sigma"] / correction * z).sqrt().clamp(min=SMALLEST)

    def _intended(self, clipped: Tensor, relative: Tensor) -> Tensor:
        """Return what the change is to be in units of η, of δ_clip and of δ̃."""
        raise NotImplementedError


class IntentionalValue(Intentional):
    """Intentional TD(λ): v(s) moves by the fraction η of the TD error.

        θ ← θ − α δ_clip e/d

    Call ``backward()`` on −v(s). The default of ``eta`` is 0.5; for the rest see `Intentional`.
    """

    def __init__(self, params: Any, eta: float = 0.5, **options: Any) -> None:
        super().__init__(params, eta, **options)

    def _intended(self, clipped: Tensor, relative: Tensor) -> Tensor:
        return clipped


class IntentionalPolicy(Intentional):
    """Intentional policy gradient: log π(a|s) moves by η where the TD error is of mean size.

        θ ← θ − α δ̃ e/d

    Call ``backward()`` on −log π(a|s) − c sign(δ) H. The default of ``eta`` is 0.05; for the rest
    see `Intentional`.
    """

    def _intended(self, clipped: Tensor, relative: Tensor) -> Tensor:
        return relative


class IntentionalKL(Intentional):
    """A policy gradient in nats: the Fisher diagonal bounds the divergence of the policies.

        θ ← θ − u,   u = α clamp(δ̃, −1, 1) e/d,   α = η / √(Σ ν̂ (e/d)²)

    so that ½ Σ ν̂ u² = ½ η² clamp(δ̃, −1, 1)² ≤ ½ η². KL(π_θ ‖ π_θ−u) is ½ uᵀ F u to second order,
    and uᵀ F u the mean square of the change of log π: so η has the same unit as for
    `IntentionalPolicy`, and ½ η² is Δ of `hesrl.optim.Scaled`. A δ above the mean counts as the
    mean, since the bound could not hold otherwise.

    ν̂ stands for the mean of F over states, without what is off its diagonal. At a single state the
    divergence can be greater, by up to the number of parameters where their gradients agree.

    Call ``backward()`` as for `IntentionalPolicy`. The default of ``eta`` is 0.05.
    """

    def _size(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        traces: list[Tensor],
        ratios: list[Tensor],
        scalars: State,
    ) -> Tensor:
        squares = torch._foreach_mul(wide(ratios), wide(ratios))
        torch._foreach_mul_(squares, _fisher(group, [self.state[param] for param in params]))
        return total(list(squares)).sqrt().clamp(min=SMALLEST)

    def _intended(self, clipped: Tensor, relative: Tensor) -> Tensor:
        return relative.clamp(-1.0, 1.0)


def _fisher(group: dict[str, Any], states: list[State]) -> list[Tensor]:
    """Return ν̂, in new tensors."""
    averages = [state["exp_fisher"] for state in states]
    counts: list[Any] = [state.get("hess_count", state["step"]) for state in states]
    corrections: list[Any]
    if group["capturable"]:
        seen = torch.stack(counts).double()
        corrections = list((1 - powers(group["beta2"], seen)).unbind())
    else:
        corrections = [1 - group["beta2"] ** count.item() for count in counts]
    return list(torch._foreach_div(averages, corrections))


def _clip(group: dict[str, Any], scalars: State, error: Tensor) -> tuple[Tensor, Tensor]:
    """Return δ_clip and δ̃, with both averages brought up to date."""
    correction = 1 - powers(group["td_beta"], scalars["td_count"])
    scalars["td_error_sq"].lerp_(error.square(), 1 - group["td_beta"])
    bound = group["td_clip"] * (scalars["td_error_sq"] / correction).sqrt()
    clipped = error.clamp(-bound, bound)
    scalars["td_error_abs"].lerp_(clipped.abs(), 1 - group["td_beta"])
    return clipped, clipped / (scalars["td_error_abs"] / correction).clamp(min=1e-12)
