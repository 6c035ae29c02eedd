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
from hesrl.optim.states import SCALARS, State
from hesrl.optim.streaming import Direction, Streaming
from hesrl.optim.update import (
    at_least,
    average_squares,
    powers,
    root,
    step_size,
    total,
    wide,
    within,
)

SMALLEST = 1e-8
"""Of √(σ̂ z), as published; a step is not divided by less."""


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

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("step", *super()._state_names(group), "exp_fisher")

    def _start(self, group: dict[str, Any], param: Tensor) -> State:
        state = super()._start(group, param)
        if not self._scalars(group):
            for name in sorted(SCALARS):
                start = 1.0 if name == "td_error_sq" else 0.0
                state[name] = torch.tensor(start, dtype=torch.float64, device=param.device)
        return state

    def _scalars(self, group: dict[str, Any]) -> dict[str, Tensor]:
        """Return t, σ and the averages of the TD error, which one parameter keeps for the group."""
        for param in group["params"]:
            state = self.state.get(param, {})
            if "td_count" in state:
                return {name: state[name] for name in sorted(SCALARS)}
        return {}

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

    def _rate(self, direction: Direction, error: Any) -> Any:
        group = direction.group
        squares: Any = [param.grad for param in direction.params]
        squares = torch._foreach_mul(wide(squares), wide(squares))
        if direction.inverses:
            torch._foreach_mul_(squares, direction.inverses)
        scalars = self._scalars(group)
        now: dict[str, Any] = dict(scalars)
        if not group["capturable"]:
            now = {name: value.item() for name, value in scalars.items()}

        now["td_count"] = now["td_count"] + 1
        fade, beta = group["gamma"] * group["lamda"], group["td_beta"]
        now["sigma"] = _average(now["sigma"], total(squares, group), fade)
        correction = 1 - powers(beta, now["td_count"])
        now["td_error_sq"] = _average(now["td_error_sq"], error * error, beta)
        clipped = within(error, group["td_clip"] * root(now["td_error_sq"] / correction))
        now["td_error_abs"] = _average(now["td_error_abs"], abs(clipped), beta)
        relative = clipped / at_least(now["td_error_abs"] / correction, 1e-12)
        for name, value in now.items():
            scalars[name].fill_(value)

        sigma = now["sigma"] / (1 - powers(fade, now["td_count"]))
        size = at_least(self._size(direction, sigma), SMALLEST)
        return self._intended(clipped, relative) * step_size(group) * group["eta"] / size

    def _size(self, direction: Direction, sigma: Any) -> Any:
        """Return the change of the output for α = 1: √(σ̂ z)."""
        z = torch._foreach_mul(wide(direction.ratios), wide(direction.traces))
        return root(sigma * total(list(z), direction.group))

    def _intended(self, clipped: Any, relative: Any) -> Any:
        """Return what the change is to be in units of η, of δ_clip and of δ̃."""
        raise NotImplementedError


class IntentionalValue(Intentional):
    """Intentional TD(λ): v(s) moves by the fraction η of the TD error.

        θ ← θ − α δ_clip e/d

    Call ``backward()`` on −v(s). The default of ``eta`` is 0.5; for the rest see `Intentional`.
    """

    def __init__(self, params: Any, eta: float = 0.5, **options: Any) -> None:
        super().__init__(params, eta, **options)

    def _intended(self, clipped: Any, relative: Any) -> Any:
        return clipped


class IntentionalPolicy(Intentional):
    """Intentional policy gradient: log π(a|s) moves by η where the TD error is of mean size.

        θ ← θ − α δ̃ e/d

    Call ``backward()`` on −log π(a|s) − c sign(δ) H. The default of ``eta`` is 0.05; for the rest
    see `Intentional`.
    """

    def _intended(self, clipped: Any, relative: Any) -> Any:
        return relative


class IntentionalKL(Intentional):
    """A policy gradient in nats: the Fisher diagonal bounds the divergence of the policies.

        θ ← θ − u,   u = α clamp(δ̃, −1, 1) e/d,   α = η / √(Σ ν̂ (e/d)²)

    so that ½ Σ ν̂ u² = ½ η² clamp(δ̃, −1, 1)² ≤ ½ η². KL(π_θ ‖ π_θ−u) is ½ uᵀ F u to second order,
    and uᵀ F u the mean square of the change of log π: so η has the same unit as for
    `IntentionalPolicy`, and ½ η² is Δ of `hesrl.optim.Scaled`. A δ above the mean counts as the
    mean, since the bound could not hold otherwise.

    ν̂ stands for the mean of F over states, without what is off its diagonal. At a single state the
    divergence can be greater, by up to the number of parameters where their gradients agree. With
    the default of ``eta``, 5e-4, the policy of a network of two layers of 128 moves as far as with
    that of `IntentionalPolicy`.

    Call ``backward()`` as for `IntentionalPolicy`.
    """

    def __init__(self, params: Any, eta: float = 5e-4, **options: Any) -> None:
        super().__init__(params, eta, **options)

    def _size(self, direction: Direction, sigma: Any) -> Any:
        group, ratios = direction.group, wide(direction.ratios)
        squares = torch._foreach_mul(ratios, ratios)
        torch._foreach_mul_(squares, _fisher(group, [self.state[p] for p in direction.params]))
        return root(total(list(squares), group))

    def _intended(self, clipped: Any, relative: Any) -> Any:
        return within(relative, 1.0)


def _fisher(group: dict[str, Any], states: list[State]) -> list[Tensor]:
    """Return ν̂, in new tensors."""
    averages = [state["exp_fisher"] for state in states]
    counts: list[Any] = [state.get("hess_count", state["step"]) for state in states]
    factors: list[Any]
    if group["capturable"]:
        seen = torch.stack(counts).double()
        factors = list((1 / (1 - powers(group["beta2"], seen))).unbind())
    else:
        factors = [1 / (1 - group["beta2"] ** count.item()) for count in counts]
    return list(torch._foreach_mul(averages, factors))


def _average(mean: Any, value: Any, beta: float) -> Any:
    return mean + (1 - beta) * (value - mean)
