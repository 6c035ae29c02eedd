"""Exact diagonals by factors: equal to the general way, and taken where rows stay apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hesrl.curvature import exact, hess_diag
from hesrl.curvature.graph import Graph
from hesrl.curvature.likelihood import find_outputs
from tests.curvature.comparison import normal

N = 4
CLASSES, PLACES = torch.tensor([0, 2, 1, 1]), torch.tensor([[0, 2], [1, 1], [2, 2], [0, 0]])
METHODS = ("hessian", "ggn")
each_method = pytest.mark.parametrize("method", METHODS)


def general(loss: Tensor, params: Sequence[Tensor], method: str) -> list[Tensor]:
    """The diagonal by Hessian-vector products, or by a product for each row and factor."""
    if method == "hessian":
        return exact.hessian_diagonal(loss, params)
    return exact.ggn_diagonal(find_outputs(Graph([loss.grad_fn]), (loss,)), params)


@pytest.fixture
def left(monkeypatch) -> list[Tensor]:
    """The parameters that `hess_diag` leaves to the general way."""
    params: list[Tensor] = []

    def noting(function: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
        def call(first: object, rest: Sequence[Tensor]) -> list[Tensor]:
            params.extend(rest)
            return function(first, rest)

        return call

    for name in ("hessian_diagonal", "ggn_diagonal"):
        monkeypatch.setattr(exact, name, noting(getattr(exact, name)))
    return params


def assert_both_ways(
    loss: Tensor, params: Sequence[Tensor], method: str, left: list[Tensor]
) -> list[int]:
    """Hold `hess_diag` against the general way; return which parameters it left to that."""
    found = hess_diag(loss, params, method)
    numbers = [i for i, p in enumerate(params) if any(p is other for other in left)]
    expected = general(loss, params, method)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)
    assert all(
        h.shape == p.shape and not h.requires_grad for h, p in zip(found, params, strict=True)
    )
    return numbers


def chain(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*layers)


def deep(activation: Callable[[], nn.Module]) -> nn.Sequential:
    return chain(
        *(nn.Linear(3, 5), activation(), nn.Linear(5, 4, bias=False), activation()),
        nn.Linear(4, 3),
    )


ACTIVATIONS = (
    *(nn.ReLU, nn.Tanh, nn.Sigmoid, nn.LogSigmoid, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.SiLU),
    *(nn.GELU, nn.Mish, nn.Softplus, nn.Tanhshrink, nn.Hardtanh, nn.Hardswish, nn.ReLU6),
    *(nn.Softshrink, nn.Dropout, nn.AlphaDropout, nn.Identity),
)


@each_method
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation, method, left):
    torch.manual_seed(0)
    net = deep(activation).double()
    loss = F.cross_entropy(net(normal(N, 3)), CLASSES)
    assert assert_both_ways(loss, list(net.parameters()), method, left) == []


def conv_chain(first: nn.Module, *rest: nn.Module) -> nn.Sequential:
    return chain(first, nn.Tanh(), *rest, nn.Flatten(), nn.LazyLinear(3))


IMAGES, VOLUMES, SERIES = normal(N, 4, 5, 6), normal(N, 2, 4, 3, 4), normal(N, 4, 7)
CONVOLUTIONS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "1d": (lambda: conv_chain(nn.Conv1d(4, 3, 3)), SERIES),
    "1d same": (lambda: conv_chain(nn.Conv1d(4, 3, 3, padding="same", dilation=2)), SERIES),
    "1d pools": (
        lambda: conv_chain(
            nn.Conv1d(4, 3, 2), nn.MaxPool1d(2), nn.Conv1d(3, 2, 2), nn.AvgPool1d(2)
        ),
        SERIES,
    ),
    "2d twice": (
        lambda: conv_chain(nn.Conv2d(4, 3, 2), nn.Conv2d(3, 2, (2, 3), bias=False), nn.Sigmoid()),
        IMAGES,
    ),
    "2d stride, padding, dilation": (
        lambda: conv_chain(nn.Conv2d(4, 3, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1))),
        IMAGES,
    ),
    "2d groups": (
        lambda: conv_chain(nn.Conv2d(4, 6, 3, groups=2), nn.Conv2d(6, 6, 1, groups=6)),
        IMAGES,
    ),
    "2d max pool that overlaps": (
        lambda: conv_chain(
            nn.Conv2d(4, 3, 2), nn.MaxPool2d(3, stride=1, padding=1), nn.Conv2d(3, 2, 2)
        ),
        IMAGES,
    ),
    "2d pads": (
        lambda: conv_chain(
            nn.ReflectionPad2d(1),
            nn.Conv2d(4, 2, 3),
            nn.ZeroPad2d((1, 0, 2, 1)),
            nn.ELU(),
            nn.ReplicationPad2d(1),
            nn.Conv2d(2, 2, 3),
        ),
        IMAGES,
    ),
    "2d means": (
        lambda: conv_chain(
            nn.Conv2d(4, 3, 2),
            nn.AvgPool2d(2, ceil_mode=True),
            nn.Conv2d(3, 2, 1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(1),
        ),
        IMAGES,
    ),
    "2d adaptive": (
        lambda: conv_chain(
            nn.Conv2d(4, 3, 2),
            nn.Dropout2d(0.3),
            nn.AdaptiveAvgPool2d((3, 2)),
            nn.Conv2d(3, 2, 1),
            nn.AdaptiveMaxPool2d(2),
        ),
        IMAGES,
    ),
    "2d transposed": (
        lambda: conv_chain(
            nn.ConvTranspose2d(4, 2, 3, stride=(2, 1), padding=1, output_padding=(1, 0)),
        ),
        IMAGES,
    ),
    "1d transposed groups": (
        lambda: conv_chain(nn.ConvTranspose1d(4, 6, 2, groups=2, dilation=3, output_padding=2)),
        SERIES,
    ),
    "3d": (lambda: conv_chain(nn.Conv3d(2, 2, 2), nn.MaxPool3d(2), nn.Conv3d(2, 2, 1)), VOLUMES),
    "3d transposed": (lambda: conv_chain(nn.ConvTranspose3d(2, 2, 2), nn.AvgPool3d(2)), VOLUMES),
}


@each_method
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name, method, left):
    make, x = CONVOLUTIONS[name]
    net = make()
    net(x.float())
    net.double()
    loss = F.cross_entropy(net(x), CLASSES)
    assert assert_both_ways(loss, list(net.parameters()), method, left) == []


TARGETS, SHARES = normal(N, 3), torch.rand(N, 3, dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, 2.0, 1.0]).double()
LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "weights": lambda z: F.cross_entropy(z, CLASSES, WEIGHTS, ignore_index=0, reduction="sum"),
    "soft targets": lambda z: 3 * F.cross_entropy(z, SHARES, label_smoothing=0.1),
    "kl": lambda z: F.kl_div(z.log_softmax(1), SHARES, reduction="batchmean"),
    "mse": lambda z: 0.7 * F.mse_loss(z, TARGETS),
    "mse none": lambda z: F.mse_loss(z[:, 1], TARGETS[:, 0], reduction="none") @ SHARES[:, 0],
    "bce": lambda z: F.binary_cross_entropy_with_logits(z, SHARES),
    "bce weights": lambda z: F.binary_cross_entropy_with_logits(
        z, SHARES, WEIGHTS, reduction="sum", pos_weight=2 * WEIGHTS
    ),
    "huber": lambda z: F.huber_loss(z, TARGETS, delta=0.3),
    "smooth l1": lambda z: F.smooth_l1_loss(z, TARGETS, beta=0.4, reduction="sum"),
    "soft margin": lambda z: F.soft_margin_loss(z, TARGETS.sign()),
    "two": lambda z: F.cross_entropy(z, CLASSES) + 0.1 * F.mse_loss(z[:, 0], TARGETS[:, 0]),
}
WRITTEN_OUT: dict[str, Callable[[Tensor], Tensor]] = {
    "square": lambda z: (z - TARGETS).square().mean(),
    "of one output": lambda z: (z[:, 2] * 2 - 1).sin().sum(),
    "both signs": lambda z: (z.pow(3) * TARGETS).mean(),
    "negative": lambda z: -F.cross_entropy(z, CLASSES),
    "bce of probabilities": lambda z: F.binary_cross_entropy(z.sigmoid(), SHARES),
    "linear": lambda z: z.sum(),
    "of a mean over places": lambda z: z.mean(1).exp().sum(),
}


@pytest.mark.parametrize(
    ("method", "name"),
    [
        *((method, name) for method in METHODS for name in LOSSES),
        *(("hessian", name) for name in WRITTEN_OUT),
    ],
)
def test_losses(method, name, left):
    torch.manual_seed(0)
    net = deep(nn.Tanh).double()
    loss = (LOSSES | WRITTEN_OUT)[name](net(normal(N, 3)))
    assert assert_both_ways(loss, list(net.parameters()), method, left) == []


@each_method
def test_places_of_an_image_have_a_likelihood_each(method, left):
    net = chain(nn.Conv1d(4, 3, 6), nn.SELU(), nn.Conv1d(3, 3, 1)).double()
    loss = F.cross_entropy(net(SERIES), PLACES)
    assert assert_both_ways(loss, list(net.parameters()), method, left) == []


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
    "batch norm": (lambda n: n.last(n.norm(n.first(X))), {"first", "norm"}, {"first", "norm"}),
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
    "a scale": (lambda n: n.last(n.first(X).tanh() * n.scale), {"first", "scale"}, {"scale"}),
    "weight norm": (
        lambda n: n.last(n.weighted(n.first(X).tanh()).tanh()),
        {"first", "weighted"},
        {"weighted"},
    ),
    "words": (lambda n: n.last(n.words(CLASSES).tanh()), {"words"}, {"words"}),
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
