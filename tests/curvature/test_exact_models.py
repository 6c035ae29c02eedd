"""The exact and sampled diagonals of models of every kind, with losses of torch and of hesrl."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from hesrl import losses
from hesrl.curvature import MissingRuleError, arm, hess_diag
from tests import reference
from tests.curvature.comparison import normal

TARGET = torch.tensor([0, 2, 1, 1])
LOSSES = {
    "of torch": lambda z: F.cross_entropy(z, TARGET),
    "of hesrl": lambda z: losses.CrossEntropyLoss()(z, TARGET),
}


class LastOutput(nn.Module):
    """A recurrent layer, then a linear one of its last output."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.last = layer, nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(x)[0][:, -1])


class Attention(nn.Module):
    """One block of a transformer, averaged over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(4, 2, 4, dropout=0.0, batch_first=True)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.block(x).mean(1))


class WordBag(nn.Module):
    """Embeddings, averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.last = nn.Embedding(5, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.words(x).mean(1).tanh())


def convolution() -> nn.Module:
    norm = nn.BatchNorm2d(2, track_running_stats=False)
    layers = nn.Conv2d(1, 2, 2), norm, nn.SiLU(), nn.MaxPool2d(2), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(2, 3))


MODELS = {
    "convolution": (convolution, normal(4, 1, 3, 3)),
    "layer norm": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 3)),
        normal(4, 3),
    ),
    "gru": (lambda: LastOutput(nn.GRU(2, 3, batch_first=True)), normal(4, 3, 2)),
    "lstm": (lambda: LastOutput(nn.LSTM(2, 3, batch_first=True)), normal(4, 3, 2)),
    "attention": (Attention, normal(4, 3, 4)),
    "words": (WordBag, torch.randint(5, (4, 3), generator=torch.Generator().manual_seed(0))),
}
each_model = pytest.mark.parametrize("model", MODELS)


def made(model: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    make, x = MODELS[model]
    return make().double(), x


@each_model
def test_the_hessian_is_exact_whatever_the_model(model):
    net, x = made(model)
    with sdpa_kernel(SDPBackend.MATH):
        expected = reference.module_hess_diag(net, lambda net: F.cross_entropy(net(x), TARGET))
        for loss in LOSSES.values():
            found = hess_diag(loss(net(x)), dict(net.named_parameters()), "hessian")
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@each_model
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("method", "exact"), [("hutchinson", "hessian"), ("ggn_mc", "ggn")])
def test_the_mean_over_draws_is_near_the_exact_one(model, loss, method, exact):
    torch.manual_seed(0)
    net, x = made(model)
    params = list(net.parameters())
    with sdpa_kernel(SDPBackend.MATH):
        value = LOSSES[loss](net(x))
        expected = torch.cat([h.flatten() for h in hess_diag(value, params, exact)])
        found = torch.cat([h.flatten() for h in hess_diag(value, params, method, samples=2000)])
    assert (found - expected).norm() < 0.2 * expected.norm()


@pytest.mark.parametrize("model", [model for model in MODELS if model != "convolution"])
def test_the_squared_gradients_of_samples(model):
    """But for batch norm, which mixes them."""
    net, x = made(model)
    params = list(net.parameters())
    found = hess_diag(LOSSES["of hesrl"](net(x)), params, "squared_sample_gradients")
    single = [
        torch.autograd.grad(F.cross_entropy(net(x[n : n + 1]), TARGET[n : n + 1]), params)
        for n in range(4)
    ]
    for diagonal, grads in zip(found, zip(*single, strict=True), strict=True):
        torch.testing.assert_close(diagonal, torch.stack(grads).square().mean(0))


@each_model
def test_the_gauss_newton_diagonal_is_that_of_both_losses(model):
    net, x = made(model)
    params = list(net.parameters())
    with sdpa_kernel(SDPBackend.MATH):
        ours, theirs = (hess_diag(loss(net(x)), params, "ggn") for loss in LOSSES.values())
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    assert all((h >= 0).all() for h in ours)


def test_attention_without_a_second_derivative_is_refused_before_any_gradient():
    net, x = made("attention")
    message = r"^PyTorch has no second derivative of ScaledDotProduct.*sdpa_kernel\(.*MATH\)$"
    for method in ("hessian", "hutchinson"):
        with pytest.raises(MissingRuleError, match=message):
            hess_diag(net(x).sum(), net.parameters(), method)
    arm(net.parameters(), "hutchinson")
    with pytest.raises(MissingRuleError, match=message):
        net(x).sum().backward()
    assert all(p.grad is None for p in net.parameters())
