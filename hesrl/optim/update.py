"""A step that is computed but not yet taken, and the operations that optimizers share."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


def wide(tensors: list[Tensor]) -> list[Tensor]:
    """Return tensors of at least single precision, whose squares do not over- and underflow."""
    return [t.float() if t.dtype in HALF else t for t in tensors]


class Update(NamedTuple):
    """u = r n / d + α λ θ, by which some parameters of a group are about to fall.

    Rates and decay are numbers, or tensors on the parameters' device if the group is capturable.
    """

    params: list[Tensor]
    """θ."""
    numerators: list[Tensor]
    """n, of the shapes of θ; not to be changed."""
    denominators: list[Tensor] | None
    """d, of the shapes of θ; None stands for ones."""
    rates: list[Any]
    """r of each parameter; without denominators they are all the same."""
    decay: Any
    """α λ; the number 0.0 if nothing decays."""

    def direction(self) -> list[Tensor]:
        """Return u, in new tensors."""
        if self.denominators is None:
            u = torch._foreach_mul(self.numerators, self.rates)
        else:
            u = torch._foreach_div(self.numerators, self.denominators)
            torch._foreach_mul_(u, self.rates)
        if isinstance(self.decay, Tensor):
            torch._foreach_add_(u, torch._foreach_mul(self.params, self.decay))
        elif self.decay:
            torch._foreach_add_(u, self.params, alpha=self.decay)
        return list(u)

    def take(self) -> None:
        """θ ← θ − u."""
        if isinstance(self.rates[0], Tensor) or self._is_wide():
            torch._foreach_sub_(self.params, self.direction())
            return
        if self.decay:
            torch._foreach_mul_(self.params, 1 - self.decay)
        if self.denominators is None:
            torch._foreach_add_(self.params, self.numerators, alpha=-self.rates[0])
        else:
            torch._foreach_addcdiv_(
                self.params, self.numerators, self.denominators, [-rate for rate in self.rates]
            )

    def _is_wide(self) -> bool:
        """Whether u is of more precision than the parameters."""
        divisors = self.denominators or self.params
        return any(d.dtype != p.dtype for d, p in zip(divisors, self.params, strict=True))


def average(averages: list[Tensor], values: list[Tensor], beta: float) -> None:
    """Bring moving averages up to date in place: v ← β v + (1 − β) f."""
    torch._foreach_lerp_(averages, as_wide(values, averages), 1 - beta)


def average_squares(averages: list[Tensor], values: list[Tensor], beta: float) -> None:
    """Bring moving averages up to date in place: v ← β v + (1 − β) d²."""
    values = as_wide(values, averages)
    torch._foreach_lerp_(averages, torch._foreach_mul(values, values), 1 - beta)


def as_wide(values: list[Tensor], averages: list[Tensor]) -> list[Tensor]:
    """Return values in single precision where only their averages are of it."""
    pairs = zip(averages, values, strict=True)
    return [v.float() if v.dtype in HALF and a.dtype not in HALF else v for a, v in pairs]


def powers(beta: float, counts: Any) -> Any:
    """Return βᵗ for counts t from 1, of a tensor by an exponential.

    A compiler repeats a power wherever a number of it is used, but keeps exponentials.
    """
    if not isinstance(counts, Tensor):
        return beta**counts
    return (counts * (math.log(beta) if beta > 0 else -math.inf)).exp()


def root(value: Any) -> Any:
    """Return the square root of a number or a tensor."""
    return value.sqrt() if isinstance(value, Tensor) else math.sqrt(value)


def at_least(value: Any, bound: float) -> Any:
    """Return a number or a tensor, raised to a bound."""
    return value.clamp(min=bound) if isinstance(value, Tensor) else max(value, bound)


def within(value: Any, bound: Any) -> Any:
    """Return a number or a tensor of one, brought within ±bound."""
    if isinstance(value, Tensor):
        return value.clamp(-bound, bound)
    return max(-bound, min(bound, value))


def total(tensors: list[Tensor], group: dict[str, Any]) -> Any:
    """Return the sum of all entries: a number, or a tensor of one if the group is capturable."""
    device = tensors[0].device
    found = torch.stack([x.sum().to(device) for x in tensors]).sum(dtype=torch.float64)
    return found if group["capturable"] else found.item()


def step_size(group: dict[str, Any]) -> Any:
    """Return α: a number, or whatever the group holds if it is capturable."""
    lr = group["lr"]
    if isinstance(lr, Tensor):
        return lr.reshape(()) if group["capturable"] else lr.item()
    return lr


def decay_of(group: dict[str, Any]) -> Any:
    """Return α λ, the number 0.0 if nothing decays."""
    return step_size(group) * group["weight_decay"] if group["weight_decay"] else 0.0
