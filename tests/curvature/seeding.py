"""Give an operation's output a gradient and a curvature of our choice, by the loss on top."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hesrl.curvature import arm
from tests import reference


def grad_and_hess(output: Any, *, apart: bool = False) -> tuple[Tensor, Tensor]:
    """Run ``backward`` from the loss ``Σ g (y − y₀) + ½ h (y − y₀)²`` at ``y = y₀``.

    Args:
        output: y, one tensor or several.
        apart: Put a view between y and the loss, so that an elementwise operation that made y
            does not become one region with it.

    Returns:
        g and h of all entries of y as one vector, random and of both signs.
    """
    y = reference.flat(output) if not isinstance(output, Tensor) else output
    if apart:
        y = y.view(y.shape)
    distance = y - y.detach()
    grad, hess = torch.randn_like(distance), torch.randn_like(distance)
    (grad * distance + 0.5 * hess * distance.square()).sum().backward()
    return grad.flatten(), hess.flatten()


def assert_defined(
    function: Callable[..., Any],
    *inputs: Tensor,
    definition: Callable[..., Any] | None = None,
    rtol: float = 1e-10,
    of_largest: float = 0.0,
) -> Any:
    """Check that the curvature of every input is the definition's, and return the output.

    Args:
        function: The operations.
        *inputs: Their inputs, in float64.
        definition: The same in other operations, for `reference.hesscale`.
        rtol: Relative tolerance.
        of_largest: Absolute tolerance beside 1e-12, as a part of the largest entry.
    """
    params = [x.clone().requires_grad_() for x in inputs]
    arm(params)
    output = function(*params)
    grad_out, hess_out = grad_and_hess(output)
    for n, param in enumerate(params):
        expected = reference.hesscale(definition or function, inputs, n, grad_out, hess_out)
        atol = 1e-12 + (of_largest * expected.abs().max().item() if of_largest else 0)
        torch.testing.assert_close(param.hess_diag, expected, rtol=rtol, atol=atol)
    return output


def node_names(output: Any) -> set[str]:
    """The names of all nodes in the autograd graph of a tensor, or of several."""
    outputs = [output] if isinstance(output, Tensor) else output
    nodes = {y.grad_fn for y in outputs}
    found: set[Any] = set()
    while nodes:
        node = nodes.pop()
        found.add(node)
        nodes |= {source for source, _ in node.next_functions if source is not None} - found
    return {node.name() for node in found}
