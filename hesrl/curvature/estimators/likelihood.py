"""The outputs of a network, and the Hessian of the loss there, by the likelihood of the model.

The generalized Gauss-Newton matrix is ``Jᵀ H J`` with the Jacobian J of the network's outputs z and
the Hessian H of the loss there, whose square root is known in closed form:

- cross-entropy, ``L = −c Σ_k q_k log softmax(z)_k``: ``H = c (diag p − p pᵀ) = Σ_k s_k s_kᵀ`` with
  ``s_k = √(c p_k) (p − e_k)``; for a class k drawn with probability p_k, ``s = √c (p − e_k)``;
- mean squared error, ``L = c Σ (z − t)²``: ``H = 2c``; drawn, ``s = √(2c) ε`` with ε normal;
- binary cross-entropy of logits, ``L = c Σ ℓ(z)``: ``H = c p (1 − p)``, times the weight of the
  term and of positives, and as a diagonal one drawn likewise; the same goes for the Huber, smooth
  L1 and soft margin losses, whose ``ℓ''`` has no sign. Of probabilities, ``H = c / (p (1 − p))`` is
  the expectation over targets, which gives a sigmoid's logits the same ``c p (1 − p)``.

`hesrl.losses` adds its own: cross-entropy, squared and Huber errors, and the Gaussian, for which H
is the expectation over targets (Fisher's matrix), since the Hessian itself has both signs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import GradientEdge

from hesrl.curvature.coefficients import dense, times
from hesrl.curvature.graph import Graph
from hesrl.curvature.rule_registry import Pointwise, find_rule
from hesrl.curvature.rules.softmax import saved_dim


@dataclass(frozen=True)
class Categorical:
    """Logits of a softmax whose logarithm the loss is linear in."""

    edge: GradientEdge
    """z in the graph."""
    probs: Tensor
    """p, with the classes in the last dimension (…, K)."""
    weight: Tensor
    """c (…, 1)."""
    dim: int
    """Where z has its classes."""

    def draws(self, count: int) -> Tensor:
        """Return s for classes drawn with the probabilities p, ``count`` of the shape of z."""
        rows = self.probs.reshape(-1, self.probs.shape[-1])
        drawn = torch.multinomial(rows, count, replacement=True).T
        drawn = drawn.reshape(count, *self.weight.shape)
        one_hot = torch.zeros_like(self.probs).expand(count, *self.probs.shape)
        vectors = self.weight.sqrt() * (self.probs - one_hot.scatter(-1, drawn, 1.0))
        return vectors.movedim(-1, self.dim + 1)

    def factors(self) -> Tensor:
        """Return s_k for every class k, each of the shape of z."""
        vectors, weights = self.parts()
        return vectors * weights.sqrt()

    def parts(self) -> tuple[Tensor, Tensor]:
        """Return ``p − e_k`` for every class k, each of the shape of z, and ``c p_k`` likewise.

        With size 1 in place of the classes. Unlike the roots they have a sign.
        """
        count = self.probs.shape[-1]
        unit = torch.eye(count, dtype=self.probs.dtype, device=self.probs.device)
        vectors = self.probs - unit.view(count, *[1] * (self.probs.dim() - 1), count)
        weights = (self.weight * self.probs).movedim(-1, 0).unsqueeze(-1)
        return vectors.movedim(-1, self.dim + 1), weights.movedim(-1, self.dim + 1)

    def row_factors(self) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return w (V, N) of ``H = Σ_v w_v s_v s_vᵀ``, and a function from v to s (V, N, …).

        There is one v for each class and position of a row.
        """
        vectors, weights = self.parts()
        vectors = vectors.movedim(self.dim + 1, -1)
        positions = prod(weights.shape[2:])

        def chosen(v: Tensor) -> Tensor:
            of_class = vectors[v // positions]
            at = F.one_hot(v % positions, positions).to(of_class.dtype)
            at = at.view(len(v), 1, *of_class.shape[2:-1], 1)
            return (of_class * at).movedim(-1, self.dim + 1)

        return weights.flatten(2).transpose(1, 2).reshape(-1, weights.shape[1]), chosen

    def rows(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of z as (R, K), a row for each sample and position."""
        return x.movedim(self.dim, -1).reshape(-1, self.probs.shape[-1])

    samples = rows


@dataclass(frozen=True)
class Gaussian:
    """Predictions of a mean squared error."""

    edge: GradientEdge
    """z in the graph."""
    weight: Tensor
    """c, of the shape of z."""
    shared: bool = False
    """All samples have the same z, which has no dimension for them."""

    def draws(self, count: int) -> Tensor:
        """Return s for targets drawn around the predictions, ``count`` of the shape of z."""
        weight = self.weight.expand(count, *self.weight.shape)
        return (2 * weight).sqrt() * torch.randn_like(weight)

    def factors(self) -> Tensor:
        """Return √(2c) of the shape of z, once: its entries are the roots of H one by one."""
        return (2 * self.weight).sqrt().unsqueeze(0)

    def rows(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of z as one row for each entry that H does not couple."""
        return x.reshape(-1, 1)

    def samples(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of z as (N, K), a row for each sample.

        Raises:
            ValueError: There is none, since all samples share z.
        """
        if self.shared:
            raise ValueError(
                "the gradients of the samples are not known: they share an output of shape "
                f"{tuple(x.shape)}; let each have its own, as by expand before the loss"
            )
        return x.reshape(len(x), -1) if x.dim() else x.reshape(1, 1)


Output: TypeAlias = Categorical | Gaussian
Edges: TypeAlias = "Sequence[GradientEdge | None]"


def find_outputs(graph: Graph, tensors: Any, grad_tensors: Any = None) -> list[Output]:
    """Return the outputs of the network.

    Args:
        graph: The graph of the roots.
        tensors: The roots, as for `torch.autograd.backward`.
        grad_tensors: Their gradients, likewise.

    Raises:
        ValueError: The loss is not one of `LIKELIHOODS`, or one has a negative weight.
    """
    found = _losses_of_outputs(graph, tensors, grad_tensors)
    outputs = [output for *_, of_loss in found for output in of_loss]
    if not outputs:
        raise ValueError(
            "the Gauss-Newton matrix needs the likelihood of the model, which is known for "
            "cross-entropy, binary cross-entropy, mse_loss, huber_loss, smooth_l1_loss and "
            "soft_margin_loss; this loss is none of them: write it with one, or with the "
            "likelihoods and value losses of hesrl.losses"
        )
    if any(bool((output.weight < 0).any()) for output in outputs):
        raise ValueError("a cross-entropy or squared error with a negative weight is no likelihood")
    return outputs


def gradients_at_outputs(graph: Graph, loss: Tensor) -> list[Tensor]:
    """Return the gradient at each output of a network by its own loss, in the same order.

    An output may also be on the way of others, as logits are of one that is a single logit.
    """
    return [
        torch.autograd.grad([root], [output.edge], [grad], retain_graph=True)[0]
        for root, grad, of_loss in _losses_of_outputs(graph, (loss,), None)
        for output in of_loss
    ]


def _losses_of_outputs(
    graph: Graph, tensors: Any, grad_tensors: Any
) -> Iterator[tuple[GradientEdge, Tensor, list[Output]]]:
    """Yield each loss of outputs: where it is in the graph, the gradient there, its outputs."""
    for node, taken in zip(graph.nodes, graph.structure.sources, strict=True):
        outputs_of = LIKELIHOODS.get(getattr(node, "_forward_cls", node.name()))
        if outputs_of is not None:
            root = GradientEdge(node, 0)
            (grad,) = torch.autograd.grad(
                tensors, [root], grad_tensors, retain_graph=True, allow_unused=True
            )
            if grad is not None:
                edges = [GradientEdge(graph.nodes[s[0]], s[1]) if s else None for s in taken]
                yield root, grad, outputs_of(node, edges, grad)


def separable(edge: GradientEdge | None, hess: Tensor, shared: bool = False) -> list[Output]:
    """Return the output z of a loss with a diagonal Hessian H, of which no entry is negative."""
    return [] if edge is None else [Gaussian(edge, 0.5 * hess, shared)]


def _log_softmax(node: Any, edges: Edges, grad: Tensor) -> list[Output]:
    if edges[0] is None:
        return []
    dim = saved_dim(node._saved_dim, grad.dim())
    probs = node._saved_result.exp().movedim(dim, -1)
    return [Categorical(edges[0], probs, -grad.movedim(dim, -1).sum(-1, keepdim=True), dim)]


def _terms(node: Any, edges: Edges, grad: Tensor) -> list[Output]:
    """A loss of terms ``ℓ(z)``, reduced or not, with ``ℓ'' ≥ 0``."""
    rule = find_rule(node.name())
    assert isinstance(rule, Pointwise)
    _, second = rule.partials(node)
    hess = next(times(f, grad) for i, j, f in second if i == j == 0)
    return separable(edges[0], dense(hess, grad.dtype))


def _probabilities(node: Any, edges: Edges, grad: Tensor) -> list[Output]:
    """Binary cross-entropy of probabilities, expected: ``w / (p (1 − p))``, bounded as in torch."""
    p, weight = node._saved_self, node._saved_weight
    hess = grad / (p * (1 - p)).clamp(min=1e-12)
    if node._saved_reduction == 1:
        hess = hess / p.numel()
    return separable(edges[0], hess if weight is None else hess * weight)


Likelihood: TypeAlias = Callable[[Any, Edges, Tensor], list[Output]]

LIKELIHOODS: dict[Any, Likelihood] = {
    "LogSoftmaxBackward0": _log_softmax,
    "BinaryCrossEntropyBackward0": _probabilities,
    **dict.fromkeys(
        (
            "BinaryCrossEntropyWithLogitsBackward0",
            "HuberLossBackward0",
            "MseLossBackward0",
            "SmoothL1LossBackward0",
            "SoftMarginLossBackward0",
        ),
        _terms,
    ),
}
"""By a node's name or its `torch.autograd.Function`: from the node, where its inputs lie in the
graph (None for a constant) and the gradient at its output, to the network's outputs that it has."""
