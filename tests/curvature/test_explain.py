"""The tables of ``explain``, and what it refuses."""

from __future__ import annotations

import random
import re

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hesrl.curvature import Method, MissingRuleError, arm, explain
from hesrl.curvature.explanation import table_lines
from tests.curvature.nets import X, assert_equal, curvatures, fresh_curvatures, loss_of, make_net

LABELS = torch.tensor([0, 1, 0, 1, 0])


def classifier() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def assert_prints(capsys: pytest.CaptureFixture[str], table: str) -> None:
    """Compare what was printed, without the heading, the summary and spaces between columns."""
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()[1:]]
    expected = [line.strip() for line in table.strip().splitlines()]
    assert printed[: len(expected)] == expected
    assert re.match(r"\d+ operations?, \d+ parameters?:", printed[len(expected)])


def test_the_columns_are_aligned(capsys):
    w = torch.ones(2, requires_grad=True)
    explain(w.exp().sum(), [w])
    heading = "operation     output  handled by              second derivative  exactness"
    assert capsys.readouterr().out.splitlines() == [
        heading + "  where its output forks",
        "SumBackward0  ()      the gradient's own map  none               exact",
        "ExpBackward0  (2,)    rules.elementary.exp    kept               exact",
        "parameter     (2,)",
        "2 operations, 1 parameter:",
        "  2 exact",
    ]


@pytest.mark.parametrize(
    ("method", "softmax", "tanh"),
    [
        ("hesscale", "log_softmax kept exact", "kept exact"),
        ("hesscale_gn", "log_softmax kept exact", "dropped drops second derivatives"),
        ("bl89", "log_softmax_elementwise kept as if elementwise", "kept exact"),
    ],
)
def test_an_mlp_with_cross_entropy(capsys, method: Method, softmax: str, tanh: str):
    net = classifier()
    explain(nn.functional.cross_entropy(net(X), LABELS), net, method)
    table = f"""
        NllLossBackward0 () rules.loss.nll_loss none exact
        LogSoftmaxBackward0 (5, 2) rules.softmax.{softmax}
        AddmmBackward0 (5, 2) rules.linear.linear_layer none drops off-diagonals
        parameter 2.bias (2,)
        TanhBackward0 (5, 4) rules.activation.tanh {tanh}
        AddmmBackward0 (5, 4) rules.linear.linear_layer none drops off-diagonals
        parameter 0.bias (4,)
        parameter 0.weight (4, 3)
        parameter 2.weight (2, 4)
    """
    assert_prints(capsys, table)


def test_ppo(capsys):
    """σ and log σ form a diamond below ``log_std``."""
    mean, log_std = torch.zeros(5, 2), torch.zeros(2, requires_grad=True)
    policy = torch.distributions.Normal(mean, log_std.exp())
    ratio = policy.log_prob(torch.ones(5, 2)).sum(1).exp()
    explain(torch.max(-ratio, -ratio.clamp(0.8, 1.2)).mean(), {"log_std": log_std})
    table = """
        MeanBackward0 () rules.reduce.mean none exact
        MaximumBackward0 (5,) rules.choice.maximum none exact
        NegBackward0 (5,) rules.piecewise.negative none exact
        NegBackward0 (5,) rules.piecewise.negative none exact
        ClampBackward1 (5,) rules.piecewise.clamp none exact
        ExpBackward0 (5,) rules.elementary.exp kept exact
        SumBackward1 (5,) the gradient's own map none exact
        SubBackward0 (5, 2) rules.arithmetic.subtract none exact
        SubBackward0 (5, 2) rules.arithmetic.subtract (in 1 diamond) none exact
        DivBackward0 (5, 2) rules.arithmetic.divide (in 1 diamond) kept exact
        MulBackward0 (5, 2) rules.arithmetic.multiply (in 1 diamond) none exact
        PowBackward0 (5, 2) rules.elementary.power (in 1 diamond) kept exact
        LogBackward0 (5, 2) rules.elementary.log (in 1 diamond) kept exact
        ExpandBackward0 (5, 2) the gradient's own map none drops off-diagonals
        ExpBackward0 (2,) rules.elementary.exp kept exact
        parameter log_std (2,)
    """
    assert_prints(capsys, table)


