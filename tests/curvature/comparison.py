"""A module's curvature by one backward pass, beside the recursion over its operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hesrl.curvature import arm
from hesrl.curvature.plan import Method
from tests.curvature.recursion import Function, Recursion

Params = dict[str, Tensor]


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def spread(module: nn.Module) -> nn.Module:
    """Draw biases and the scales of norms, most of which start as 0 and 1; return the module."""
    for name, p in module.named_parameters():
        if p.dim() == 1:
            nn.init.normal_(p, float(name.endswith("weight")), 0.3)
    return module


def computed(
    module: nn.Module, loss: Callable[[Callable[..., Any]], Tensor], method: Method = "hesscale"
) -> dict[str, Tensor]:
    """The curvature of every parameter of a module, by hesrl."""
    arm(module.parameters(), method)
    loss(module).backward()
    return {name: p.hess_diag for name, p in module.named_parameters()}


def assert_recursion(
    module: nn.Module,
    loss: Callable[[Callable[..., Any]], Tensor],
    operations: Callable[[Recursion, Params], Tensor],
    *,
    method: Method = "hesscale",
    stand_ins: Mapping[Function, Function] | None = None,
) -> dict[str, Tensor]:
    """Check every parameter's curvature, and that the operations are those of the module.

    Args:
        module: The module, in float64.
        loss: The scalar loss, given the module.
        operations: The same loss, by a `Recursion` that it is given with the parameters.
        method: The estimator.
        stand_ins: See `Recursion.curvature`.

    Returns:
        The curvature by hesrl.
    """
    params = {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}
    leaves = list(params.values())
    step = Recursion()
    value = operations(step, params)
    grads = torch.autograd.grad(value, leaves, retain_graph=True)
    expected = step.curvature(leaves, stand_ins)
    actual = computed(module, loss, method)
    for (name, p), grad, hess in zip(module.named_parameters(), grads, expected, strict=True):
        _assert_close(p.grad, grad, f"gradient of {name}")
        assert hess.count_nonzero() > 0
        _assert_close(actual[name], hess, f"curvature of {name}")
    return actual


def _assert_close(actual: Any, expected: Tensor, what: str) -> None:
    torch.testing.assert_close(
        actual,
        expected,
        rtol=1e-10,
        atol=1e-12 * expected.abs().max().item(),
        msg=lambda text: f"{what}: {text}",
    )
