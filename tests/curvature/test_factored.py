"""Exact diagonals by factors for the models of layers that are stacked, and for every loss."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.curvature.both_ways import METHODS, assert_both_ways
from tests.curvature.comparison import normal

N = 4
CLASSES, PLACES = torch.tensor([0, 2, 1, 1]), torch.tensor([[0, 2], [1, 1], [2, 2], [0, 0]])
each_method = pytest.mark.parametrize("method", METHODS)


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