def test_a_gaussian_whose_parts_are_summed_apart(capsys):
    """Expansions and sums in a diamond drop nothing; where it ends, each row has a copy of s."""
    mean, s = torch.zeros(5, 3, requires_grad=True), torch.zeros(3, requires_grad=True)
    distance = (torch.ones(5, 3) - mean) / s.exp().expand_as(mean)
    explain((-0.5 * distance.square().sum(1) - s.sum()).exp().mean(), [mean, s])
    *_, count, exact, dropped, diamonds = capsys.readouterr().out.splitlines()
    assert count.startswith("11 operations, 2 parameters:")
    assert exact == "  10 exact"
    assert dropped == "  1 drops off-diagonals (1 SubBackward0)"
    assert diamonds == "  1 diamond, whose operations are handled as one"


@pytest.mark.parametrize(
    "function",
    [
        lambda s: (s * torch.ones(5, 3)).mean().sin(),
        lambda s: torch.where(s.exp() > 0, s.sin() * s, s.expand(5, 3)).mean().sin(),
    ],
)
def test_copies_by_broadcasting_drop_off_diagonals(capsys, function):
    s = torch.ones(3, requires_grad=True)
    explain(function(s), [s])
    assert "  1 drops off-diagonals" in capsys.readouterr().out


@pytest.mark.parametrize(("stride", "pooling"), [(2, "exact"), (1, "drops off-diagonals")])
def test_a_convolutional_network(capsys, stride, pooling):
    """Windows that overlap have the same largest entry, here and there."""
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2, stride), nn.Flatten()
    net = nn.Sequential(*layers)
    explain(net(torch.randn(4, 1, 6, 6)).square().mean(), net.parameters())
    size = 4 // stride - stride % 2
    table = f"""
        MeanBackward0 () rules.reduce.mean none exact
        PowBackward0 (4, {2 * size**2}) rules.elementary.power kept exact
        ViewBackward0 (4, {2 * size**2}) the gradient's own map none exact
        MaxPool2DWithIndicesBackward0 (4, 2, {size}, {size}) the gradient's own map none {pooling}
        ReluBackward0 (4, 2, 4, 4) rules.piecewise.relu none exact
        ConvolutionBackward0 (4, 2, 4, 4) rules.convolution.convolution none drops off-diagonals
        parameter 0.weight (2, 1, 3, 3)
        parameter 0.bias (2,)
    """
    assert_prints(capsys, table)


def test_a_residual_connection_drops_cross_terms(capsys):
    explain(loss_of(make_net()))
    *forks, summary = [
        line for line in capsys.readouterr().out.splitlines() if "cross terms" in line
    ]
    assert [line.split()[:3] for line in forks] == [["TanhBackward0", "(5,", "8)"]]
    assert summary == "  drops cross terms at 1 fork (1 TanhBackward0)"


def test_paths_that_leave_a_region_apart_and_meet_again_drop_cross_terms(capsys):
    x = torch.ones(4, 2, requires_grad=True)
    y = x * x.exp()
    explain((y * x).flatten() @ (y + x.sin()).flatten(), [x])
    *_, forks = capsys.readouterr().out.splitlines()
    assert forks.startswith("  drops cross terms at ")
    assert "1 parameter" in forks


def test_the_summary(capsys):
    net = nn.Sequential(nn.Linear(3, 4), nn.Softmax(1), nn.Linear(4, 4), nn.Softmax(1))
    y = net(X)
    explain((y * y.exp()).sum(), net, "hesscale_gn")
    printed = capsys.readouterr().out.splitlines()
    assert printed[printed.index("7 operations, 4 parameters:") :] == [
        "7 operations, 4 parameters:",
        "  3 exact",
        "  3 drops off-diagonals (2 AddmmBackward0, 1 SoftmaxBackward0)",
        "  1 drops second derivatives (1 SoftmaxBackward0)",
        "  1 diamond, whose operations are handled as one",
    ]


