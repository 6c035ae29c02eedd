"""Fused attention has the curvature of the products and the softmax that it stands for."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from hesrl.curvature import arm
from tests.curvature.seeding import grad_and_hess, node_names

FUSED = "ScaledDotProductFlashAttentionForCpuBackward0"
FUSE = SDPBackend.FLASH_ATTENTION
sizes = st.integers(1, 4)


def curvatures(values, wanted, fused, **options):
    """``hess_diag`` of the wanted ones of query, key and value, and the names of the nodes."""
    inputs = [x.clone().requires_grad_(n in wanted) for n, x in enumerate(values)]
    arm(inputs[n] for n in wanted)
    with sdpa_kernel(FUSE if fused else SDPBackend.MATH):
        output = F.scaled_dot_product_attention(*inputs, **options)
    names = node_names(output)
    assert (FUSED in names) == fused
    torch.manual_seed(0)
    grad_and_hess(output)
    return [inputs[n].hess_diag for n in wanted]


def check(values, wanted=(0, 1, 2), **options):
    fused = curvatures(values, wanted, fused=True, **options)
    separate = curvatures(values, wanted, fused=False, **options)
    for ours, expected in zip(fused, separate, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


def draw(heads, queries, keys, features, groups):
    torch.manual_seed(1)
    shapes = (heads, queries), (groups, keys), (groups, keys)
    return [torch.randn(2, *shape, features, dtype=torch.float64) for shape in shapes]


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(
    groups=sizes,
    shared=st.integers(1, 3),
    queries=sizes,
    keys=sizes,
    features=sizes,
    scale=st.sampled_from([None, 0.7, 1.3]),
    causal=st.booleans(),
)
def test_the_fused_kernel_is_the_operations(groups, shared, queries, keys, features, scale, causal):
    values = draw(groups * shared, queries, keys, features, groups)
    check(values, is_causal=causal, scale=scale, enable_gqa=shared > 1)


@pytest.mark.parametrize("shape", [(3, 5), (2, 1, 1, 5), (2, 4, 3, 5)])
@pytest.mark.parametrize("boolean", [True, False])
def test_a_constant_mask(shape, boolean):
    """With some queries that attend to nothing, where the mask is one of permissions."""
    torch.manual_seed(2)
    mask = torch.randn(shape, dtype=torch.float64)
    check(draw(4, 3, 5, 2, 2), attn_mask=mask > 0.8 if boolean else mask, enable_gqa=True)


@pytest.mark.parametrize("count", [1, 2])
def test_any_set_of_inputs(count):
    for wanted in itertools.combinations(range(3), count):
        check(draw(2, 3, 4, 2, 2), wanted)


def test_dropout_takes_the_separate_operations():
    inputs = [x.requires_grad_() for x in draw(2, 3, 4, 2, 2)]
    arm(inputs)
    torch.manual_seed(3)
    output = F.scaled_dot_product_attention(*inputs, dropout_p=0.5)
    assert FUSED not in node_names(output)
    grad_and_hess(output)
    assert all(x.hess_diag.abs().sum() > 0 for x in inputs)


def run_encoder(layer, x, y):
    return layer(x)


def run_weighted(attention, x, y):
    """Attention that also returns its weights cannot be fused."""
    return attention(x, y, y)[0]


def run_fused(attention, x, y):
    return attention(x, y, y, need_weights=False)[0]


MODELS = {
    "encoder": (lambda: nn.TransformerEncoderLayer(4, 2, 6, 0.0), run_encoder),
    "encoder norm first": (
        lambda: nn.TransformerEncoderLayer(4, 2, 6, 0.0, activation="gelu", norm_first=True),
        run_encoder,
    ),
    "decoder": (lambda: nn.TransformerDecoderLayer(4, 2, 6, 0.0), nn.Module.__call__),
    "transformer": (
        lambda: nn.Transformer(4, 2, 1, 1, 6, 0.0, batch_first=True),
        nn.Module.__call__,
    ),
    "attention": (lambda: nn.MultiheadAttention(4, 2), run_fused),
    "attention with added keys": (
        lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True, add_zero_attn=True),
        run_fused,
    ),
}


def curvature_of_model(name, backend, run=None, method="hesscale"):
    torch.manual_seed(4)
    build, run_default = MODELS[name]
    model = build().double()
    x, y = torch.randn(2, 3, 2, 4, dtype=torch.float64)
    arm(model.parameters(), method)
    with sdpa_kernel(backend):
        output = (run or run_default)(model, x, y)
    assert (FUSED in node_names(output)) == (backend == FUSE and run is None)
    grad_and_hess(output)
    return {name: p.hess_diag for name, p in model.named_parameters()}


@pytest.mark.parametrize("method", ["hesscale", "hesscale_gn"])
@pytest.mark.parametrize("name", MODELS)
def test_the_modules_have_one_curvature_whatever_the_kernel(name, method):
    """The output of attention feeds a layer, so both methods see the same operations."""
    fused = curvature_of_model(name, FUSE, method=method)
    separate = curvature_of_model(name, SDPBackend.MATH, method=method)
    torch.testing.assert_close(fused, separate, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["attention", "attention with added keys"])
def test_attention_that_returns_its_weights(name):
    fused, weighted = (curvature_of_model(name, FUSE, run) for run in (None, run_weighted))
    torch.testing.assert_close(fused, weighted, rtol=1e-10, atol=1e-12)
