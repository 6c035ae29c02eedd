"""Exact diagonals by factors where rows stay apart, and the general way where they may not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.curvature.both_ways import METHODS, assert_both_ways
from tests.curvature.comparison import normal

N = 4
CLASSES = torch.tensor([0, 2, 1, 1])


X = normal(N, 3)


class Net(nn.Module):
    """Parts from which a form makes a network."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        self.norm, self.words = nn.BatchNorm1d(3), nn.Embedding(3, 3)
        self.scale = nn.Parameter(torch.rand(3))
        self.weighted = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))


def residual(net: Net) -> Tensor:
    a = net.first(X).tanh()
    return net.last(a + 2 * net.second(a).sigmoid())


def two_ways(net: Net) -> Tensor:
    a = net.first(X).sigmoid()
    return net.second(a).tanh() - net.last(a.exp())


def attention_over_the_batch(net: Net) -> Tensor:
    a = net.second(X)
    return net.last((a @ a.T).softmax(1) @ net.first(X))


def shared_weight(net: Net) -> Tensor:
    return net.last(F.linear(net.first(X).tanh(), net.second.weight.T @ net.second.weight))


FORMS: dict[str, tuple[Callable[[Net], Tensor], set[str], set[str]]] = {
    "residual": (residual, set(), set()),
    "two ways": (two_ways, set(), set()),
    "matrix product": (lambda n: (n.first(X).tanh() @ n.last.weight).tanh(), set(), set()),
    "inputs that are added": (
        lambda n: torch.addmm(n.first(X).tanh(), X, n.last.weight.t(), beta=2, alpha=3),
        {"first"},
        {"first"},
    ),
    "one row": (
        lambda n: n.last(n.first(X[:1]).tanh()).expand(N, 3),
        {"first", "last"},
        {"first", "last"},
    ),
    "batch norm": (lambda n: n.last(n.norm(n.first(X))), {"first", "norm"}, {"first"}),
    "mean over the batch": (
        lambda n: n.last(n.first(X) - n.first(X).mean(0)),
        {"first"},
        {"first"},
    ),
    "centred": (
        lambda n: n.last((a := n.first(X).tanh()) - a.mean(0)),
        {"first"},
        {"first"},
    ),
    "attention over the batch": (
        attention_over_the_batch,
        {"first", "second"},
        {"first", "second"},
    ),
    "rows that change places": (lambda n: n.last(n.first(X).tanh().flip(0)), {"first"}, {"first"}),
    "rows and entries that change places": (
        lambda n: n.last(n.first(X[:3]).tanh().T).expand(3, 3)[[0, 1, 2, 0]],
        {"first", "last"},
        {"first", "last"},
    ),
    "a layer that runs twice": (
        lambda n: n.last(n.second(n.second(n.first(X)).tanh())),
        {"first", "second"},
        {"second"},
    ),
    "a weight that is used twice": (shared_weight, {"first", "second"}, {"second"}),
    "positions": (
        lambda n: n.last(n.first(torch.stack([X, -X, X.exp()], 1)).tanh().sum(1)),
        {"first"},
        {"first"},
    ),
    "a scale": (lambda n: (n.last(n.first(X).tanh() * n.scale) + n.norm.bias).sin(), set(), set()),
    "a scale that is squared": (
        lambda n: n.last(n.first(X).tanh() * n.scale**2),
        {"first", "scale"},
        {"scale"},
    ),
    "batch norm of known statistics": (
        lambda n: n.last(n.norm.eval()(n.first(X).tanh()).tanh()),
        set(),
        set(),
    ),
    "layer norm": (
        lambda n: n.last(F.layer_norm(n.first(X).tanh(), (3,), n.scale, n.norm.bias)),
        {"first", "scale", "norm"},
        set(),
    ),
    "layer norm over the batch": (
        lambda n: n.last(F.layer_norm(n.first(X[:3]), (3, 3)))[[0, 1, 2, 0]],
        {"first", "last"},
        {"first", "last"},
    ),
    "prelu": (lambda n: n.last(F.prelu(n.first(X), n.scale)), {"first", "scale"}, {"scale"}),
    "a shift of every row": (
        lambda n: n.last(X[:3] + n.last.weight)[[0, 1, 2, 0]],
        {"last"},
        {"last"},
    ),
    "weight norm": (
        lambda n: n.last(n.weighted(n.first(X).tanh()).tanh()),
        {"first", "weighted"},
        {"weighted"},
    ),
    "words": (lambda n: n.last(n.words(CLASSES).tanh()), set(), set()),
    "sentences": (
        lambda n: n.last(n.words(torch.stack([CLASSES, CLASSES - 1], 1) % 3).tanh().mean(1)),
        set(),
        set(),
    ),
    "gate": (
        lambda n: n.last(n.first(X) * n.second(X).sigmoid()),
        {"first", "second"},
        set(),
    ),
    "square": (lambda n: n.last((a := n.first(X)) * a), {"first"}, set()),
    "softmax": (lambda n: n.last(n.first(X).softmax(1)), {"first"}, {"first"}),
    "one vector": (
        lambda n: torch.stack([n.last(n.first(x).tanh()) for x in X]),
        {"first", "last"},
        {"first", "last"},
    ),
}


@pytest.mark.parametrize(
    ("name", "method"), [(name, method) for name in FORMS for method in METHODS]
)
def test_forms_and_what_they_leave_to_the_general_way(name, method, left):
    torch.manual_seed(0)
    net, (form, *expected) = Net().double(), FORMS[name]
    loss = F.cross_entropy(form(net), CLASSES)
    names, params = zip(*net.named_parameters(), strict=True)
    numbers = assert_both_ways(loss, params, method, left)
    assert {names[i].split(".")[0] for i in numbers} == expected[METHODS.index(method)]


def test_group_norm(left):
    """For the other matrix PyTorch has no batched second derivative."""
    net = Net().double()
    z = net.last(F.group_norm(net.first(X).tanh(), 3, net.scale, net.norm.bias))
    loss = F.cross_entropy(z, CLASSES)
    assert assert_both_ways(loss, list(net.parameters()), "ggn", left) == []