def test_equal_layers_are_printed_once(capsys):
    layers = [nn.Sequential(nn.Linear(3, 3), nn.Tanh()) for _ in range(12)]
    net = nn.Sequential(*layers, nn.Linear(3, 1))
    explain(net(X).exp().sum(), net)
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()[1:]]
    assert printed == [
        "SumBackward0 () the gradient's own map none exact",
        "ExpBackward0 (5, 1) rules.elementary.exp kept exact",
        "AddmmBackward0 (5, 1) rules.linear.linear_layer none drops off-diagonals",
        "parameter 12.bias (1,)",
        "TanhBackward0 (5, 3) rules.activation.tanh kept exact",
        "AddmmBackward0 (5, 3) rules.linear.linear_layer none drops off-diagonals",
        "parameter 11.0.bias (3,)",
        "… × 12, the last 3 lines",
        "parameter 0.0.weight (3, 3)",
        "… × 12",
        "parameter 12.weight (1, 3)",
        "27 operations, 26 parameters:",
        "14 exact",
        "13 drops off-diagonals (13 AddmmBackward0)",
    ]


@pytest.mark.parametrize("seed", range(20))
def test_folded_lines_unfold_to_all_of_them(seed):
    generator = random.Random(seed)
    block = [(generator.choice("abc"), "x") for _ in range(generator.randint(1, 6))]
    rows = [(generator.choice("abc"), "x") for _ in range(5)] + block * generator.randint(2, 5)
    unfolded: list[str] = []
    for line in table_lines(("", ""), rows):
        found = re.fullmatch(r"… × (\d+)(?:, the last (\d+) lines)?", line)
        if found:
            unfolded += unfolded[-int(found[2] or 1) :] * (int(found[1]) - 1)
        else:
            unfolded.append(line)
    assert unfolded == ["", *(f"{first}  x" for first, _ in rows)]
    assert any("×" in line for line in table_lines(("", ""), block * 4))


def test_armed_parameters_alone_or_those_that_are_named(capsys):
    net = classifier()
    arm(net[2].parameters())
    loss = net(X).sum()
    explain(loss)
    assert "Tanh" not in (armed := capsys.readouterr().out) and "(2, 4)" in armed
    explain(loss, iter([net[0].bias]))
    assert "(4, 3)" not in (named := capsys.readouterr().out) and "TanhBackward0" in named


@pytest.mark.parametrize("recompute", [False, True])
def test_it_changes_nothing(recompute):
    def loss_with_pick(net: nn.Module) -> Tensor:
        return loss_of(lambda x: net(x)[torch.arange(5)])

    net = make_net()
    if recompute:
        loss = checkpoint(loss_with_pick, net, use_reentrant=False)
    else:
        loss = loss_with_pick(net)
    explain(loss)
    assert all(p.grad is None for p in net.parameters())
    loss.backward()
    assert_equal(curvatures(net), fresh_curvatures())


def test_what_it_refuses(capsys):
    net, other = classifier(), nn.Parameter(torch.ones(2))
    for loss, params in ((net(X).sum(), None), (net(X).sum(), [other]), (torch.ones(()), [other])):
        with pytest.raises(ValueError, match="the loss depends on no armed parameter: arm some"):
            explain(loss, params)
    with pytest.raises(ValueError, match="method must be one of hesscale"):
        explain(net(X).sum(), net.parameters(), "hessian")
    with pytest.raises(MissingRuleError, match=r"no curvature rule for FrexpBackward0.*\(4, 3\)"):
        explain(net[0](X).frexp()[0].sum(), net.parameters())
    assert capsys.readouterr().out == ""
