"""Hessian diagonals on demand: HesScale and what it is measured against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, overload

import torch
from torch import Tensor

from hesrl.curvature.advice import REENTRANT_CHECKPOINT, hidden_by
from hesrl.curvature.backward_sweep import Sweep
from hesrl.curvature.estimators import products
from hesrl.curvature.estimators.factored import by_factors
from hesrl.curvature.estimators.likelihood import Output, find_outputs, gradients_at_outputs
from hesrl.curvature.estimators.sampling import require_second_derivatives
from hesrl.curvature.graph import Graph, node_of
from hesrl.curvature.method import Method
from hesrl.curvature.plan import plan_for
from hesrl.curvature.rule_registry import MissingRuleError

Loss: TypeAlias = Tensor | Callable[[], Tensor]
Estimator: TypeAlias = (
    Method | Literal["hessian", "ggn", "squared_gradient", "squared_sample_gradients"]
)


@overload
def hess_diag(
    loss: Loss, params: Mapping[str, Tensor], method: Estimator = ..., *, samples: int = ...
) -> dict[str, Tensor]: ...


@overload
def hess_diag(
    loss: Loss, params: Iterable[Tensor], method: Estimator = ..., *, samples: int = ...
) -> list[Tensor]: ...


def hess_diag(
    loss: Loss,
    params: Mapping[str, Tensor] | Iterable[Tensor],
    method: Estimator = "hesscale",
    *,
    samples: int = 1,
) -> dict[str, Tensor] | list[Tensor]:
    """Estimate ``diag ∂²L/∂θ²``, by default as HesScale does (Elsayed et al., 2024).

    | method | what it gives | cost in gradient passes |
    |---|---|---|
    | ``"hesscale"``, ``"hesscale_gn"``, ``"bl89"`` | see `hesrl.curvature.Method` | about 1 |
    | ``"hessian"`` | the exact diagonal | outputs and curved units; else one per entry |
    | ``"ggn"`` | the exact diagonal of the generalized Gauss-Newton matrix | outputs; else × rows |
    | ``"ggn_mc"`` | the same by drawn targets, mean over ``samples`` | samples |
    | ``"hutchinson"`` | ``z ∘ (H z)`` for random signs z, mean over ``samples`` | 2 × samples |
    | ``"squared_gradient"`` | ``g²`` | 1 |
    | ``"squared_sample_gradients"`` | mean of the squared gradients of the rows | rows |

    The two exact ones cost less for parameters of layers above which no row of the batch meets
    another (`hesrl.curvature.estimators.factored`), with the same result.

    The Gauss-Newton methods and the last one find the network's outputs by the likelihood of the
    model, so the loss must be a cross-entropy, a binary one, `mse_loss` or another of
    `hesrl.curvature.estimators.likelihood`, or one of `hesrl.losses` that stands for them or for a
    Gaussian. Rows are samples, and of logits with more dimensions also positions.

    It leaves ``p.grad``, ``p.hess_diag`` and the graph of the loss as they are, so that
    ``loss.backward()`` still works.

    Args:
        loss: L, a scalar that autograd recorded, or a function that computes it.
        params: θ, leaf tensors that require a gradient, in a list or by name
            (``dict(model.named_parameters())``).
        method: What to compute.
        samples: Number of draws of the random methods.

    Returns:
        The signed diagonal for each of ``params``, of its shape and dtype, in loss per squared
        parameter; zeros where the loss does not depend on it. In a list or by name, as asked.

    Raises:
        ValueError: The loss is not a scalar that autograd recorded, or belongs to a transform of
            `torch.func`; a parameter is not a floating-point leaf that requires a gradient; the
            method is unknown, or needs a likelihood or single samples that are not known.
        MissingRuleError: An operation between the loss and the parameters has no rule, or for
            Hessian-vector products no second derivative.
    """
    if isinstance(params, Mapping):
        found = hess_diag(loss, list(params.values()), method, samples=samples)
        return dict(zip(params, found, strict=True))
    params = list(params)
    if method not in _ESTIMATORS:
        raise ValueError(f"method must be one of {', '.join(_ESTIMATORS)}, not {method!r}")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    for param in params:
        if not (param.is_leaf and param.requires_grad and param.is_floating_point()):
            raise ValueError(
                "params must be floating-point leaves that require a gradient, not a tensor of "
                f"shape {tuple(param.shape)} and dtype {param.dtype} (is_leaf={param.is_leaf}, "
                f"requires_grad={param.requires_grad})"
            )
    loss, graph = _recorded(loss)
    numbers = {id(graph.nodes[leaf].variable): leaf for leaf in graph.structure.leaves}
    wanted = {id(param): param for param in params if id(param) in numbers}
    missing = [param for param in params if id(param) not in numbers]
    if missing and any(node.name() == REENTRANT_CHECKPOINT for node in graph.nodes):
        raise MissingRuleError(hidden_by(REENTRANT_CHECKPOINT, missing))
    hessians: dict[int, Tensor | None] = {}
    if wanted:
        leaves = [numbers[key] for key in wanted]
        estimates = _ESTIMATORS[method](_Problem(loss, graph, leaves, method, samples))
        hessians = dict(zip(wanted, estimates, strict=True))
    return [
        torch.zeros_like(param) if (hess := hessians.get(id(param))) is None else hess
        for param in params
    ]


def _recorded(loss: Loss) -> tuple[Tensor, Graph]:
    """Return a loss with its graph, computed if it is a function."""
    if not isinstance(loss, Tensor):
        with torch.enable_grad():
            loss = loss()
    if not isinstance(loss, Tensor):
        raise ValueError(f"the loss must be a tensor, not {loss!r}")
    if torch._C._functorch.is_functorch_wrapped_tensor(loss):
        raise ValueError(
            "the loss belongs to a transform of torch.func (vmap, grad, …), whose operations the "
            "graph does not show: call hess_diag outside of it"
        )
    if loss.numel() != 1:
        raise ValueError(f"the loss must be a scalar, not of shape {tuple(loss.shape)}")
    root = node_of(loss)
    if root is None:
        raise ValueError("the loss does not require a gradient: it depends on no parameter")
    return loss, Graph([root])


@dataclass(frozen=True)
class _Problem:
    loss: Tensor
    graph: Graph
    leaves: list[int]
    """The numbers of the parameters' nodes."""
    method: Estimator
    samples: int

    @property
    def params(self) -> list[Tensor]:
        return [self.graph.nodes[leaf].variable for leaf in self.leaves]

    def with_the_rest(
        self, known: dict[int, Tensor], general: Callable[[list[Tensor]], Sequence[Tensor]]
    ) -> list[Tensor]:
        """Return a diagonal for each parameter: a known one, or else what the general way gives."""
        rest = [leaf for leaf in self.leaves if leaf not in known]
        if rest:
            others = general([self.graph.nodes[leaf].variable for leaf in rest])
            known = known | dict(zip(rest, others, strict=True))
        return [known[leaf] for leaf in self.leaves]

    def twice_differentiable(self) -> Tensor:
        require_second_derivatives(self.graph)
        return self.loss

    def outputs(self) -> list[Output]:
        return find_outputs(self.graph, (self.loss,))


