"""What hesrl computes, computed the slow way by `torch.func`; free of hesrl."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev


def flat(output: Any) -> Tensor:
    """All entries of a tensor, or of several, as one vector."""
    parts = [output] if isinstance(output, Tensor) else list(output)
    return torch.cat([part.reshape(-1) for part in parts])


def hesscale(
    function: Callable[..., Any],
    inputs: Sequence[Tensor],
    index: int,
    grad_out: Tensor,
    hess_out: Tensor,
) -> Tensor:
    """HesScale of one operation by definition, for input number ``index``, of its shape.

        h(x)_j = Σ_k (∂y_k/∂x_j)² h(y)_k + Σ_k g(y)_k ∂²y_k/∂x_j²

    Args:
        function: The operation y = f(x_0, x_1, …).
        inputs: x_0, x_1, …
        index: Number of the input x.
        grad_out: g(y), all outputs as one vector.
        hess_out: h(y), likewise.
    """
    values = [x.detach() for x in inputs]
    shape = values[index].shape

    def of_one_input(x: Tensor) -> Tensor:
        return flat(function(*values[:index], x.view(shape), *values[index + 1 :]))

    x = values[index].flatten()
    jacobian = jacrev(of_one_input)(x)
    hessian = jacrev(grad(lambda x: grad_out @ of_one_input(x)))(x)
    return (hess_out @ jacobian.square() + hessian.diagonal()).view(shape)


def hess_diag(loss: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The exact diagonal ∂²L/∂x² for every input, of its shape."""
    one, zero = inputs[0].new_ones(1), inputs[0].new_zeros(1)
    return [hesscale(loss, inputs, index, one, zero) for index in range(len(inputs))]


def module_hess_diag(
    module: nn.Module, loss: Callable[[Callable[..., Any]], Tensor]
) -> dict[str, Tensor]:
    """The exact diagonal for every parameter of a module, by name.

    Args:
        module: The module; a parameter that it uses twice counts once.
        loss: The scalar loss, given the module as a function of its inputs.
    """
    names, params = zip(*module.named_parameters(), strict=True)

    def of_parameters(*values: Tensor) -> Tensor:
        state = dict(zip(names, values, strict=True))
        return loss(lambda *inputs: functional_call(module, state, inputs))

    return dict(zip(names, hess_diag(of_parameters, *params), strict=True))
