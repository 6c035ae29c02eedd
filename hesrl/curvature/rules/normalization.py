"""Normalisation: layer, group, RMS and batch norm; instance norm is batch norm of a reshaped input.

    y_k = γ_k x̂_k + β_k,    x̂ = (x − μ)/σ,    σ² = (1/n) Σ_k (x_k − μ)² + ε

over the n entries of a group, whose statistics are part of the operation: they are differentiated
through, batch norm's in training included. Every rule is the definition in closed form, so exact
if the Hessian at the output is diagonal, and linear in the number of entries.

Index legend: ``j`` input and ``k`` output entries of one group; γ and β are shared by groups.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import register_rule

Sums: TypeAlias = "list[Tensor]"
Outputs: TypeAlias = "tuple[Tensor | None, ...]"
Hessians: TypeAlias = "tuple[Tensor | None, ...]"


def hess_of_input(
    x_hat: Tensor,
    hess_x_hat: Tensor,
    grad_out: Tensor,
    hess_out: Tensor,
    weight: Tensor,
    rstd: Tensor,
    n: int,
    centred: bool,
    sums: Sums,
) -> Tensor:
    """``y = γ x̂``, ``x̂ = (x − μ)/σ``: ∂x̂_k/∂x_j = (δ_kj − u_kj)/σ and u_kj = (1 + x̂_k x̂_j)/n.

    With ``g = γ g(y)`` and ``h = γ² h(y)``, those at x̂, the definition is

    Σ_k J_kj² h_k = [ (1 − 2u_jj) h_j + Σ_k u_kj² h_k ] / σ²
    Σ_k g_k ∂²x̂_k/∂x_j² = −[ 2 x̂_j (g_j − Σ_k u_kj g_k) + (1 − u_jj) Σ_k x̂_k g_k ] / (n σ²)

    Without μ (RMS norm) the 1 in u is missing. By powers of x̂_j, and with c = 1 or 0 for that 1,

    σ² h(x)_j = (1 − 2c/n) h_j − (2/n) x̂_j (x̂_j h_j + g_j) + x̂_j² Σ_k (x̂² h + 3 x̂ g)_k / n²
                + 2c x̂_j Σ_k (x̂ h + g)_k / n² + c Σ_k (h + x̂ g)_k / n² − Σ_k (x̂ g)_k / n

    Args:
        x_hat: Normalised entries.
        hess_x_hat: ``x̂ h(y)``, which is overwritten.
        grad_out: Gradient at y.
        hess_out: Curvature at y.
        weight: γ, of a shape that broadcasts.
        rstd: 1/σ, of a shape that broadcasts.
        n: Entries of a group.
        centred: Whether the mean was subtracted.
        sums: Σ h, Σ x̂ h, Σ x̂² h, Σ g and Σ x̂ g over the group of each entry.
    """
    sum_h, sum_xh, sum_xxh, sum_g, sum_xg = sums
    slope = weight * (-2 / n)
    hess = hess_x_hat.mul_(slope * weight).addcmul_(grad_out, slope)
    hess.addcmul_(x_hat, (sum_xxh + 3 * sum_xg) / n**2)
    constant = -sum_xg / n
    if centred:
        hess.add_((sum_xh + sum_g) * (2 / n**2))
        constant += (sum_h + sum_xg) / n**2
    hess.mul_(x_hat)
    hess.addcmul_(hess_out, weight * weight * (1 - 2 * centred / n)).add_(constant)
    return hess.mul_(rstd * rstd)


def _over_rows(
    x_hat: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    centred: bool,
    grad_out: Tensor,
    hess_out: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return h(x) and, by rows still, h(γ) where every row is a group, and γ one row of weights.

    Args:
        x_hat: Normalised entries (rows, n).
        rstd: 1/σ (rows, 1).
        weight: γ (n), None for 1.
        centred: Whether the mean was subtracted.
        grad_out: Gradient at y (rows, n).
        hess_out: Curvature at y (rows, n).
    """
    n = x_hat.shape[1]
    weight = x_hat.new_ones(n) if weight is None else weight
    by_x = hess_out * x_hat
    by_square, square = by_x * x_hat, weight * weight
    sums = [(v @ square).unsqueeze(1) for v in (hess_out, by_x, by_square)]
    sums += [(v @ weight).unsqueeze(1) for v in (grad_out, grad_out * x_hat)]
    hess_x = hess_of_input(x_hat, by_x, grad_out, hess_out, weight, rstd, n, centred, sums)
    return hess_x, by_square


def _over_last_dimensions(
    node: Any, x_hat: Tensor, rstd: Tensor, centred: bool, grad_out: Tensor, hess_out: Tensor
) -> Hessians:
    """A group is the last dimensions; each of its entries has a γ and perhaps a β of its own."""
    shape = node._saved_normalized_shape
    x_shape, weight = x_hat.shape, node._saved_weight
    n = x_hat[(0,) * (x_hat.dim() - len(shape))].numel() if x_hat.numel() else 1
    # In low precision the statistics and γ may have more digits than x.
    dtype = x_hat.dtype
    x_hat, grad_out, hess_out = (t.reshape(-1, n).to(dtype) for t in (x_hat, grad_out, hess_out))
    flat_weight = weight.flatten().to(dtype) if weight is not None else None
    rstd = rstd.reshape(-1, 1)
    hess_x, by_row = _over_rows(x_hat, rstd, flat_weight, centred, grad_out, hess_out)
    _, to_weight, *to_bias = (source is not None for source, _ in node.next_functions)
    return (
        hess_x.view(x_shape),
        by_row.sum(0).view(shape) if to_weight else None,
        *(hess_out.sum(0).view(shape) if used else None for used in to_bias),
    )


