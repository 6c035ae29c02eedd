"""Hessian diagonals from random vectors: Hutchinson's estimator and GGN-MC.

- ``"hutchinson"``: ``h = z ∘ (H z)`` for random signs z, whose mean is the exact diagonal; what
  AdaHessian uses (Yao et al., 2021). It differentiates the gradient once more.
- ``"ggn_mc"``: ``h = (Jᵀ s)²``, where J is the Jacobian of the network's outputs and s the
  gradient of the loss there for targets drawn from the model's own likelihood
  (`likelihood.py`). They are drawn independently, so that the mean over draws is the diagonal of
  the generalized Gauss-Newton matrix. The gradient pass through the network runs twice.

Both are used like a `Sweep`, around the native backward pass.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.estimators.likelihood import find_outputs
from hesrl.curvature.graph import Graph
from hesrl.curvature.rule_registry import MissingRuleError

_FUSED_ATTENTION = (
    "ScaledDotProductFlashAttentionForCpuBackward0",
    "ScaledDotProductFlashAttentionBackward0",
    "ScaledDotProductEfficientAttentionBackward0",
    "ScaledDotProductCudnnAttentionBackward0",
)


def require_second_derivatives(graph: Graph) -> None:
    """Refuse a graph of which PyTorch cannot differentiate the gradient.

    Raises:
        MissingRuleError: It has a fused attention.
    """
    for node in graph.nodes:
        if node.name() in _FUSED_ATTENTION:
            raise MissingRuleError(
                f"PyTorch has no second derivative of {node.name()}, which Hessian-vector products "
                "need: run the model under "
                "torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)"
            )


class GaussNewtonMC:
    """``(Jᵀ s)²`` for one draw of targets.

    Args:
        graph: The graph of the roots.
        leaves: The numbers of the leaf nodes whose curvature is wanted.
        roots: The roots, as for `torch.autograd.backward`.
        grads: Their gradients, likewise.

    Raises:
        ValueError: On entering it, if the likelihood of the model is not known.
    """

    def __init__(self, graph: Graph, leaves: Sequence[int], roots: Any, grads: Any) -> None:
        self._graph, self._leaves = graph, leaves
        self._roots, self._grads = roots, grads
        self._hess: dict[int, Tensor] = {}

    def __enter__(self) -> GaussNewtonMC:
        """Run the vectors through the network, before the native pass frees the graph."""
        outputs = find_outputs(self._graph, self._roots, self._grads)
        products = torch.autograd.grad(
            [output.edge for output in outputs],
            [self._graph.nodes[leaf].variable for leaf in self._leaves],
            [output.draws(1)[0] for output in outputs],
            retain_graph=True,
            allow_unused=True,
        )
        for leaf, product in zip(self._leaves, products, strict=True):
            if product is not None:
                self._hess[leaf] = product.square()
        return self

    def __exit__(self, *exception: object) -> None:
        """Do nothing."""

    def curvature(self, leaf: int) -> Tensor | None:
        """Return ``h`` of a wanted leaf; None for zero."""
        return self._hess.pop(leaf, None)


class Hutchinson:
    """``z ∘ (H z)`` for one draw of signs; the native pass must record the gradients.

    Args:
        graph: The graph of the roots.
        leaves: The numbers of the leaf nodes whose curvature is wanted.
        keep_recorded: The caller wants recorded gradients; else they are replaced by plain ones.
        keep_graph: The caller wants to use the graph again; else it is freed.
    """

    def __init__(
        self, graph: Graph, leaves: Sequence[int], *, keep_recorded: bool, keep_graph: bool
    ) -> None:
        self._graph, self._leaves = graph, leaves
        self._keep_recorded, self._keep_graph = keep_recorded, keep_graph
        self._hess: dict[int, Tensor] = {}

    def __enter__(self) -> Hutchinson:
        """Let PyTorch record gradients without its warning.

        Raises:
            MissingRuleError: PyTorch cannot differentiate them again.
        """
        require_second_derivatives(self._graph)
        _allow_recorded_gradients()
        return self

    def __exit__(self, *exception: object) -> None:
        """Differentiate the recorded gradients, and replace them by plain ones."""
        variables = {leaf: self._graph.nodes[leaf].variable for leaf in self._leaves}
        curved = {
            leaf: param
            for leaf, param in variables.items()
            if param.grad is not None and param.grad.requires_grad
        }
        if curved and exception[0] is None:
            signs = [torch.randint_like(param, 2) * 2 - 1 for param in curved.values()]
            products = torch.autograd.grad(
                [param.grad for param in curved.values()],
                list(curved.values()),
                signs,
                retain_graph=self._keep_graph,
                materialize_grads=True,
            )
            for leaf, sign, product in zip(curved, signs, products, strict=True):
                self._hess[leaf] = sign * product
        if not self._keep_recorded:
            for leaf in self._graph.structure.leaves:
                param = self._graph.nodes[leaf].variable
                if param.grad is not None and param.grad.requires_grad:
                    param.grad = param.grad.detach()

    def curvature(self, leaf: int) -> Tensor | None:
        """Return ``h`` of a wanted leaf; None for zero."""
        return self._hess.pop(leaf, None)


@functools.cache
def _allow_recorded_gradients() -> None:
    """Use up PyTorch's single warning that recorded gradients make a reference cycle."""
    x = torch.zeros((), requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (x * x).backward(create_graph=True)
    x.grad = None
