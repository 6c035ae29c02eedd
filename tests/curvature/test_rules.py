"""Every rule against the definition of HesScale, evaluated by automatic differentiation.

h(x)_j = Σ_k (∂y_k/∂x_j)² h(y)_k + Σ_k g(y)_k ∂²y_k/∂x_j²
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hesrl.curvature import arm
from hesrl.curvature.registry import _RULES
from tests import reference
from tests.curvature.seeding import grad_and_hess, node_names

aten = torch.ops.aten
MASK = torch.tensor([[True, False, False, True]]).expand(3, 4)
INDEX = torch.tensor([[2, 0, 0], [1, 1, 3], [0, 3, 2]])
ROWS = torch.tensor([0, 2, 0])
TARGETS = torch.tensor([2, 0, 1])
WEIGHTS = torch.tensor([0.5, 2.0, 1.7, 1.0], dtype=torch.float64)


def normal(*shape: int) -> Tensor:
    """Entries of both signs, not at 0."""
    x = torch.randn(shape, dtype=torch.float64)
    return x + 0.01 * x.sign()


def positive(*shape: int) -> Tensor:
    return 0.3 + 2 * torch.rand(shape, dtype=torch.float64)


def one() -> tuple[Tensor, ...]:
    return (normal(3, 4),)


def one_positive() -> tuple[Tensor, ...]:
    return (positive(3, 4),)


def one_by_three() -> tuple[Tensor, ...]:
    return (normal(1, 3, 1),)


def pair() -> tuple[Tensor, ...]:
    return normal(3, 4), normal(3, 4)


def broadcast() -> tuple[Tensor, ...]:
    return normal(2, 1, 4), normal(3, 1)


def broadcast_positive() -> tuple[Tensor, ...]:
    return positive(2, 1, 4), positive(3, 1)


@dataclass(frozen=True)
class Row:
    """One operation: what to call it, its node in the graph, its function and its inputs."""

    id: str
    node: str
    function: Callable[..., Any]
    inputs: Callable[[], tuple[Tensor, ...]] = one


ACTIVATIONS = [
    Row("tanh", "TanhBackward0", torch.tanh),
    Row("sigmoid", "SigmoidBackward0", torch.sigmoid),
    Row("relu", "ReluBackward0", torch.relu),
    Row("leaky_relu", "LeakyReluBackward0", lambda x: F.leaky_relu(x, 0.2)),
    Row("hardtanh", "HardtanhBackward0", lambda x: F.hardtanh(x, -0.5, 0.8)),
    Row("relu6", "HardtanhBackward0", F.relu6, lambda: (5 * normal(3, 4),)),
    Row("elu", "EluBackward0", lambda x: F.elu(x, 1.3)),
    Row("selu", "EluBackward0", F.selu),
    Row("celu", "CeluBackward0", lambda x: F.celu(x, 0.5)),
    Row("softplus", "SoftplusBackward0", F.softplus),
    Row("softplus beta threshold", "SoftplusBackward0", lambda x: F.softplus(x, 2.0, 1.7)),
    Row("logsigmoid", "LogSigmoidBackward0", F.logsigmoid),
    Row("silu", "SiluBackward0", F.silu),
    Row("gelu", "GeluBackward0", F.gelu),
    Row("gelu tanh", "GeluBackward0", lambda x: F.gelu(x, approximate="tanh")),
    Row("exp", "ExpBackward0", torch.exp),
    Row("log", "LogBackward0", torch.log, one_positive),
    Row("log1p", "Log1PBackward0", torch.log1p, one_positive),
    Row("sqrt", "SqrtBackward0", torch.sqrt, one_positive),
    Row("rsqrt", "RsqrtBackward0", torch.rsqrt, one_positive),
    Row("reciprocal", "ReciprocalBackward0", torch.reciprocal),
    Row("square", "PowBackward0", torch.square),
    Row("cube", "PowBackward0", lambda x: x**3),
    Row("pow 0", "PowBackward0", lambda x: x**0),
    Row("pow 1", "PowBackward0", lambda x: x**1),
    Row("pow -2", "PowBackward0", lambda x: x**-2),
    Row("pow 1.7", "PowBackward0", lambda x: x**1.7, one_positive),
    Row("sin", "SinBackward0", torch.sin),
    Row("cos", "CosBackward0", torch.cos),
    Row("abs", "AbsBackward0", torch.abs),
    Row("neg", "NegBackward0", torch.neg),
    Row("clamp", "ClampBackward1", lambda x: x.clamp(-0.5, 0.8)),
    Row("clamp from", "ClampBackward1", lambda x: torch.clamp(x, min=-0.5)),
    Row("clamp to", "ClampBackward1", lambda x: torch.clamp(x, max=0.8)),
    Row("clamp_min", "ClampMinBackward0", lambda x: torch.clamp_min(x, -0.5)),
    Row("clamp_max", "ClampMaxBackward0", lambda x: torch.clamp_max(x, 0.8)),
    Row("masked_fill", "MaskedFillBackward0", lambda x: x.masked_fill(MASK, -2.0)),
]

ARITHMETIC = [
    Row("add", "AddBackward0", lambda a, b: torch.add(a, b, alpha=-1.7), broadcast),
    Row("add number", "AddBackward0", lambda a: a + 2.0),
    Row("sub", "SubBackward0", lambda a, b: torch.sub(a, b, alpha=1.7), broadcast),
    Row("number - a", "RsubBackward1", lambda a: 2.0 - a),
    Row("rsub alpha", "RsubBackward1", lambda a: torch.rsub(a, 2.0, alpha=1.7)),
    Row("mul", "MulBackward0", torch.mul, broadcast),
    Row("mul number", "MulBackward0", lambda a: 0.3 * a),
    Row("div", "DivBackward0", torch.div, broadcast),
    Row("div number", "DivBackward0", lambda a: a / -0.3),
    Row("add.Scalar", "AddBackward1", lambda a: aten.add.Scalar(a, 0.3, 0.7)),
    Row("sub.Scalar", "SubBackward1", lambda a: aten.sub.Scalar(a, 0.3, 0.7)),
    Row("mul.Scalar", "MulBackward1", lambda a: aten.mul.Scalar(a, 0.3)),
    Row("div.Scalar", "DivBackward1", lambda a: aten.div.Scalar(a, 0.3)),
    Row("pow", "PowBackward1", torch.pow, broadcast_positive),
    Row("number ** b", "PowBackward2", lambda b: 1.7**b),
    Row("maximum", "MaximumBackward0", torch.maximum, broadcast),
    Row("minimum", "MinimumBackward0", torch.minimum, broadcast),
    Row("where", "WhereBackward0", lambda a, b: torch.where(MASK, a, b), broadcast),
    Row(
        "addcmul",
        "AddcmulBackward0",
        lambda a, b, c: torch.addcmul(a, b, c, value=-1.7),
        lambda: (normal(4), *broadcast()),
    ),
    Row("lerp", "LerpBackward0", lambda a, b: torch.lerp(a, b, 0.3), broadcast),
]

PRODUCTS = [
    Row(
        "addmm",
        "AddmmBackward0",
        lambda b, a, w: torch.addmm(b, a, w, beta=-0.5, alpha=1.7),
        lambda: (normal(4), normal(3, 2), normal(2, 4)),
    ),
    Row("linear", "AddmmBackward0", F.linear, lambda: (normal(3, 2), normal(4, 2), normal(4))),
    Row(
        "linear 3d",
        "AddmmBackward0",
        F.linear,
        lambda: (normal(2, 3, 2), normal(4, 2), normal(4)),
    ),
    Row("linear 1d", "AddmmBackward0", F.linear, lambda: (normal(2), normal(4, 2), normal(4))),
    Row("mm", "MmBackward0", torch.mm, lambda: (normal(3, 2), normal(2, 4))),
    Row("bmm", "BmmBackward0", torch.bmm, lambda: (normal(2, 3, 2), normal(2, 2, 4))),
    Row("mv", "MvBackward0", torch.mv, lambda: (normal(3, 2), normal(2))),
    Row("dot", "DotBackward0", torch.dot, lambda: (normal(3), normal(3))),
]

LOSSES = [
    *(
        Row(f"{name} {reduction}", node, lambda x, t, f=f, r=reduction: f(x, t, reduction=r), pair)
        for reduction in ("none", "mean", "sum")
        for name, node, f in (
            ("mse", "MseLossBackward0", F.mse_loss),
            (
                "huber",
                "HuberLossBackward0",
                lambda x, t, reduction: F.huber_loss(x, t, reduction, 0.7),
            ),
            (
                "smooth_l1",
                "SmoothL1LossBackward0",
                lambda x, t, reduction: F.smooth_l1_loss(x, t, reduction=reduction, beta=0.7),
            ),
        )
    ),
    *(
        Row(
            f"nll {reduction}",
            "NllLossBackward0",
            lambda x, r=reduction: F.nll_loss(x, TARGETS, WEIGHTS, ignore_index=1, reduction=r),
        )
        for reduction in ("none", "mean", "sum")
    ),
]

REDUCTIONS = [
    Row("sum", "SumBackward0", torch.sum),
    Row("sum dim", "SumBackward1", lambda x: x.sum(0)),
    Row("sum dims keepdim", "SumBackward1", lambda x: x.sum((-1, 0), keepdim=True)),
    Row("mean", "MeanBackward0", torch.mean),
    Row("mean dim", "MeanBackward1", lambda x: x.mean(-1)),
    Row("mean dims keepdim", "MeanBackward1", lambda x: x.mean((-1, 0), keepdim=True)),
    Row("max dim", "MaxBackward0", lambda x: x.max(1).values),
    Row("min dim", "MinBackward0", lambda x: x.min(0, keepdim=True).values),
]

SHAPES = [
    Row("alias", "AliasBackward0", aten.alias),
    Row("cat", "CatBackward0", lambda a, b: torch.cat([a, b, a], 1), pair),
    Row("clone", "CloneBackward0", torch.clone),
    Row("expand", "ExpandBackward0", lambda x: x.expand(2, 3, 4)),
    Row("flip", "FlipBackward0", lambda x: x.flip(-1)),
    Row("gather", "GatherBackward0", lambda x: x.gather(1, INDEX)),
    Row("index", "IndexBackward0", lambda x: x[ROWS, TARGETS]),
    Row("index mask", "IndexBackward0", lambda x: x[MASK]),
    Row("index_select", "IndexSelectBackward0", lambda x: x.index_select(0, ROWS)),
    Row("permute", "PermuteBackward0", lambda x: x.permute(1, 0)),
    Row("repeat", "RepeatBackward0", lambda x: x.repeat(2, 1, 2)),
    Row("_reshape_alias", "ReshapeAliasBackward0", lambda x: aten._reshape_alias(x, (12,), (1,))),
    Row("roll", "RollBackward0", lambda x: x.roll(1, 0)),
    Row("select", "SelectBackward0", lambda x: x[1]),
    Row("slice", "SliceBackward0", lambda x: x[:, 1:3]),
    Row("split", "SplitBackward0", lambda x: x.split(2, 1)),
    Row("split with sizes", "SplitWithSizesBackward0", lambda x: x.split([1, 3], 1)),
    Row("squeeze", "SqueezeBackward0", torch.squeeze, one_by_three),
    Row("squeeze dim", "SqueezeBackward1", lambda x: x.squeeze(0), one_by_three),
    Row("squeeze dims", "SqueezeBackward2", lambda x: x.squeeze((0, 2)), one_by_three),
    *(
        Row(f"squeeze_ {dims}", node, lambda x, d=dims: x.clone().squeeze_(*d), one_by_three)
        for node, dims in (
            ("SqueezeBackward3", ()),
            ("SqueezeBackward4", (0,)),
            ("SqueezeBackward5", ((0, 2),)),
        )
    ),
    Row("stack", "StackBackward0", lambda a, b: torch.stack([a, b], 1), pair),
    Row("t", "TBackward0", torch.t),
    Row("to", "ToCopyBackward0", lambda x: x.to(x.dtype, copy=True)),
    Row("transpose", "TransposeBackward0", lambda x: x.transpose(0, 1)),
    Row("unbind", "UnbindBackward0", lambda x: x.unbind(0)),
    Row("_unsafe_view", "UnsafeViewBackward0", lambda x: aten._unsafe_view(x, (12,))),
    Row("unsqueeze", "UnsqueezeBackward0", lambda x: x.unsqueeze(1)),
    Row("view", "ViewBackward0", lambda x: x.view(2, 6)),
]

SOFTMAX = [
    Row("softmax", "SoftmaxBackward0", lambda x: x.softmax(-1)),
    Row("softmax first dim", "SoftmaxBackward0", lambda x: x.softmax(0)),
    Row("log_softmax", "LogSoftmaxBackward0", lambda x: x.log_softmax(-1)),
    Row("log_softmax first dim", "LogSoftmaxBackward0", lambda x: x.log_softmax(0)),
    Row("logsumexp", "LogsumexpBackward0", lambda x: x.logsumexp(-1)),
    Row("logsumexp keepdim", "LogsumexpBackward0", lambda x: x.logsumexp(0, keepdim=True)),
    Row(
        "logsumexp dims",
        "LogsumexpBackward0",
        lambda x: x.logsumexp((-1, 0)),
        lambda: (normal(2, 3, 2),),
    ),
]

TABLE = [*ACTIVATIONS, *ARITHMETIC, *PRODUCTS, *LOSSES, *REDUCTIONS, *SHAPES, *SOFTMAX]
each_row = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.id)


def test_every_rule_has_a_row():
    assert {row.node for row in TABLE} == set(_RULES)


@each_row
def test_the_row_leaves_the_node_it_names(row):
    torch.manual_seed(0)
    inputs = [x.requires_grad_() for x in row.inputs()]
    assert row.node in node_names(row.function(*inputs))


@pytest.mark.parametrize("apart", [False, True], ids=["joined", "apart"])
@each_row
def test_the_rule_is_the_definition(row, apart):
    """For every set of inputs that take a gradient; the others are constants."""
    torch.manual_seed(1)
    values = row.inputs()
    numbers = range(len(values))
    for count in range(1, len(values) + 1):
        for wanted in itertools.combinations(numbers, count):
            inputs = [x.clone().requires_grad_(n in wanted) for n, x in enumerate(values)]
            arm(inputs[n] for n in wanted)
            grad_out, hess_out = grad_and_hess(row.function(*inputs), apart=apart)
            for n in wanted:
                expected = reference.hesscale(row.function, values, n, grad_out, hess_out)
                torch.testing.assert_close(inputs[n].hess_diag, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("row", [row for row in TABLE if len(row.inputs()) > 1], ids=lambda r: r.id)
def test_an_unarmed_input_changes_nothing(row):
    """It takes a gradient, so the graph has a path to it, which the curvature does not follow."""
    torch.manual_seed(2)
    values = row.inputs()
    for n in range(len(values)):
        inputs = [x.clone().requires_grad_() for x in values]
        arm([inputs[n]])
        grad_out, hess_out = grad_and_hess(row.function(*inputs))
        expected = reference.hesscale(row.function, values, n, grad_out, hess_out)
        torch.testing.assert_close(inputs[n].hess_diag, expected, rtol=1e-10, atol=1e-12)
        assert [x.hess_diag is None for x in inputs] == [m != n for m in range(len(values))]


TIES = torch.tensor([-2.0, 0.5, 2.0], dtype=torch.float64)
KINKS = {
    "relu": (torch.relu, [0.0]),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.3), [0.0]),
    "hardtanh": (lambda x: F.hardtanh(x, -0.5, 0.8), [-0.5, 0.8]),
    "abs": (torch.abs, [0.0]),
    "clamp": (lambda x: x.clamp(-0.5, 0.8), [-0.5, 0.8]),
    "clamp_min": (lambda x: torch.clamp_min(x, -0.5), [-0.5]),
    "clamp_max": (lambda x: torch.clamp_max(x, 0.8), [0.8]),
    "maximum": (lambda x: torch.maximum(x, TIES), TIES.tolist()),
    "minimum": (lambda x: torch.minimum(x, TIES), TIES.tolist()),
    "max dim": (lambda x: x.max(0).values, [0.5, 0.5]),
    "min dim": (lambda x: x.min(0).values, [0.5, 0.5]),
    "huber": (lambda x: F.huber_loss(x, 0 * x, reduction="none", delta=0.7), [-0.7, 0.7]),
    "smooth_l1": (lambda x: F.smooth_l1_loss(x, 0 * x, reduction="none", beta=0.7), [-0.7, 0.7]),
}


@pytest.mark.parametrize("name", KINKS)
def test_at_a_kink_the_slope_is_the_gradients_and_the_curvature_zero(name):
    function, points = KINKS[name]
    torch.manual_seed(3)
    x = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    arm([x])
    y = function(x)
    (slopes,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    _, hess_out = grad_and_hess(y)
    torch.testing.assert_close(x.hess_diag, slopes**2 * hess_out, rtol=1e-14, atol=0)


def test_a_power_of_zero_has_the_derivatives_of_its_neighbourhood():
    base = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    exponent = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    arm([base, exponent])
    (base**exponent).sum().backward()
    torch.testing.assert_close(base.hess_diag, torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(exponent.hess_diag, torch.zeros(3, dtype=torch.float64))


def test_smooth_l1_with_beta_zero_is_l1():
    """PyTorch's own second derivative divides by β there."""
    torch.manual_seed(4)
    values = pair()
    inputs = [x.clone().requires_grad_() for x in values]
    arm(inputs)
    grad_out, hess_out = grad_and_hess(aten.smooth_l1_loss(*inputs, 1, 0.0))
    for n, x in enumerate(inputs):
        expected = reference.hesscale(F.l1_loss, values, n, grad_out, hess_out)
        torch.testing.assert_close(x.hess_diag, expected, rtol=1e-10, atol=1e-12)
