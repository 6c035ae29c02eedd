"""What all optimizers share: torch's contract, options, curvature, and the order of a step.

An optimizer makes three independent choices:

- *curvature source*: the class attribute `CurvatureOptimizer.curvature`;
- *moment form*: how gradient and curvature become an update u, in a method ``_update``
  (`hesrl.optim.sgd`, `hesrl.optim.adaptive`, `hesrl.optim.streaming`);
- *step scaling*: how much of u is taken, in a method ``_finish`` (here all of it;
  `hesrl.optim.scaled`, `hesrl.optim.intentional`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from hesrl.curvature import Method, clear_curvature
from hesrl.curvature.arming.store import untraced
from hesrl.optim.hyperparameters import check_group
from hesrl.optim.sources import arm_due, take_due
from hesrl.optim.states import COUNTS, State, check_loadable, count, dtype_of, in_own_precision
from hesrl.optim.update import Update, average_squares


class CurvatureOptimizer(Optimizer):
    """Base of the optimizers.

    Args:
        params: Parameters, named or not, or parameter groups, as for any optimizer of torch.
        settings: The hyperparameters of the moment form.
        **options: Those of `OPTIONS`, here and in the classes below.

    Raises:
        ValueError: A hyperparameter is out of range, or a parameter cannot be optimized.
        TypeError: There is no such option.
    """

    curvature: ClassVar[Method | None] = None
    """Estimator of h with which the parameters are armed; None: no curvature."""

    recordable: ClassVar[bool] = True
    """Whether a step is the same operations each time, so that it can be replayed or compiled."""

    OPTIONS: ClassVar[dict[str, Any]] = {
        "weight_decay": 0.0,
        "maximize": False,
        "foreach": None,
        "capturable": False,
        "curvature_every": 1,
    }
    """Options with their defaults; a subclass lists the ones that it adds."""

    def __init__(self, params: Any, settings: dict[str, Any], options: dict[str, Any]) -> None:
        defaults: dict[str, Any] = {}
        for cls in reversed(type(self).__mro__):
            defaults |= vars(cls).get("OPTIONS", {})
        for name in options.keys() - defaults.keys():
            raise TypeError(
                f"{type(self).__name__} has no option {name!r}: choose from {', '.join(defaults)}"
            )
        super().__init__(params, {**settings, **defaults, **options})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take on one more group, whose missing hyperparameters are the defaults.

        Raises:
            ValueError: A hyperparameter is out of range, or a parameter cannot be optimized;
                nothing has changed then.
        """
        name = type(self).__name__
        filled = {**self.defaults, **param_group}
        check_group(name, filled, self._method(filled) is not None)
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            for param in group["params"]:
                if param.is_complex():
                    raise ValueError(
                        f"{name} does not take complex parameters, such as one of shape "
                        f"{tuple(param.shape)} and dtype {param.dtype}"
                    )
            self._arm(group, group["params"])
        except ValueError:
            self.param_groups.pop()
            raise

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; of torch's optimizers, too, where it fits.

        Raises:
            ValueError: It is that of another optimizer; nothing has changed then.
        """
        check_loadable(type(self).__name__, state_dict, self._state_names)
        # PyTorch would cast the count to the precision of the parameters.
        states = {
            key: {name: int(v) if name == "hess_count" else v for name, v in state.items()}
            for key, state in state_dict["state"].items()
        }
        super().load_state_dict({**state_dict, "state": states})
        # And these as well.
        keys = [key for group in state_dict["param_groups"] for key in group["params"]]
        params = [param for group in self.param_groups for param in group["params"]]
        for key, param in zip(keys, params, strict=True):
            self.state[param].update(in_own_precision(state_dict["state"].get(key, {}), param))

    def init_state(self) -> None:
        """Give each parameter with a gradient to come the state that its first step begins with.

        So a step can be recorded before the first one is taken.
        """
        for group in self.param_groups:
            for param in group["params"]:
                if param.requires_grad and not self.state.get(param):
                    self._start(group, param)

    def reset_time(self) -> None:
        """Let the counts of steps begin anew; the moving averages stay.

        Where a new loss begins, Adam-Rel does that (Ellis et al., 2024): the first steps are
        √(1 − β₂) / (1 − β₁) times as long, and grow to their full length.
        """
        for state in self.state.values():
            for name in COUNTS & state.keys():
                state[name].zero_()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take on the parameters of an optimizer that was copied, unpickled or loaded."""
        super().__setstate__(state)
        self.defaults.pop("differentiable", None)  # PyTorch adds it, though it is no option here
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)
            for param in group["params"]:
                of_param = self.state.get(param, {})
                for name in COUNTS & of_param.keys():
                    of_param[name] = count(of_param[name], group, param)
            self._arm(group, group["params"])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all parameters, and the curvature that belongs to them."""
        super().zero_grad(set_to_none)
        if not set_to_none:  # else the curvature went with the gradient
            for group in self.param_groups:
                clear_curvature(group["params"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: Optional; evaluates the model, calls ``backward`` and returns the loss.

        Returns:
            What the closure returned, or None.

        Raises:
            RuntimeError: A parameter has a gradient but no curvature, or a sparse gradient.
            FloatingPointError: A curvature is not finite where the gradient is. Nothing has
                changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step(self._finish)
        return loss

    def _step(self, finish: Callable[[dict[str, Any], Iterable[Update]], None]) -> None:
        work = []
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if any(p.grad.is_sparse for p in params):
                raise RuntimeError(f"{type(self).__name__} does not take sparse gradients")
            if params:
                work.append((group, params, self._curvatures(group, params)))
        for group, params, hessians in work:
            parts = [(params, hessians)]
            if group["foreach"] is False:
                parts = [([p], [h]) for p, h in zip(params, hessians, strict=True)]
            finish(group, (self._advance(group, *part) for part in parts))
            if group["curvature_every"] > 1 or any(hess is None for hess in hessians):
                self._arm(group, params)

    def _method(self, group: dict[str, Any]) -> Method | None:
        """Return the estimator of h of a group."""
        return self.curvature

    def _arm(self, group: dict[str, Any], params: list[Tensor]) -> None:
        method = self._method(group)
        if method is not None:
            if not hasattr(self, "_arm_due"):  # a compiled step could not look them up
                self._arm_due, self._take_due = untraced(arm_due), untraced(take_due)
            self._arm_due(self, group, params, method)

    def _curvatures(self, group: dict[str, Any], params: list[Tensor]) -> list[Any]:
        """Return h of each parameter, None where this step takes no new one."""
        if self._method(group) is None:
            return [None] * len(params)
        found: list[Any] = self._take_due(group, params, self.state)
        return found

    def _advance(self, group: dict[str, Any], params: list[Tensor], hessians: list[Any]) -> Update:
        """Bring the state up to date with the derivatives and return the update."""
        states = [self.state[p] or self._start(group, p) for p in params]
        grads: Iterable[Any] = [p.grad for p in params]
        if group["maximize"]:
            grads = torch._foreach_neg(list(grads))
        if self._method(group) is not None:
            self._average_curvature(group, states, hessians)
        steps = [state["step"] for state in states if "step" in state]
        if steps:
            # On a CPU a list of tensors is three times as fast as one tensor or number for all.
            torch._foreach_add_(steps, [torch.ones_like(steps[0])] * len(steps))
        return self._update(group, params, states, list(grads))

    def _average_curvature(
        self, group: dict[str, Any], states: list[State], hessians: list[Any]
    ) -> None:
        if group["curvature_every"] > 1:
            for state in states:
                if "hess_count" not in state:
                    state["hess_count"] = state["step"].clone()
        if any(hess is None for hess in hessians):
            fresh = [i for i, hess in enumerate(hessians) if hess is not None]
            states, hessians = [states[i] for i in fresh], [hessians[i] for i in fresh]
        for state in states:
            if "hess_count" in state:
                state["hess_count"] += 1
        if states:
            self._average(group, states, hessians)

    def _average(self, group: dict[str, Any], states: list[State], hessians: list[Any]) -> None:
        """Bring the averages of new curvatures up to date."""
        averages = [state["exp_hess_sq"] for state in states]
        average_squares(averages, hessians, self._curvature_beta(group))

    def _start(self, group: dict[str, Any], param: Tensor) -> State:
        state: State = self.state[param]
        for name in self._state_names(group):
            if name in COUNTS:
                state[name] = count(0, group, param)
            else:
                state[name] = torch.zeros_like(
                    param, dtype=dtype_of(name, param), memory_format=torch.preserve_format
                )
        return state

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Return the names of what `_start` gives every parameter of a group."""
        return () if self.curvature is None else ("step", "exp_hess_sq")

    def _curvature_beta(self, group: dict[str, Any]) -> float:
        """Return β of the moving average of h²."""
        raise NotImplementedError

    def _update(
        self, group: dict[str, Any], params: list[Tensor], states: list[State], grads: list[Tensor]
    ) -> Update:
        """Bring the moments of the gradient up to date and return the update."""
        raise NotImplementedError

    def _finish(self, group: dict[str, Any], updates: Iterable[Update]) -> None:
        """Take the updates of a group."""
        for update in updates:
            update.take()
