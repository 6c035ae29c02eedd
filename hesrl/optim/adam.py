"""Adam (Kingma and Ba, 2015) on the shared adaptive step, the first-order baseline."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from hesrl.optim.adaptive import Adaptive


class Gradient:
    """The gradient as its own scale: d = g."""

    state_name = "exp_avg_sq"

    def prepare(self, params: Iterable[Tensor]) -> None:
        """Do nothing: every backward pass leaves the gradient."""

    def scales(self, group: dict[str, Any], params: list[Tensor]) -> list[Any]:
        """Return the gradients."""
        return [p.grad for p in params]

    def clear(self, params: Iterable[Tensor]) -> None:
        """Do nothing: the optimizer clears the gradient itself."""


class Adam(Adaptive):
    """Adam, step for step that of `torch.optim.Adam` without its options.

        m ← β₁ m + (1 − β₁) g
        v ← β₂ v + (1 − β₂) g²
        θ ← θ − α m̂ / (√v̂ + ε)

    Args:
        params: Parameters or parameter groups.
        lr: Step size α, in the unit of the parameters.
        betas: β₁ and β₂.
        eps: ε, in the unit of the gradient.

    Raises:
        ValueError: A hyperparameter is out of range.
    """

    second_order = False

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, Gradient(), lr=lr, betas=betas, eps=eps)
