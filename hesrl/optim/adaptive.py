"""The adaptive step that every optimizer of hesrl shares; they differ in what scales it.

    m ← β₁ m + (1 − β₁) g
    v ← β₂ v + (1 − β₂) d²
    θ ← θ − α m̂ / (√v̂ + ε),    m̂ = m / (1 − β₁ᵗ),  v̂ = v / (1 − β₂ᵗ)

``d`` is the source of the scale, with the shape of the parameter: the gradient gives Adam, a
Hessian diagonal the second-order optimizers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer


class ScaleSource(Protocol):
    """Where the scale of the step comes from, one of the exchangeable parts of an optimizer."""

    state_name: str
    """Name of the moving average of d² in the optimizer's state."""

    def prepare(self, params: Iterable[Tensor]) -> None:
        """Make the next backward pass leave the scale on parameters that an optimizer takes on."""

    def scales(self, group: dict[str, Any], params: list[Tensor]) -> list[Tensor]:
        """Return d for each parameter, all of which have a gradient."""

    def clear(self, params: Iterable[Tensor]) -> None:
        """Forget the scale, together with the gradient."""


class Adaptive(Optimizer):
    """Base of the optimizers: Adam's step with an exchangeable source of its scale.

    Args:
        params: Parameters or parameter groups, as for any `torch.optim.Optimizer`.
        source: What d is.
        lr: Step size α; dimensionless if d is a curvature, since g/|h| has the unit of θ.
        betas: β₁ and β₂, the decay rates of the two moving averages.
        eps: ε, in the unit of d.

    Raises:
        ValueError: A hyperparameter is out of range.
    """

    second_order: ClassVar[bool]
    """Whether d is a curvature."""

    def __init__(
        self,
        params: Any,
        source: ScaleSource,
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
    ) -> None:
        self._source = source
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take on one more group, whose missing hyperparameters are the defaults.

        Raises:
            ValueError: A hyperparameter is out of range.
        """
        _check_hyperparameters(type(self).__name__, {**self.defaults, **param_group})
        super().add_param_group(param_group)
        self._source.prepare(self.param_groups[-1]["params"])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            ValueError: It is that of another optimizer; nothing has changed then.
        """
        name = self._source.state_name
        for state in state_dict["state"].values():
            if name not in state:
                raise ValueError(
                    f"{type(self).__name__} cannot load the state of another optimizer: it has "
                    f"{', '.join(state)}, but no {name}"
                )
        super().load_state_dict(state_dict)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take on the parameters of an optimizer that was copied, unpickled or loaded."""
        super().__setstate__(state)
        for group in self.param_groups:
            self._source.prepare(group["params"])

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle needs."""
        return {**super().__getstate__(), "_source": self._source}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all parameters, and the scale that belongs to them."""
        super().zero_grad(set_to_none)
        if not set_to_none:  # else the scale went with the gradient
            for group in self.param_groups:
                self._source.clear(group["params"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: Optional; evaluates the model, calls ``backward`` and returns the loss.

        Returns:
            What the closure returned, or None.

        Raises:
            RuntimeError: A parameter has a gradient but no curvature, or a sparse gradient.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._step_group(group, params)
        return loss

    def _step_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        grads: list[Any] = [p.grad for p in params]
        if any(grad.is_sparse for grad in grads):
            raise RuntimeError(f"{type(self).__name__} does not take sparse gradients")
        scales = self._source.scales(group, params)
        states = [self.state[p] or self._start(p) for p in params]
        exp_avgs = [state["exp_avg"] for state in states]
        averages = [state[self._source.state_name] for state in states]
        steps = [state["step"] for state in states]
        beta1, beta2 = group["betas"]

        torch._foreach_add_(steps, torch.ones(()))
        torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)
        torch._foreach_lerp_(averages, torch._foreach_mul(scales, scales), 1 - beta2)

        # θ ← θ − (α √c₂ / c₁) m / (√v + ε √c₂) with c = 1 − βᵗ: the same step in fewer operations.
        counts = [step.item() for step in steps]
        roots = [(1 - beta2**t) ** 0.5 for t in counts]
        step_sizes = [
            -group["lr"] * root / (1 - beta1**t) for t, root in zip(counts, roots, strict=True)
        ]
        denominators = torch._foreach_sqrt(averages)
        torch._foreach_add_(denominators, [group["eps"] * root for root in roots])
        torch._foreach_addcdiv_(params, exp_avgs, denominators, step_sizes)

    def _start(self, param: Tensor) -> dict[str, Any]:
        state = self.state[param]
        state["step"] = torch.zeros(())
        for name in ("exp_avg", self._source.state_name):
            state[name] = torch.zeros_like(param, memory_format=torch.preserve_format)
        return state


def _check_hyperparameters(optimizer: str, group: dict[str, Any]) -> None:
    lr, betas, eps = group["lr"], group["betas"], group["eps"]
    if not _is_number(lr):
        raise ValueError(f"{optimizer}: lr must be a number from 0 up, not {lr!r}")
    is_pair = isinstance(betas, tuple | list) and len(betas) == 2
    if not is_pair or not all(_is_number(beta, below=1) for beta in betas):
        raise ValueError(f"{optimizer}: betas must be two numbers in [0, 1), not {betas!r}")
    if not _is_number(eps):
        raise ValueError(f"{optimizer}: eps must be a number from 0 up, not {eps!r}")


def _is_number(value: object, below: float = math.inf) -> bool:
    return isinstance(value, Real) and 0 <= float(value) < below
