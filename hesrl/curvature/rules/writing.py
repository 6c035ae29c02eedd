"""Entries of one tensor written to, or added at, places in another; out of place or in place.

What is written has coefficients 0 and 1, and so has what remains: ``h = Jᵀ h(y)`` for both, the
gradient's own map. All are exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.registry import register_adjoint, register_rule

register_adjoint(
    "AsStridedScatterBackward0",
    "DiagonalScatterBackward0",
    "FillBackward3",
    "IndexCopyBackward0",
    "IndexFillBackward0",
    "IndexFillBackward1",
    "IndexPutBackward0",
    "MaskedScatterBackward0",
    "PutBackward0",
    "ScatterAddBackward0",
    "ScatterBackward0",
    "ScatterBackward1",
    "SelectScatterBackward0",
    "SliceScatterBackward0",
    "torch::autograd::CopyBackwards",
    # In place on a view, where `moves_entries`.
    "torch::autograd::CopySlices",
)


@register_rule("IndexAddBackward0", linear=True)
def index_add(
    node: Any, grad_out: Tensor | None, hess_out: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """``y = a`` with ``α b`` added at some indices: the gradient's own map has α, ``h`` has α²."""
    hess_a, hess_b = node(hess_out)
    return hess_a, None if hess_b is None else node._saved_alpha * hess_b


def moves_entries(node: Any) -> bool:
    """Whether an operation in place on a view has coefficients 0 and 1, in the old y and in x.

    ``y[:, 0] = x`` and ``+=`` do. Autograd has one node for all operations in place on a view and
    does not tell which it is. It is linear if ``Jᵀ v`` depends on v only. An entry of the old y,
    or of x, goes to one entry of the new y at most (operations with more inputs, such as a matrix
    product, are left out), so ``Jᵀ 1`` is its coefficient.
    """
    if len(node.next_functions) > 2:
        return False
    of_y = node._input_metadata[0]
    with torch.enable_grad():
        ones = torch.ones(tuple(of_y.shape), dtype=of_y.dtype, device=of_y.device)
        moved = node(ones.requires_grad_())
    parts = [part for part in ([moved] if isinstance(moved, Tensor) else moved) if part is not None]
    linear = all(leaf is ones for leaf in _leaves(part.grad_fn for part in parts))
    return linear and all(bool(((part == 0) | (part == 1)).all()) for part in parts)


def _leaves(nodes: Iterable[Any]) -> list[Tensor]:
    """Return the leaf tensors that an autograd graph reaches."""
    stack, seen, leaves = list(nodes), set(), []
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            stack.extend(source for source, _ in node.next_functions)
            if hasattr(node, "variable"):
                leaves.append(node.variable)
    return leaves
