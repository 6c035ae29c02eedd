"""HesScale's recursion over a network that is written as its operations; free of hesrl.

    h(x)_j = Σ_k (∂y_k/∂x_j)² h(y)_k + Σ_k g(y)_k ∂²y_k/∂x_j²

for each operation y = f(x_0, x_1, …), from h(L) = 0 downwards. Where several operations take the
same tensor, their contributions add up. Every operation has full Jacobians, so up to about a
thousand entries each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tests import reference

Function = Callable[..., Any]


class Recursion:
    """Called with a function and its inputs, it runs the function as the next operation.

    What is one operation is the caller's choice: elementwise functions whose paths fork and rejoin
    belong into one.
    """

    def __init__(self) -> None:
        self._operations: list[
            tuple[Function, tuple[Tensor, ...], tuple[Tensor, ...], Function]
        ] = []

    def __call__(
        self, function: Function, *inputs: Tensor, rule: Function = reference.hesscale
    ) -> Any:
        """Return what the function returns, a tensor or several.

        Args:
            function: The operation.
            *inputs: Its inputs.
            rule: A quicker way to what `reference.hesscale` computes.
        """
        assert len(set(inputs)) == len(inputs), "the paths of one tensor belong into the function"
        result = function(*inputs)
        # A copy has the gradient of its consumers alone, without those inside the function.
        outputs = tuple(y.clone() for y in ([result] if isinstance(result, Tensor) else result))
        self._operations.append((function, inputs, outputs, rule))
        return outputs[0] if isinstance(result, Tensor) else outputs

    def curvature(
        self, leaves: Sequence[Tensor], stand_ins: Mapping[Function, Function] | None = None
    ) -> list[Tensor]:
        """Return h of some inputs, for the loss that was the last operation.

        Args:
            leaves: The inputs, each of which requires a gradient.
            stand_ins: Functions of which another function's derivatives are taken for h. The
                gradient is that of the network as it is.
        """
        made = [y for _, _, outputs, _ in self._operations for y in outputs]
        variables = [y for y in made if y.requires_grad]
        grads = torch.autograd.grad(made[-1], variables, allow_unused=True, materialize_grads=True)
        grad_of = {y: torch.zeros_like(y) for y in made} | dict(zip(variables, grads, strict=True))
        hess_of = {x: torch.zeros_like(x) for x in (*made, *leaves)}
        for function, inputs, outputs, rule in reversed(self._operations):
            grad_out, hess_out = (
                reference.flat(of[y] for y in outputs) for of in (grad_of, hess_of)
            )
            function = (stand_ins or {}).get(function, function)
            for index, x in enumerate(inputs):
                if x.requires_grad:
                    hess = rule(function, inputs, index, grad_out, hess_out)
                    hess_of[x] = hess_of[x] + hess
        return [hess_of[leaf] for leaf in leaves]