def _swept(problem: _Problem) -> list[Tensor | None]:
    method = cast(Method, problem.method)
    plan = plan_for(problem.graph, frozenset(problem.leaves), method)
    with Sweep(problem.graph, plan) as sweep:
        torch.autograd.grad(problem.loss, problem.params, retain_graph=True, allow_unused=True)
    return [sweep.curvature(leaf) for leaf in problem.leaves]


def _hessian(problem: _Problem) -> list[Tensor]:
    loss = problem.twice_differentiable()
    known = by_factors(loss, problem.graph, problem.leaves)
    return problem.with_the_rest(known, lambda rest: products.hessian_diagonal(loss, rest))


def _ggn(problem: _Problem) -> list[Tensor]:
    outputs = problem.outputs()
    known = by_factors(problem.loss, problem.graph, problem.leaves, outputs)
    return problem.with_the_rest(known, lambda rest: products.ggn_diagonal(outputs, rest))


def _gradient(problem: _Problem, inputs: Sequence[Any]) -> Sequence[Tensor]:
    return torch.autograd.grad(problem.loss, inputs, retain_graph=True, materialize_grads=True)


def _squared_sample_gradients(problem: _Problem) -> Sequence[Tensor | None]:
    outputs = problem.outputs()
    grads = gradients_at_outputs(problem.graph, problem.loss)
    return products.squared_sample_gradients(outputs, grads, problem.params)


_ESTIMATORS: dict[str, Callable[[_Problem], Sequence[Tensor | None]]] = {
    "hesscale": _swept,
    "hesscale_gn": _swept,
    "bl89": _swept,
    "hessian": _hessian,
    "ggn": _ggn,
    "ggn_mc": lambda p: products.ggn_mc_mean(p.outputs(), p.params, p.samples),
    "hutchinson": lambda p: products.hutchinson_mean(p.twice_differentiable(), p.params, p.samples),
    "squared_gradient": lambda p: [g.square() for g in _gradient(p, p.params)],
    "squared_sample_gradients": _squared_sample_gradients,
}
