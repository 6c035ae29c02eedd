"""Normalisation: layer, group, RMS and batch norm; instance norm is batch norm of a reshaped input.

    y_k = γ_k x̂_k + β_k,    x̂ = (x − μ)/σ,    σ² = (1/n) Σ_k (x_k − μ)² + ε

over the n entries of a group, whose statistics are part of the operation: they are differentiated
through, batch norm's in training included. Every rule is the definition in closed form, so exact
if the Hessian at the output is diagonal, and linear in the number of entries.

Index legend: ``j`` input and ``k`` output entries of one group; γ and β are shared by groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from hesrl.curvature.registry import Local, register_rule
from hesrl.curvature.rules.reduce import reduced_dims

Dims: TypeAlias = "tuple[int, ...]"
Normalise: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Outputs: TypeAlias = "tuple[Tensor | None, ...]"
Hessians: TypeAlias = "tuple[Tensor | None, ...]"


def _normalise(
    x_hat: Tensor, rstd: Tensor, dims: Dims, centred: bool, grad_out: Tensor, hess_out: Tensor
) -> Tensor:
    """``x̂ = (x − μ)/σ``, with ∂x̂_k/∂x_j = (δ_kj − u_kj)/σ and u_kj = (1 + x̂_k x̂_j)/n.

    Σ_k J_kj² h_k = [ (1 − 2u_jj) h_j + Σ_k u_kj² h_k ] / σ²
    Σ_k g_k ∂²x̂_k/∂x_j² = −[ 2 x̂_j (g_j − Σ_k u_kj g_k) + (1 − u_jj) Σ_k x̂_k g_k ] / (n σ²)

    Without μ (RMS norm) the 1 in u is missing.

    Args:
        x_hat: Normalised entries.
        rstd: 1/σ of each group, with size 1 along ``dims``.
        dims: Dimensions that a group extends over.
        centred: Whether the mean was subtracted.
        grad_out: Gradient at x̂.
        hess_out: Curvature at x̂.
    """
    n = math.prod(x_hat.shape[dim] for dim in dims)
    square = x_hat * x_hat
    grad_along = (grad_out * x_hat).sum(dims, keepdim=True)
    grad_through = grad_along * x_hat
    hess_through = (hess_out * square).sum(dims, keepdim=True) * square
    u = square
    if centred:
        u = u + 1
        grad_through = grad_through + grad_out.sum(dims, keepdim=True)
        hess_along = (hess_out * x_hat).sum(dims, keepdim=True)
        hess_through = hess_through + 2 * hess_along * x_hat + hess_out.sum(dims, keepdim=True)
    u = u / n
    jacobian = (1 - 2 * u) * hess_out + hess_through / n**2
    second = 2 * x_hat * (grad_out - grad_through / n) + (1 - u) * grad_along
    return rstd * rstd * (jacobian - second / n)


def _affine(
    node: Any,
    x_hat: Tensor,
    weight: Tensor | None,
    grad_out: Tensor,
    hess_out: Tensor,
    shared: Dims,
    normalise: Normalise,
) -> Hessians:
    """``y = γ x̂ + β``: ``g(x̂) = γ g``, ``h(x̂) = γ² h``, ``h(γ) = Σ x̂² h``, ``h(β) = Σ h``.

    Args:
        node: The node, with inputs x, γ and perhaps β.
        x_hat: Normalised entries.
        weight: γ, of a shape that broadcasts to that of x̂; None for 1.
        grad_out: Gradient at y.
        hess_out: Curvature at y.
        shared: Dimensions along which γ and β are shared.
        normalise: Gives h(x), given g(x̂) and h(x̂).

    Returns:
        The curvature of each input; those of γ and β are without the shared dimensions.
    """
    to_x, to_weight, *to_bias = (source is not None for source, _ in node.next_functions)
    hess_x = hess_weight = None
    if to_x and weight is not None:
        hess_x = normalise(weight * grad_out, weight * weight * hess_out)
    elif to_x:
        hess_x = normalise(grad_out, hess_out)
    if to_weight:
        hess_weight = _sum(x_hat * x_hat * hess_out, shared)
    return hess_x, hess_weight, *(_sum(hess_out, shared) if used else None for used in to_bias)


def _sum(x: Tensor, dims: Dims) -> Tensor:
    return x.sum(dims) if dims else x


@register_rule("NativeLayerNormBackward0")
def layer_norm(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """A group is the last dimensions; each of its entries has a γ and β of its own."""
    mean, rstd = node._saved_result1, node._saved_result2
    x_hat = (node._saved_input - mean) * rstd
    return _over_last_dimensions(node, x_hat, rstd, grad_out, hess_out, centred=True)


@register_rule("FusedRmsNormBackward0")
def rms_norm(node: Any, grads: Outputs, hessians: Outputs) -> Hessians:
    """The same without μ and β, on devices that run it as one operation."""
    grad_out, hess_out = _of_first_output(node, grads, hessians)
    rstd = node._saved_result1
    x_hat = node._saved_input * rstd
    return _over_last_dimensions(node, x_hat, rstd, grad_out, hess_out, centred=False)


def _mean_square(rsqrt: Any) -> tuple[Any, Any] | None:
    """Return the nodes of the mean and the square if a node is ``rsqrt(mean(x²) + ε)``.

    The mean keeps its dimensions, of size 1, and ε is a constant.
    """
    mean = rsqrt.next_functions[0][0]
    if mean.name() in ("AddBackward0", "AddBackward1"):
        mean, *epsilon = (source for source, _ in mean.next_functions)
        if any(source is not None for source in epsilon):
            return None
    if mean is None or mean.name() != "MeanBackward1" or not mean._saved_keepdim:
        return None
    square = mean.next_functions[0][0]
    is_square = square.name() == "PowBackward0" and square._saved_exponent == 2
    return (mean, square) if is_square else None


def mean_square_dims(rsqrt: Any) -> Dims | None:
    """Return the dimensions of the mean if a node is ``rsqrt(mean(x²) + ε)``, else None."""
    found = _mean_square(rsqrt)
    if found is None:
        return None
    mean, square = found
    return tuple(reduced_dims(mean._saved_dim, len(square._input_metadata[0].shape)))


def _rms_norm_by_rsqrt(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """``x · rsqrt(mean(x²) + ε)``, or swapped, at the product; the other nodes are left out."""
    factors = node._saved_self, node._saved_other
    (first, _), second = node.next_functions
    found = _mean_square(first) if first.name() == "RsqrtBackward0" else None
    is_swapped = found is not None and found[1].next_functions[0] == second
    rstd, x = factors if is_swapped else factors[::-1]
    dims = mean_square_dims(first if is_swapped else second[0])
    assert dims is not None
    hess = _normalise(x * rstd, rstd, dims, False, grad_out, hess_out)
    return (None, hess) if is_swapped else (hess, None)


RMS_NORM_BY_RSQRT = Local(_rms_norm_by_rsqrt, linear=False)


def _over_last_dimensions(
    node: Any, x_hat: Tensor, rstd: Tensor, grad_out: Tensor, hess_out: Tensor, centred: bool
) -> Hessians:
    grouped = len(node._saved_normalized_shape)
    dims, shared = tuple(range(-grouped, 0)), tuple(range(x_hat.dim() - grouped))
    normalise = partial(_normalise, x_hat, rstd, dims, centred)
    return _affine(node, x_hat, node._saved_weight, grad_out, hess_out, shared, normalise)


@register_rule("NativeGroupNormBackward0")
def group_norm(node: Any, grads: Outputs, hessians: Outputs) -> Hessians:
    """A group is some channels of a sample at all positions: (N, C, …) as (N, G, C/G, S)."""
    shape = node._saved_N, node._saved_group, -1, node._saved_HxW
    grad_out, hess_out = (t.reshape(shape) for t in _of_first_output(node, grads, hessians))
    mean, rstd = (t[:, :, None, None] for t in (node._saved_result1, node._saved_result2))
    x, weight = node._saved_input, node._saved_weight
    x_hat = (x.reshape(shape) - mean) * rstd
    if weight is not None:
        weight = weight.view(1, shape[1], -1, 1)
    normalise = partial(_normalise, x_hat, rstd, (2, 3), True)
    hess_x, *hess = _affine(node, x_hat, weight, grad_out, hess_out, (0, 3), normalise)
    return (
        hess_x.reshape(x.shape) if hess_x is not None else None,
        *(h.flatten() if h is not None else None for h in hess),
    )


@register_rule("NativeBatchNormBackward0")
def batch_norm(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """A group is one channel of all samples at all positions."""
    return _batch_norm(node, grad_out, hess_out, node._saved_eps)


@register_rule("CudnnBatchNormBackward0")
def cudnn_batch_norm(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """The same, as cuDNN runs it."""
    return _batch_norm(node, grad_out, hess_out, node._saved_epsilon)


def _batch_norm(node: Any, grad_out: Tensor, hess_out: Tensor, eps: float) -> Hessians:
    """In evaluation the statistics are constants: ``h(x) = h(x̂)/σ²``."""
    x, weight, training = node._saved_input, node._saved_weight, node._saved_training
    if training:
        mean, rstd = node._saved_result1, node._saved_result2
    else:
        mean, rstd = node._saved_running_mean, (node._saved_running_var + eps).rsqrt()
    others = (0, *range(2, x.dim()))
    of_channel = (-1, *[1] * (x.dim() - 2))
    mean, rstd = mean.view(of_channel), rstd.view(of_channel)
    x_hat = (x - mean) * rstd
    if weight is not None:
        weight = weight.view(of_channel)
    normalise = (
        partial(_normalise, x_hat, rstd, others, True) if training else partial(_scale, rstd)
    )
    return _affine(node, x_hat, weight, grad_out, hess_out, others, normalise)


def _scale(rstd: Tensor, grad_out: Tensor, hess_out: Tensor) -> Tensor:
    return rstd * rstd * hess_out


def _of_first_output(node: Any, grads: Outputs, hessians: Outputs) -> tuple[Tensor, Tensor]:
    """Return gradient and curvature at y; the statistics are outputs that no module uses.

    Raises:
        NotImplementedError: The loss depends on the statistics otherwise than through y.
    """
    (grad, *grads_beside), (hess, *hessians_beside) = grads, hessians
    if any(t is not None for t in (*grads_beside, *hessians_beside)):
        raise NotImplementedError(
            f"{node.name()} has a curvature rule for its first output only, and the loss also "
            "depends on the statistics that it returns"
        )
    if grad is None:
        assert hess is not None
        grad = torch.zeros_like(hess)
    return grad, torch.zeros_like(grad) if hess is None else hess