@register_rule("NativeLayerNormBackward0")
def layer_norm(node: Any, grad_out: Tensor, hess_out: Tensor) -> Hessians:
    """Layer norm: a group has a mean and a variance."""
    rstd = node._saved_result2
    x_hat = (node._saved_input - node._saved_result1).mul_(rstd)
    return _over_last_dimensions(node, x_hat, rstd, True, grad_out, hess_out)


@register_rule("FusedRmsNormBackward0")
def rms_norm(node: Any, grads: Outputs, hessians: Outputs) -> Hessians:
    """The same without μ and β, on devices that run it as one operation."""
    grad_out, hess_out = _of_first_output(node, grads, hessians)
    rstd = node._saved_result1
    return _over_last_dimensions(node, node._saved_input * rstd, rstd, False, grad_out, hess_out)


def _over_positions(
    node: Any,
    x_hat: Tensor,
    rstd: Tensor,
    of_group: Callable[[Tensor], Tensor] | None,
    n: int,
    grad_out: Tensor,
    hess_out: Tensor,
) -> Hessians:
    """Batch and group norm, where a channel has one γ, one β and, in a sample, one 1/σ.

    Args:
        node: The node.
        x_hat: Normalised entries (N, C, S).
        rstd: 1/σ (N or 1, C, 1).
        of_group: Adds up sums over channels, of the shape of rstd, within a group, and gives each
            channel the sum of its group; None if the statistics are constants.
        n: Entries of a group.
        grad_out: Gradient at y, of the shape of x.
        hess_out: Curvature at y, of the shape of x.
    """
    x_shape, shape, weight = hess_out.shape, x_hat.shape, node._saved_weight
    to_x, to_weight, *to_bias = (source is not None for source, _ in node.next_functions)
    grad_out, hess_out = grad_out.reshape(shape), hess_out.reshape(shape)
    weight = x_hat.new_ones(1) if weight is None else weight
    weight = weight.view(1, -1, 1)
    dims = (2,) if len(rstd) == shape[0] and len(rstd) > 1 else (0, 2)

    def total(v: Tensor) -> Tensor:
        return v.sum(dims, keepdim=True)

    by_x = hess_out * x_hat
    buffer = by_x * x_hat
    sum_h, sum_xxh = total(hess_out), total(buffer)
    hess_weight = sum_xxh.sum((0, 2)) if to_weight else None
    hess_bias = [sum_h.sum((0, 2)) if used else None for used in to_bias]
    if not to_x:
        return None, hess_weight, *hess_bias
    if of_group is None:
        hess_x = hess_out * (weight * rstd).square()
    else:
        by_grad = total(torch.mul(grad_out, x_hat, out=buffer))
        sums = [of_group(weight * weight * v) for v in (sum_h, total(by_x), sum_xxh)]
        sums += [of_group(weight * v) for v in (total(grad_out), by_grad)]
        hess_x = hess_of_input(x_hat, by_x, grad_out, hess_out, weight, rstd, n, True, sums)
    return hess_x.reshape(x_shape), hess_weight, *hess_bias


@register_rule("NativeGroupNormBackward0")
def group_norm(node: Any, grads: Outputs, hessians: Outputs) -> Hessians:
    """A group is some channels of a sample at all positions."""
    grad_out, hess_out = _of_first_output(node, grads, hessians)
    samples, groups, channels = node._saved_N, node._saved_group, node._saved_C

    def of_channels(v: Tensor) -> Tensor:
        """Give every channel the value of its group."""
        return v[:, :, None].expand(-1, -1, channels // groups).reshape(samples, channels, 1)

    def of_group(v: Tensor) -> Tensor:
        return of_channels(v.reshape(samples, groups, -1).sum(2))

    mean, rstd = of_channels(node._saved_result1), of_channels(node._saved_result2)
    x = node._saved_input.reshape(samples, channels, -1)
    n = channels // groups * node._saved_HxW
    return _over_positions(node, (x - mean).mul_(rstd), rstd, of_group, n, grad_out, hess_out)


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
    x, training = node._saved_input, node._saved_training
    if training:
        mean, rstd = node._saved_result1, node._saved_result2
    else:
        mean, rstd = node._saved_running_mean, (node._saved_running_var + eps).rsqrt()
    mean, rstd = mean.view(1, -1, 1), rstd.view(1, -1, 1)
    x = x.reshape(*x.shape[:2], -1)
    n = x.shape[0] * x.shape[2]
    x_hat = (x - mean).mul_(rstd)
    of_group = (lambda v: v) if training else None
    return _over_positions(node, x_hat, rstd, of_group, n, grad_out, hess_out)


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
