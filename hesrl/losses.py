"""Losses of reinforcement learning with their exact Hessian diagonals in closed form.

Each loss comes twice. A function gives its value together with gradient and signed diagonal
``∂²L/∂x²`` at the network's outputs, for a training step that is written out. A module makes one
operation of the autograd graph of it. The same losses written with torch operations give the same
curvature, only slower.

Index legend: ``n`` samples (N), ``j`` action dimensions (K). Means are over the N samples.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hesrl.curvature import register_rule


class SurrogateTerms(NamedTuple):
    """PPO's surrogate with its derivatives at the policy's outputs."""

    loss: Tensor
    """L, a scalar."""
    logratio: Tensor
    """log r (N,)."""
    grad_mean: Tensor
    """∂L/∂μ (N, K)."""
    grad_log_std: Tensor
    """∂L/∂log σ, of the shape of log σ."""
    hess_mean: Tensor
    """∂²L/∂μ² (N, K)."""
    hess_log_std: Tensor
    """∂²L/∂(log σ)², of the shape of log σ."""


def gaussian_surrogate(
    mean: Tensor,
    log_std: Tensor,
    actions: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    clip_coef: float,
) -> SurrogateTerms:
    """PPO's clipped surrogate for a diagonal Gaussian policy (Schulman et al., 2017).

        L = −(1/N) Σ_n min(r_n A_n, clip(r_n, 1 − ε, 1 + ε) A_n),   r = π(x)/π_old(x)

    With u = (x − μ)²/σ² and the weight w = −A r / N, zero where clipped:

        ∂L/∂μ = w (x − μ)/σ²,      ∂²L/∂μ² = w (u − 1)/σ²
        ∂L/∂log σ = w (u − 1),     ∂²L/∂(log σ)² = w [(u − 1)² − 2u]

    Args:
        mean: μ (N, K), in the unit of the actions.
        log_std: log σ (N, K), or (K,) or (1, K) if all samples share it.
        actions: x (N, K).
        old_logprobs: log π_old(x) (N,).
        advantages: A (N,).
        clip_coef: ε, the largest change of the probability ratio that is rewarded.
    """
    inv_std = torch.exp(-log_std)
    z = (actions - mean) * inv_std
    u = z * z
    constant = 0.5 * math.log(2 * math.pi) * z.shape[-1]
    logratio = -(0.5 * u + log_std).sum(-1) - (old_logprobs + constant)
    ratio = logratio.exp()
    surrogate = ratio * advantages
    clipped = ratio.clamp(1 - clip_coef, 1 + clip_coef) * advantages
    loss = -torch.minimum(surrogate, clipped).mean()

    # Filled, not multiplied by zero: a clipped ratio may have overflowed.
    w = (surrogate.masked_fill(surrogate > clipped, 0) / -len(z)).unsqueeze(-1)
    w_u1 = w * (u - 1)
    return SurrogateTerms(
        loss,
        logratio,
        grad_mean=w * z * inv_std,
        grad_log_std=w_u1.sum_to_size(log_std.shape),
        hess_mean=w_u1 * (inv_std * inv_std),
        hess_log_std=(w_u1 * (u - 1) - 2 * w * u).sum_to_size(log_std.shape),
    )


class ValueTerms(NamedTuple):
    """The value loss with its derivatives at the critic's output."""

    loss: Tensor
    """L, a scalar."""
    grad: Tensor
    """∂L/∂V (N,)."""
    hess: Tensor
    """∂²L/∂V² (N,)."""


def value_loss(
    values: Tensor, returns: Tensor, old_values: Tensor, clip_coef: float | None
) -> ValueTerms:
    """Half the mean squared error of values, optionally clipped as in PPO.

        L = (1/2N) Σ_n max[(V_n − R_n)², (V_old,n + clip(V_n − V_old,n, −ε, ε) − R_n)²]

    Where the larger error moves with V, ∂L/∂V = (V − R)/N and ∂²L/∂V² = 1/N; elsewhere both
    are zero.

    Args:
        values: V (N,).
        returns: R (N,).
        old_values: V_old (N,), before the update; unused without clipping.
        clip_coef: ε, in the unit of the values; None for the plain error ``(V − R)²``.
    """
    error = values - returns
    square = error * error
    if clip_coef is None:
        moves = torch.ones_like(error)
    else:
        # Written so that within the clip it is the plain error to the last bit.
        change = values - old_values
        clipped = error + (change.clamp(-clip_coef, clip_coef) - change)
        clipped_square = clipped * clipped
        moves = (square >= clipped_square).to(error.dtype)
        square = torch.maximum(square, clipped_square)
    hess = moves / len(error)
    return ValueTerms(0.5 * square.mean(), grad=hess * error, hess=hess)


def _require_positive(clip_coef: float) -> None:
    if not clip_coef > 0:
        raise ValueError(f"clip_coef must be above 0, not {clip_coef!r}")


def _require_constant(name: str, value: Tensor, of: str, shape: torch.Size) -> None:
    """Refuse a constant of a loss that broadcasts, or whose gradient would be lost."""
    if value.shape != shape:
        raise ValueError(
            f"{name} must have shape {tuple(shape)} to go with {of}, not {tuple(value.shape)}"
        )
    if value.requires_grad:
        raise ValueError(
            f"{name} of shape {tuple(shape)} requires a gradient, but the loss takes it as a "
            "constant: detach it or compute it under torch.no_grad()"
        )


