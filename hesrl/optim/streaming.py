"""The moment form of streaming learning: eligibility traces, and steps that take the TD error.

An agent that streams learns from one transition at a time, s → s' with reward r, and keeps none:

    δ = r + γ v(s') − v(s)
    e ← γλ e + g
    θ ← θ − r δ̃ e/d

g is the gradient of −v(s) or −log π(a|s), e the trace, and d, r and δ̃ are chosen by a subclass: the
divisor in ``_divisors``, and the step scaling, r δ̃, in ``_rate``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hesrl.curvature.arming.fingerprint import is_recording
from hesrl.optim.base import CurvatureOptimizer
from hesrl.optim.sources import name_of
from hesrl.optim.states import State
from hesrl.optim.update import Update, at_least, decay_of, step_size, total, wide


class Direction(NamedTuple):
    """Where a group of parameters goes: to e/d, times a factor."""

    group: dict[str, Any]
    """Its hyperparameters."""
    params: list[Tensor]
    """θ."""
    traces: list[Tensor]
    """e."""
    inverses: list[Tensor]
    """1/d, empty for ones."""
    ratios: list[Tensor]
    """e/d."""


class Streaming(CurvatureOptimizer):
    """Base of the optimizers that learn from each transition as it comes.

    ``backward()`` is called on what is to be minimized, as for any optimizer of torch: on −v(s) for
    a value function, and on −log π(a|s) − c sign(δ) H for a policy with an entropy bonus. The TD
    error itself is no part of the loss: `step` takes it.

    The traces are state of the optimizer. One optimizer serves one stream of experience.

    Args:
        params: Parameters, named or not, or parameter groups; each group is scaled by itself.
        settings: The hyperparameters of the scaling, γ and λ.
        **options: Those of docs/optimizers.md.
    """

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("eligibility_trace",)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Read by ``GradScaler.step``, and by nothing else."""
        raise RuntimeError(
            f"{type(self).__name__} does not go with GradScaler: a step that it skips would keep "
            "traces that were to be emptied; autocast to bfloat16 needs no GradScaler"
        )

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, td_error: float | Tensor, reset: bool | Tensor = False
    ) -> None:
        """Learn from one transition.

        Args:
            td_error: δ, a number or a tensor of one, in the unit of the value.
            reset: Whether to empty the traces after the step, since an episode has ended: a truth
                value, or a tensor of one. Where operations are recorded both must be tensors.

        Raises:
            TypeError: An argument is none of these, such as a closure.
            RuntimeError: A parameter has a trace but no gradient, a gradient but no curvature, or
                a sparse gradient.
            FloatingPointError: The TD error or a gradient is not finite, or a curvature is not
                where the gradient is. If capturable, no number is asked for, and none is found.
                Nothing has changed in any of these cases.
        """
        if isinstance(td_error, Tensor):
            td_error = td_error.detach()
        self._check(td_error, reset)
        self._step(partial(self._learn, td_error, reset))

    def _check(self, td_error: Any, reset: Any) -> None:
        name = type(self).__name__
        for what, value in {"td_error": td_error, "reset": reset}.items():
            if isinstance(value, Tensor):
                if value.numel() != 1:
                    raise TypeError(
                        f"{name}: {what} must be a tensor of one, not of shape {tuple(value.shape)}"
                    )
            elif is_recording():
                raise TypeError(
                    f"{name}: {what} must be a tensor where the step is recorded, since {value!r} "
                    "would be that of all steps"
                )
        if not isinstance(td_error, Tensor | Real):
            raise TypeError(
                f"{name}: td_error must be a number or a tensor of one, not a "
                f"{type(td_error).__name__}; closures are not taken"
            )
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None and param.requires_grad and param in self.state:
                    raise RuntimeError(
                        f"{name_of(group, param)} has a trace but no gradient: "
                        "each step needs that of the transition, if only zeros"
                    )
        if is_recording() or any(group["capturable"] for group in self.param_groups):
            return
        if not math.isfinite(td_error):
            raise FloatingPointError(
                f"{name}: td_error is {float(td_error)}: look at the reward and the values"
            )
        for group in self.param_groups:
            _refuse_not_finite(group)

    def _update(
        self, group: dict[str, Any], params: list[Tensor], states: list[State], grads: list[Tensor]
    ) -> Update:
        traces = [state["eligibility_trace"] for state in states]
        torch._foreach_mul_(traces, group["gamma"] * group["lamda"])
        torch._foreach_add_(traces, grads)
        divisors = self._divisors(group, states, grads)
        return Update(params, traces, divisors, [1.0] * len(params), decay_of(group))

    def _divisors(
        self, group: dict[str, Any], states: list[State], grads: list[Tensor]
    ) -> list[Tensor] | None:
        """Bring the diagonal up to date and return d, None for ones."""
        return None

    def _learn(
        self, td_error: Any, reset: Any, group: dict[str, Any], updates: Iterable[Update]
    ) -> None:
        """Take the updates of a group, scaled together, and empty its traces if that is due."""
        parts = list(updates)
        params = [param for part in parts for param in part.params]
        traces = [trace for part in parts for trace in part.numerators]
        divisors = [d for part in parts for d in part.denominators or ()]
        # One division for each entry: a compiled step takes longer for it than for all the rest.
        inverses = list(torch._foreach_reciprocal(divisors)) if divisors else []
        ratios = list(torch._foreach_mul(traces, inverses)) if divisors else traces
        error: Any = td_error
        if group["capturable"]:
            error = torch.as_tensor(error, dtype=torch.float64, device=params[0].device).reshape(())
        else:
            error = float(error)
        rate = self._rate(Direction(group, params, traces, inverses, ratios), error)
        Update(params, ratios, None, [rate] * len(params), parts[0].decay).take()
        if isinstance(reset, Tensor):
            for trace in traces:
                # Not a product with zero, which would keep NaN.
                trace.masked_fill_(reset.to(trace.device, torch.bool).reshape(()), 0.0)
        elif reset:
            torch._foreach_zero_(traces)

    def _rate(self, direction: Direction, error: Any) -> Any:
        """Return the factor of e/d in the step of a group.

        It and δ are numbers, or tensors of one in double precision if the group is capturable.

        Args:
            direction: The group and its traces.
            error: δ.
        """
        raise NotImplementedError


