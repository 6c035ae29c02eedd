"""The moment form of stochastic gradient descent."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hesrl.optim.base import CurvatureOptimizer
from hesrl.optim.states import State
from hesrl.optim.update import Update, decay_of, step_size


class SGD(CurvatureOptimizer):
    """Stochastic gradient descent with momentum, step for step that of `torch.optim.SGD`.

        b ← μ b + (1 − τ) g      (b ← g at first)
        u = α b                  (α (g + μ b) if nesterov; α g if μ = 0)

    The one difference: weight decay is decoupled, as everywhere in hesrl. Without momentum that is
    the same.

    Args:
        params: Parameters, named or not, or parameter groups.
        lr: Step size α, a number or a tensor of one, in squared parameters per loss.
        momentum: μ.
        dampening: τ.
        nesterov: Whether to look ahead; needs a momentum and no dampening.
        **options: Those of docs/optimizers.md.

    Raises:
        ValueError: A hyperparameter is out of range, or a parameter cannot be optimized.
        TypeError: There is no such option.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        **options: Any,
    ) -> None:
        settings = dict(lr=lr, momentum=momentum, dampening=dampening, nesterov=nesterov)
        super().__init__(params, settings, options)

    def init_state(self) -> None:
        """Give each parameter with a momentum to come a buffer of zeros, which b ← g begins with.

        Raises:
            ValueError: A group has a dampening, which only its first step leaves out.
        """
        if any(group["momentum"] and group["dampening"] for group in self.param_groups):
            raise ValueError("SGD with a dampening must take a step before one is recorded")
        super().init_state()
        for group in self.param_groups:
            for param in group["params"]:
                if group["momentum"] and param.requires_grad:
                    self.state[param].setdefault("momentum_buffer", torch.zeros_like(param))

    def _update(
        self, group: dict[str, Any], params: list[Tensor], states: list[State], grads: list[Tensor]
    ) -> Update:
        momentum, numerators = group["momentum"], grads
        if momentum:
            going = []
            for state, grad in zip(states, grads, strict=True):
                if state.get("momentum_buffer") is None:
                    state["momentum_buffer"] = grad.clone()
                else:
                    going.append((state["momentum_buffer"], grad))
            if going:
                buffers, new = (list(tensors) for tensors in zip(*going, strict=True))
                torch._foreach_mul_(buffers, momentum)
                torch._foreach_add_(buffers, new, alpha=1 - group["dampening"])
            numerators = [state["momentum_buffer"] for state in states]
            if group["nesterov"]:
                numerators = list(torch._foreach_add(grads, numerators, alpha=momentum))
        rates = [step_size(group)] * len(params)
        return Update(params, numerators, None, rates, decay_of(group))
