"""The Hessian of the loss with respect to each linear layer's output, one matrix per sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def preactivation_hessians(model: nn.Module, loss_fn: Callable[[], Tensor]) -> dict[str, Tensor]:
    """Return ``H(z_n) = ∂²L/∂z_n∂z_nᵀ`` for the output z (N, O) of every `nn.Linear` of a model.

    Exact if the rows n do not interact: the loss is a sum over them, or a mean, and no layer mixes
    them as batch-norm does; otherwise the blocks of a row with all others are added up. Then, for
    ``z = W a + b``, it also gives the exact diagonal for the parameters, without one product for
    each of their entries:

        ∂²L/∂W_oi² = Σ_n H(z_n)_oo a_ni²,        ∂²L/∂b_o² = Σ_n H(z_n)_oo

    It takes O vector-Jacobian products for a layer, in one batch, whatever N is.

    Args:
        model: A network. Its parameters must require gradients.
        loss_fn: Runs the model once and returns the loss L, a scalar.

    Returns:
        The matrices (N, O, O) of each layer that ran, by the layer's name in the model, in loss
        per squared output.

    Raises:
        ValueError: A linear layer ran twice, or its output is no matrix or needs no gradient.
    """
    outputs: dict[str, Tensor] = {}

    def remember(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            if name in outputs:
                raise ValueError(f"the layer {name!r} ran twice: its outputs share parameters")
            if output.dim() != 2 or not output.requires_grad:
                raise ValueError(
                    f"the output of layer {name!r} must be a matrix (N, O) that requires a "
                    f"gradient, not of shape {tuple(output.shape)} with "
                    f"requires_grad={output.requires_grad}"
                )
            outputs[name] = output

        return hook

    linear = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)]
    handles = [module.register_forward_hook(remember(name)) for name, module in linear]
    try:
        with torch.enable_grad():
            loss = loss_fn()
    finally:
        for handle in handles:
            handle.remove()
    grads = torch.autograd.grad(
        loss, list(outputs.values()), create_graph=True, materialize_grads=True
    )
    return {
        name: _hessians(grad, output)
        for (name, output), grad in zip(outputs.items(), grads, strict=True)
    }


def _hessians(grad: Tensor, output: Tensor) -> Tensor:
    """Return ``∂g_no/∂z_nj`` (N, O, O) by the products of all rows with ``e_o`` at once."""
    rows, size = output.shape
    if not grad.requires_grad:
        return output.new_zeros(rows, size, size)
    basis = torch.eye(size, dtype=output.dtype, device=output.device)
    (products,) = torch.autograd.grad(
        grad,
        output,
        basis.unsqueeze(1).expand(size, rows, size),
        retain_graph=True,
        allow_unused=True,
        is_grads_batched=True,
    )
    if products is None:
        return output.new_zeros(rows, size, size)
    return products.detach().transpose(0, 1)