def _curvature(grad: Tensor, hess: Tensor, grad_out: Tensor, hess_out: Tensor | None) -> Tensor:
    """Return ``h(x) = g(L) ∂²L/∂x² + (∂L/∂x)² h(L)`` at one input of a scalar loss."""
    return grad_out * hess if hess_out is None else grad_out * hess + grad * grad * hess_out


class _GaussianSurrogate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        terms = gaussian_surrogate(*inputs)
        *tensors, ctx.clip_coef = inputs
        ctx.save_for_backward(*tensors, *terms[2:])
        ctx.mark_non_differentiable(terms.logratio)
        return terms.loss, terms.logratio

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, _: Any) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        grad_mean, grad_log_std = saved[5:7]
        if torch.is_grad_enabled():  # create_graph: the gradient is differentiated in turn
            inputs = *saved[:5], ctx.clip_coef
            terms = gaussian_surrogate(*inputs)
            grad_mean, grad_log_std = terms.grad_mean, terms.grad_log_std
        return grad_loss * grad_mean, grad_loss * grad_log_std, None, None, None, None


@register_rule(_GaussianSurrogate)
def _gaussian_surrogate_rule(node: Any, grad_out: Any, hess_out: Any) -> tuple[Any, ...]:
    grad_mean, grad_log_std, hess_mean, hess_log_std = node.saved_tensors[-4:]
    hess_in_mean = _curvature(grad_mean, hess_mean, grad_out[0], hess_out[0])
    hess_in_log_std = _curvature(grad_log_std, hess_log_std, grad_out[0], hess_out[0])
    return hess_in_mean, hess_in_log_std, None, None, None


class GaussianSurrogateLoss(nn.Module):
    """`gaussian_surrogate` as one operation of the autograd graph.

    Args:
        clip_coef: ε, the largest change of the probability ratio that is rewarded.

    Raises:
        ValueError: ``clip_coef`` is not above 0.
    """

    def __init__(self, clip_coef: float) -> None:
        super().__init__()
        _require_positive(clip_coef)
        self.clip_coef = clip_coef

    def forward(
        self,
        mean: Tensor,
        log_std: Tensor,
        actions: Tensor,
        old_logprobs: Tensor,
        advantages: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the loss, a scalar, and without gradient the log-ratio (N,).

        The arguments are those of `gaussian_surrogate`; only ``mean`` and ``log_std`` take a
        gradient.

        Raises:
            ValueError: Shapes do not go together, or a constant requires a gradient.
        """
        if mean.dim() != 2:
            raise ValueError(f"mean must have shape (N, K), not {tuple(mean.shape)}")
        n, k = mean.shape
        if log_std.shape not in ((n, k), (1, k), (k,)):
            raise ValueError(
                f"log_std must have shape {(n, k)}, {(1, k)} or {(k,)} to go with mean, "
                f"not {tuple(log_std.shape)}"
            )
        _require_constant("actions", actions, "mean", mean.shape)
        _require_constant("old_logprobs", old_logprobs, "mean", mean.shape[:1])
        _require_constant("advantages", advantages, "mean", mean.shape[:1])
        result: tuple[Tensor, Tensor] = _GaussianSurrogate.apply(
            mean, log_std, actions, old_logprobs, advantages, self.clip_coef
        )
        return result


class _ValueLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        terms = value_loss(*inputs)
        *tensors, ctx.clip_coef = inputs
        ctx.save_for_backward(*tensors, terms.grad, terms.hess)
        return terms.loss

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        grad = saved[3]
        if torch.is_grad_enabled():  # create_graph: the gradient is differentiated in turn
            inputs = *saved[:3], ctx.clip_coef
            grad = value_loss(*inputs).grad
        return grad_loss * grad, None, None, None


@register_rule(_ValueLoss)
def _value_loss_rule(node: Any, grad_out: Tensor, hess_out: Tensor) -> tuple[Any, ...]:
    *_, grad, hess = node.saved_tensors
    return _curvature(grad, hess, grad_out, hess_out), None, None


class ValueLoss(nn.Module):
    """`value_loss` as one operation of the autograd graph.

    Args:
        clip_coef: ε, in the unit of the values; None for the plain error ``(V − R)²``.

    Raises:
        ValueError: ``clip_coef`` is not above 0.
    """

    def __init__(self, clip_coef: float | None = None) -> None:
        super().__init__()
        if clip_coef is not None:
            _require_positive(clip_coef)
        self.clip_coef = clip_coef

    def forward(self, values: Tensor, returns: Tensor, old_values: Tensor) -> Tensor:
        """Return the loss, a scalar; the arguments are those of `value_loss`.

        Raises:
            ValueError: Shapes do not go together, or a constant requires a gradient.
        """
        if values.dim() != 1:
            raise ValueError(f"values must have shape (N,), not {tuple(values.shape)}")
        _require_constant("returns", returns, "values", values.shape)
        _require_constant("old_values", old_values, "values", values.shape)
        loss: Tensor = _ValueLoss.apply(values, returns, old_values, self.clip_coef)
        return loss
