"""Convolutions and transposed convolutions over one, two or three dimensions.

A convolution is a matrix product whose weight is used again at every position, and each entry of
the weight meets one entry of the input per output:

    z_k = Σ_j w_j x_{kj} + b:    h(x) = W∘W convolved with h(z), as W is with g(z) in the gradient
                                 h(W)_j = Σ_k x_kj² h(z)_k,    h(b) = Σ_k h(z)_k

So ``h`` is the native backward pass of the convolution with squared weight and squared input.
Exact if the Hessian at ``z`` is diagonal; what is dropped for a shared weight are the Hessian's
entries between positions. Index legend: ``k`` outputs, ``j`` entries of the kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.rule_registry import register_rule

aten = torch.ops.aten


@register_rule("ConvolutionBackward0", linear=True, layer=True)
def convolution(node: Any, grad_out: Tensor, hess_out: Tensor) -> tuple[Tensor | None, ...]:
    """Every number of dimensions, stride, padding, dilation and number of groups."""
    to_x, to_weight, to_bias = (source is not None for source, _ in node.next_functions)
    x, weight = node._saved_input, node._saved_weight
    hess_in: tuple[Tensor | None, ...] = aten.convolution_backward(
        hess_out,
        x.square() if to_weight else x,
        weight.square() if to_x else weight,
        node._saved_bias_sym_sizes_opt,
        node._saved_stride,
        node._saved_padding,
        node._saved_dilation,
        node._saved_transposed,
        node._saved_output_padding,
        node._saved_groups,
        (to_x, to_weight, to_bias),
    )
    return hess_in


@register_rule("ConvTbcBackward0", linear=True, layer=True)
def convolution_time_first(
    node: Any, grad_out: Tensor, hess_out: Tensor
) -> tuple[Tensor | None, ...]:
    """A sequence (time, batch, channels) with a kernel (time, in, out)."""
    x, weight, bias = node._saved_self, node._saved_weight, node._saved_bias
    hess_in: tuple[Tensor | None, ...] = aten.conv_tbc_backward(
        hess_out, x.square(), weight.square(), bias, node._saved_pad
    )
    return hess_in
