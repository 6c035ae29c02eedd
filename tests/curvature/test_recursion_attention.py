"""Transformers follow HesScale's recursion over the products and softmax of their attention."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.curvature.comparison import Params, assert_recursion, normal, spread
from tests.curvature.recursion import Recursion
from tests.curvature.seeding import node_names

FUSED = "ScaledDotProductFlashAttentionForCpuBackward0"
HEADS, LAYERS = 2, 2
ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu}


class Classifier(nn.Module):
    """An encoder of 4 features, and a linear layer on the mean of its tokens."""

    def __init__(self, activation: str, norm_first: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            4, HEADS, 5, 0.0, activation, batch_first=True, norm_first=norm_first
        )
        norm = nn.LayerNorm(4) if norm_first else None
        self.encoder = nn.TransformerEncoder(layer, LAYERS, norm, enable_nested_tensor=False)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return self.head(self.encoder(x, mask).mean(1))


def split_heads(qkv: Tensor) -> tuple[Tensor, ...]:
    """(N, T, 3E) to query, key and value, each (N, H, T, E/H)."""
    return qkv.unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4).unbind()


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(2, 3) / math.sqrt(q.shape[3])


def softmax(s: Tensor) -> Tensor:
    return s.softmax(3)


def join_heads(z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return z.transpose(1, 2).flatten(2) @ weight.T + bias


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    x = x - x.mean(2, keepdim=True)
    return weight * x / (x.square().mean(2, keepdim=True) + 1e-5).sqrt() + bias


def encoder(
    step: Recursion, p: Params, x: Tensor, mask: Tensor | None, activation: str, norm_first: bool
) -> Tensor:
    def with_params(function, y: Tensor, name: str, separator: str = ".") -> Tensor:
        return step(function, y, p[f"{name}{separator}weight"], p[f"{name}{separator}bias"])

    def attend(y: Tensor, name: str) -> Tensor:
        q, k, v = step(split_heads, with_params(F.linear, y, f"{name}.in_proj", "_"))
        s = step(scores, q, k)
        z = step(torch.matmul, step(softmax, s if mask is None else step(mask.add, s)), v)
        return with_params(join_heads, z, f"{name}.out_proj")

    def feed_forward(y: Tensor, name: str) -> Tensor:
        y = step(ACTIVATIONS[activation], with_params(F.linear, y, f"{name}.linear1"))
        return with_params(F.linear, y, f"{name}.linear2")

    for number in range(LAYERS):
        name = f"encoder.layers.{number}"
        for sublayer, part, norm in (
            (attend, f"{name}.self_attn", f"{name}.norm1"),
            (feed_forward, name, f"{name}.norm2"),
        ):
            if norm_first:
                x = step(torch.add, x, sublayer(with_params(layer_norm, x, norm), part))
            else:
                x = with_params(layer_norm, step(torch.add, x, sublayer(x, part)), norm)
    return with_params(layer_norm, x, "encoder.norm") if norm_first else x


@pytest.mark.parametrize("backend", [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("activation", "norm_first"), [("relu", False), ("gelu", True)])
def test_transformer_encoder(backend, masked, activation, norm_first):
    torch.manual_seed(0)
    net = spread(Classifier(activation, norm_first)).double()
    x, target = normal(2, 3, 4), torch.tensor([2, 0])
    mask = nn.Transformer.generate_square_subsequent_mask(3).double() if masked else None

    def loss(y: Tensor) -> Tensor:
        return F.cross_entropy(y, target, label_smoothing=0.1)

    def operations(step: Recursion, p: Params) -> Tensor:
        y = step(lambda y: y.mean(1), encoder(step, p, x, mask, activation, norm_first))
        return step(loss, step(F.linear, y, p["head.weight"], p["head.bias"]))

    with sdpa_kernel(backend):
        assert (FUSED in node_names(net(x, mask))) == (backend == SDPBackend.FLASH_ATTENTION)
        actual = assert_recursion(net, lambda net: loss(net(x, mask)), operations)
    assert min(hess.min() for hess in actual.values()) < 0