class ObGD(Streaming):
    """Overshooting-bounded gradient descent (Elsayed, Vasan and Mahmood, 2024: Stream-AC).

        δ̄ = max(|δ|, 1),   α = lr / max(1, κ lr δ̄ Σ|e|)
        θ ← θ − α δ e

    so that κ times a first-order estimate of the change never exceeds the TD error.

    Args:
        params: Parameters, named or not, or parameter groups; the sum runs over one group.
        lr: Step size that is taken where nothing overshoots, a number or a tensor of one.
        gamma: γ, discount of one step.
        lamda: λ, decay of the trace.
        kappa: κ: published are 2 for a value function and 3 for a policy.
        **options: Those of docs/optimizers.md.

    Raises:
        ValueError: A hyperparameter is out of range, or a parameter cannot be optimized.
        TypeError: There is no such option.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        gamma: float = 0.99,
        lamda: float = 0.8,
        kappa: float = 2.0,
        **options: Any,
    ) -> None:
        super().__init__(params, dict(lr=lr, gamma=gamma, lamda=lamda, kappa=kappa), options)

    def _rate(self, direction: Direction, error: Any) -> Any:
        group, lr = direction.group, step_size(direction.group)
        size = total([trace.abs() for trace in wide(direction.traces)], group)
        overshoot = group["kappa"] * lr * at_least(abs(error), 1.0) * size
        return error * lr / at_least(overshoot, 1.0)


def _refuse_not_finite(group: dict[str, Any]) -> None:
    params = [p for p in group["params"] if p.grad is not None and not p.grad.is_sparse]
    if not params:
        return
    norms = [norm.to(params[0].device) for norm in torch._foreach_norm([p.grad for p in params])]
    if math.isfinite(torch.stack(norms).sum().item()):
        return  # else there is one, or the squares overflow
    for param in params:
        wrong = int((~param.grad.isfinite()).sum())
        if wrong:
            raise FloatingPointError(
                f"the gradient of {name_of(group, param)} is not finite in {wrong} entries: "
                "zero_grad() skips this step"
            )
