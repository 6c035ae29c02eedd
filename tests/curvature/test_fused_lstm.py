"""A fused LSTM layer has the curvature of the operations that it stands for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hesrl.curvature import arm
from hesrl.curvature.rules.recurrent import lstm_layer
from tests.curvature.rows.row import normal
from tests.curvature.seeding import grad_and_hess, node_names

FUSED = "MkldnnRnnLayerBackward0"
STEPS, N, FEATURES, HIDDEN = 5, 3, 2, 4

pytestmark = [
    pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN"),
    pytest.mark.filterwarnings("ignore:TF32 acceleration"),  # `flags` sets that as well
]


def node_of_layer(lstm, x, h, c, outputs, reverse):
    """What the node of the layer would save, in double precision, for which it has no kernel."""
    weights = dict(zip(("_saved_weight0", "_saved_weight1"), lstm.parameters(), strict=False))
    biases = {"_saved_weight2": lstm.bias_ih_l0, "_saved_weight3": lstm.bias_hh_l0}
    return SimpleNamespace(
        _saved_input=x,
        _saved_hx_=h[0],
        _saved_cx_=c[0],
        _saved_result0=outputs,
        _saved_reverse=reverse,
        _saved_has_biases=True,
        next_functions=((object(), 0),) * 7,
        **weights,
        **biases,
    )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("steps", [1, STEPS])
def test_the_rule_is_the_operations_one_by_one(steps, reverse):
    """In double precision the module runs without the fusion."""
    torch.manual_seed(0)
    lstm = nn.LSTM(FEATURES, HIDDEN).double()
    x, h, c = normal(steps, N, FEATURES), normal(1, N, HIDDEN), normal(1, N, HIDDEN)
    inputs = [x, *lstm.parameters(), h, c]
    arm(t.requires_grad_() for t in inputs)
    all_h, (last_h, last_c) = lstm(x.flip(0) if reverse else x, (h, c))
    outputs = [all_h.flip(0) if reverse else all_h, last_h[0], last_c[0]]
    sizes = [y.numel() for y in outputs]
    grads, hessians = (
        [t.view_as(y) for t, y in zip(flat.split(sizes), outputs, strict=True)]
        for flat in grad_and_hess(outputs)
    )
    with torch.no_grad():
        node = node_of_layer(lstm, x, h, c, outputs[0].detach(), reverse)
        actual = lstm_layer(node, grads, hessians)
    for t, hess in zip(inputs, actual, strict=True):
        torch.testing.assert_close(hess.view_as(t), t.hess_diag, rtol=1e-10, atol=1e-12)


def curvatures(fused, options, shape, states, of, method):
    torch.manual_seed(1)
    lstm = nn.LSTM(FEATURES, HIDDEN, **options)
    inputs = [torch.randn(shape), *(torch.randn(s) for s in states)]
    wanted = [*inputs, *lstm.parameters()]
    arm((t.requires_grad_() for t in wanted), method)
    with torch.backends.mkldnn.flags(enabled=fused):
        torch.manual_seed(2)
        x, *first = inputs
        outputs, last = lstm(x, tuple(first) or None)
        y = of(outputs, *last)
        torch.manual_seed(3)
        assert (FUSED in node_names(y)) == fused
        grad_and_hess(y)
    return [t.hess_diag for t in wanted]


def every_output(outputs, h, c):
    return [outputs, h, c]


CASES = {
    "plain": {},
    "two layers": {"num_layers": 2},
    "no bias": {"bias": False},
    "batch first": {"batch_first": True},
    "bidirectional": {"bidirectional": True, "num_layers": 2},
    "dropout": {"dropout": 0.4, "num_layers": 3},
}


@pytest.mark.parametrize("of", [every_output, lambda y, h, c: y, lambda y, h, c: c])
@pytest.mark.parametrize("name", CASES)
def test_the_module_has_one_curvature_with_and_without_the_fusion(name, of):
    options = CASES[name]
    count = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    states = 2 * [(count, N, HIDDEN)]
    shape = (N, STEPS, FEATURES) if options.get("batch_first") else (STEPS, N, FEATURES)
    check(options, shape, states, of)


@pytest.mark.parametrize("shape", [(STEPS, N, FEATURES), (STEPS, FEATURES), (1, 1, FEATURES)])
def test_without_first_states(shape):
    check({"num_layers": 2}, shape, [], every_output)


def test_below_another_layer_by_gauss_newton():
    """All operations of the cells feed a layer, so that both drop their second derivatives."""
    head = torch.randn(2, HIDDEN)
    shape, of = (STEPS, N, FEATURES), lambda y, h, c: F.linear(y, head)
    check({"num_layers": 2}, shape, [], of, "hesscale_gn")


def check(options, shape, states, of, method="hesscale"):
    fused, separate = (curvatures(f, options, shape, states, of, method) for f in (True, False))
    for hess, expected in zip(fused, separate, strict=True):
        scale = expected.abs().max().item()
        torch.testing.assert_close(hess, expected, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("method", ["hesscale", "hesscale_gn"])
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_what_is_not_fused_needs_no_rule(kind, method):
    """Packed sequences, projections, and the other kinds of recurrent layers."""
    torch.manual_seed(4)
    layers = [kind(FEATURES, HIDDEN, 2, bidirectional=True, dropout=0.5)]
    if kind is nn.LSTM:
        layers.append(kind(FEATURES, HIDDEN, proj_size=3))
    for layer in layers:
        x = torch.randn(3, 2, FEATURES, requires_grad=True)
        arm([x, *layer.parameters()], method)
        packed = layer(nn.utils.rnn.pack_padded_sequence(x, [3, 2]))[0].data
        assert FUSED not in node_names(packed)
        packed.square().sum().backward()
        assert all(p.hess_diag.isfinite().all() for p in (x, *layer.parameters()))
        assert not x.hess_diag[2, 1].any() and x.hess_diag[1, 1].all()
