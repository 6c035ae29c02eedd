"""Diagonals that HesScale is measured against: exact, or by many samples, at any cost.

Index legend: ``n`` rows of the network's outputs (samples, positions), ``k`` classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from hesrl.curvature.estimators.likelihood import Output

_CHUNK = 256
"""How many vectors go through the graph at once."""


def hessian_diagonal(loss: Tensor, params: Sequence[Tensor]) -> list[Tensor]:
    """Return ``∂²L/∂θ_j²``, by one Hessian-vector product for every entry θ_j."""
    grads = _recorded_gradients(loss, params)
    result = []
    for grad, param in zip(grads, params, strict=True):
        diagonal = torch.zeros_like(param)
        if grad.requires_grad:
            entries = diagonal.view(-1)
            for chosen in torch.arange(param.numel(), device=param.device).split(_CHUNK):
                basis = torch.zeros(len(chosen), param.numel(), dtype=param.dtype).to(param.device)
                basis.scatter_(1, chosen.unsqueeze(1), 1.0)
                (rows,) = _products([grad], [param], [basis.view(-1, *param.shape)])
                entries[chosen] = rows.flatten(1).gather(1, chosen.unsqueeze(1)).squeeze(1)
        result.append(diagonal)
    return result


def hutchinson_mean(loss: Tensor, params: Sequence[Tensor], samples: int) -> list[Tensor]:
    """Return the mean of ``z ∘ (H z)`` over random signs z."""
    grads = _recorded_gradients(loss, params)
    curved = [(g, p) for g, p in zip(grads, params, strict=True) if g.requires_grad]
    sums = {id(param): torch.zeros_like(param) for param in params}
    for count in _counts(samples if curved else 0):
        outputs, inputs = zip(*curved, strict=True)
        signs = [
            torch.randint(2, (count, *p.shape), device=p.device).to(p.dtype) * 2 - 1 for p in inputs
        ]
        for p, sign, product in zip(inputs, signs, _products(outputs, inputs, signs), strict=True):
            sums[id(p)] += (sign * product).sum(0)
    return [sums[id(param)] / samples for param in params]


def ggn_mc_mean(outputs: Sequence[Output], params: Sequence[Tensor], samples: int) -> list[Tensor]:
    """Return the mean of ``(Jᵀ s)²`` over draws of targets from the model's likelihood."""
    edges = [output.edge for output in outputs]
    sums = [torch.zeros_like(param) for param in params]
    for count in _counts(samples):
        draws = [output.draws(count) for output in outputs]
        for total, product in zip(sums, _products(edges, params, draws), strict=True):
            total += product.square().sum(0)
    return [total / samples for total in sums]


def ggn_diagonal(outputs: Sequence[Output], params: Sequence[Tensor]) -> list[Tensor]:
    """Return ``Σ_n Σ_k (J_nᵀ s_nk)²``, by a vector-Jacobian product for each n and k, batched."""
    sums = [torch.zeros_like(param) for param in params]
    for output in outputs:
        factors = output.factors()
        places = output.rows(_indices(factors[0]))
        pairs = torch.cartesian_prod(
            *(torch.arange(len(x)).to(x.device) for x in (factors, places))
        )
        for k, n in (chosen.unbind(1) for chosen in pairs.split(_CHUNK)):
            batch = _only(factors.flatten(1)[k], places[n]).view(-1, *factors.shape[1:])
            _add_squares(sums, [output], [batch], params)
    return sums


def squared_sample_gradients(
    outputs: Sequence[Output], grads: Sequence[Tensor], params: Sequence[Tensor]
) -> list[Tensor]:
    """Return ``N Σ_n (J_nᵀ g_n)²``, the mean of the samples' squared gradients.

    It is the diagonal of the empirical Fisher matrix, for a loss that is a mean over N rows.

    Args:
        outputs: The outputs of the network.
        grads: The gradient of the loss at each.
        params: The parameters.

    Raises:
        ValueError: Outputs do not have the same number of rows, or one has none.
    """
    places = [output.samples(_indices(grad)) for output, grad in zip(outputs, grads, strict=True)]
    counts = {len(place) for place in places}
    if len(counts) != 1:
        raise ValueError(
            "the gradients of the samples are not known: the network's outputs have "
            f"{' and '.join(map(str, sorted(counts)))} of them"
        )
    (count,) = counts
    sums = [torch.zeros_like(param) for param in params]
    for rows in torch.arange(count, device=grads[0].device).split(_CHUNK):
        batches = [
            _only(grad.flatten().expand(len(rows), -1), place[rows]).view(-1, *grad.shape)
            for grad, place in zip(grads, places, strict=True)
        ]
        _add_squares(sums, outputs, batches, params)
    return [count * total for total in sums]


def _add_squares(
    sums: Sequence[Tensor],
    outputs: Sequence[Output],
    batches: Sequence[Tensor],
    params: Sequence[Tensor],
) -> None:
    """Add ``Σ_v (Jᵀ v)²`` for the vectors v of a batch, one tensor for each output."""
    products = _products([output.edge for output in outputs], params, batches)
    for total, product in zip(sums, products, strict=True):
        total += product.square().sum(0)


def _indices(x: Tensor) -> Tensor:
    """Return the number of every entry, in the shape of a tensor."""
    return torch.arange(x.numel(), device=x.device).view_as(x)


def _only(vectors: Tensor, places: Tensor) -> Tensor:
    """Return vectors (B, D) with zeros but for some places (B, K) of each."""
    return torch.zeros_like(vectors).scatter(1, places, vectors.gather(1, places))


def _recorded_gradients(loss: Tensor, params: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, params, create_graph=True, materialize_grads=True)


def _products(
    outputs: Sequence[object], params: Sequence[Tensor], vectors: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Return ``Jᵀ v`` for every vector of a batch; zero where an output does not depend on θ."""
    products = torch.autograd.grad(
        outputs,  # type: ignore[arg-type]
        params,
        vectors,
        retain_graph=True,
        allow_unused=True,
        is_grads_batched=True,
    )
    return tuple(
        torch.zeros_like(param).expand(len(vectors[0]), *param.shape) if v is None else v
        for v, param in zip(products, params, strict=True)
    )


def _counts(samples: int) -> Iterable[int]:
    """Split a number of samples into chunks."""
    return [min(_CHUNK, samples - start) for start in range(0, samples, _CHUNK)]
