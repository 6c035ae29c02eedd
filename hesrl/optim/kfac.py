"""K-FAC for linear layers within a trust region, as in ACKTR (Wu et al., 2017).

For a layer ``z_n = W a_n + b`` with ``ā = (a, 1)`` and the gradient ``g_n`` at z of the
log-likelihood of an output that is drawn from the model, Fisher's matrix of (W, b) is
``E[ā āᵀ ⊗ g gᵀ]``; K-FAC (Martens and Grosse, 2015) takes the product of the expectations,

    F = A ⊗ G,    A = E[ā āᵀ],    G = E[g gᵀ]

and the step of a group, with the gradient V of (W, b) and the damping λ,

    u = (F + λ I)⁻¹ V = Q_G [ (Q_Gᵀ V Q_A) / (d_G d_Aᵀ + λ) ] Q_Aᵀ,    A = Q_A diag(d_A) Q_Aᵀ, …
    η = min(α, √(2Δ / Σ uᵀ F u))
    m ← μ m + (1 − μ) η u,    θ ← θ − m

A and G are moving averages over batches, ``A ← β A + (1 − β) āᵀ ā/N`` with
``β = min(1 − 1/k, stat_decay)`` for the k-th one; g needs a backward pass of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from hesrl.curvature.graph import Graph, node_of
from hesrl.optim.base import CurvatureOptimizer
from hesrl.optim.states import State
from hesrl.optim.update import Update, step_size


class KFAC(CurvatureOptimizer):
    """K-FAC within a trust region; before a step that `is_due` it wants `observe`.

    Args:
        params: Weights of linear layers, each followed by its bias if it has one, or groups of
            them; each group has a trust region of its own.
        lr: α, the largest η.
        delta: Δ, in nats.
        damping: λ.
        momentum: μ.
        stat_decay: Bound of β.
        factors_every: Steps between observations.
        inverses_every: Steps between computations of eigenvectors.

    Raises:
        ValueError: A hyperparameter is out of range, or a parameter is of no linear layer.
    """

    recordable: ClassVar[bool] = False

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        delta: float = 1e-3,
        damping: float = 1e-3,
        momentum: float = 0.9,
        stat_decay: float = 0.95,
        factors_every: int = 10,
        inverses_every: int = 10,
    ) -> None:
        settings = dict(
            lr=lr, delta=delta, damping=damping, momentum=momentum, stat_decay=stat_decay,
            factors_every=factors_every, inverses_every=inverses_every,
        )  # fmt: skip
        super().__init__(params, settings, {})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take on one more group.

        Raises:
            ValueError: As for the class, or an option of the other optimizers is given.
        """
        for name, value in CurvatureOptimizer.OPTIONS.items():
            if param_group.get(name, value) != value:
                raise ValueError(f"KFAC has no {name}")
        super().add_param_group(param_group)
        try:
            list(_layers(self.param_groups[-1]))
        except ValueError:
            self.param_groups.pop()
            raise

    def is_due(self) -> bool:
        """Return whether the next step wants an observation first."""
        return any(
            self.state[weight].get("taken", 0) % group["factors_every"] == 0
            for group in self.param_groups
            for weight, _ in _layers(group)
        )

    @torch.no_grad()
    def observe(self, outputs: Sequence[Tensor], scores: Sequence[Tensor]) -> None:
        """Bring the factors up to date with a batch; the outputs' graph is kept.

        Args:
            outputs: What the networks give for N samples (N, …), with its graph.
            scores: Gradient of each sample's log-likelihood at each output, for a drawn output.

        Raises:
            ValueError: A parameter is of no linear layer below the outputs.
        """
        graph = Graph(dict.fromkeys(node_of(output) for output in outputs))
        found = {id(weight): node for node in graph.nodes for weight in _weight_of(node)}
        layers = [(g, weight, bias) for g in self.param_groups for weight, bias in _layers(g)]
        for _, weight, _ in layers:
            if id(weight) not in found:
                raise ValueError(
                    f"KFAC: the parameter of shape {tuple(weight.shape)} is not the weight of a "
                    "linear layer whose inputs are rows: leave it to another optimizer"
                )
        edges = [GradientEdge(found[id(weight)], 0) for _, weight, _ in layers]
        grads = torch.autograd.grad(outputs, edges, scores, retain_graph=True)
        for (group, weight, bias), edge, g in zip(layers, edges, grads, strict=True):
            a = _input_of(edge.node)
            if bias is not None:
                a = torch.cat((a, a.new_ones(len(a), 1)), 1)
            state: State = self.state[weight]
            state["observed"] = state.get("observed", 0) + 1
            beta = min(1 - 1 / state["observed"], group["stat_decay"])
            for name, x in (("factor_in", a), ("factor_out", g)):
                fresh = x.T @ x / len(x)
                state[name] = torch.lerp(fresh, state[name], beta) if beta else fresh

    def _step(self, finish: Callable[[dict[str, Any], Iterable[Update]], None]) -> None:
        for group in self.param_groups:
            work, total = [], 0.0
            for weight, bias in _layers(group):
                if weight.grad is not None:
                    moves, along = self._direction(group, weight, bias)
                    work += moves
                    total += along
            eta = step_size(group)
            if total > 0:
                eta = min(eta, math.sqrt(2 * group["delta"] / total))
            for param, u in work:
                buffer = self.state[param].setdefault("momentum_buffer", torch.zeros_like(param))
                buffer.lerp_(eta * u, 1 - group["momentum"])
                param.sub_(buffer)

    def _direction(
        self, group: dict[str, Any], weight: Tensor, bias: Tensor | None
    ) -> tuple[list[tuple[Tensor, Tensor]], float]:
        """Return u of a layer's parameters, and uᵀ F u."""
        state: State = self.state[weight]
        if "factor_in" not in state:
            raise RuntimeError("KFAC has observed nothing: call observe() before the first step")
        taken = state.get("taken", 0)
        state["taken"] = taken + 1
        if taken % group["inverses_every"] == 0:
            for side in ("in", "out"):
                d, q = torch.linalg.eigh(state[f"factor_{side}"])
                state[f"values_{side}"], state[f"vectors_{side}"] = d.clamp(min=0), q
        d = state["values_out"].outer(state["values_in"])
        q_in, q_out = state["vectors_in"], state["vectors_out"]
        grad = weight.grad
        assert grad is not None
        if bias is not None:
            of_bias = torch.zeros_like(bias) if bias.grad is None else bias.grad
            grad = torch.cat((grad, of_bias.unsqueeze(1)), 1)
        v = q_out.T @ grad @ q_in / (d + group["damping"])
        u, along = q_out @ v @ q_in.T, float((v.square() * d).sum())
        if not math.isfinite(along):
            raise FloatingPointError("a step of K-FAC is not finite: zero_grad() skips it")
        if bias is None:
            return [(weight, u)], along
        return [(weight, u[:, :-1]), (bias, u[:, -1])], along


def _layers(group: dict[str, Any]) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield the weights of a group, each with the bias that follows it."""
    params: list[Tensor] = list(group["params"])
    while params:
        weight = params.pop(0)
        if weight.dim() != 2:
            raise ValueError(
                f"KFAC takes weights of linear layers, each before its bias, not a parameter of "
                f"shape {tuple(weight.shape)}"
            )
        has_bias = bool(params) and params[0].shape == weight.shape[:1]
        yield weight, params.pop(0) if has_bias else None


def _weight_of(node: Any) -> Iterator[Tensor]:
    """Yield the weight of a node that is a linear layer of rows."""
    place = {"AddmmBackward0": 2, "MmBackward0": 1}.get(node.name())
    if place is not None:
        source, _ = node.next_functions[place]
        if source is not None and source.name() == "TBackward0":
            leaf, _ = source.next_functions[0]
            if leaf is not None and hasattr(leaf, "variable"):
                yield leaf.variable


def _input_of(node: Any) -> Any:
    """Return the rows that a linear layer took."""
    return node._saved_mat1 if node.name() == "AddmmBackward0" else node._saved_self
