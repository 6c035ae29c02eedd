"""Convolutional networks follow HesScale's recursion over their operations."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.curvature.comparison import Params, assert_recursion, normal, spread
from tests.curvature.recursion import Recursion

CLASS_WEIGHTS = torch.tensor([0.5, 1.7, 1.0, 0.8], dtype=torch.float64)


def dense(y: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return y.flatten(1) @ weight.T + bias


def average(y: Tensor) -> Tensor:
    return y.mean((2, 3))


def test_3c3d():
    """DeepOBS's 3C3D with ELU, of 2, 3 and 4 channels and for images of 24 × 24."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(3, 2, 5), nn.ELU(), nn.MaxPool2d(3, 2, ceil_mode=True)),
        *(nn.Conv2d(2, 3, 3), nn.ELU(), nn.MaxPool2d(3, 2, ceil_mode=True)),
        *(nn.Conv2d(3, 4, 3, padding="same"), nn.ELU(), nn.MaxPool2d(3, 2, ceil_mode=True)),
        *(nn.Flatten(), nn.Linear(16, 6), nn.ELU(), nn.Linear(6, 5), nn.ELU(), nn.Linear(5, 4)),
    ).double()
    x, target = normal(2, 3, 24, 24), torch.tensor([0, 3])
    pool = partial(F.max_pool2d, kernel_size=3, stride=2, ceil_mode=True)

    def loss(y: Tensor) -> Tensor:
        return F.cross_entropy(y, target)

    def operations(step: Recursion, p: Params) -> Tensor:
        y = x
        for n, padding in ((0, 0), (3, 0), (6, 1)):
            y = step(partial(F.conv2d, padding=padding), y, p[f"{n}.weight"], p[f"{n}.bias"])
            y = step(pool, step(F.elu, y))
        for n in (10, 12):
            y = step(F.elu, step(dense, y, p[f"{n}.weight"], p[f"{n}.bias"]))
        return step(loss, step(dense, y, p["14.weight"], p["14.bias"]))

    assert_recursion(net, lambda net: loss(net(x)), operations)


def test_all_cnn_c():
    """DeepOBS's ALL-CNN-C with ELU, of 2 and 3 channels, for images of 14 × 14, undropped."""
    torch.manual_seed(1)
    shapes = [(2, 3, 1, 1), (2, 3, 1, 1), (2, 3, 2, 1), (3, 3, 1, 1), (3, 3, 1, 1), (3, 3, 2, 1)]
    shapes += [(3, 3, 1, 0), (3, 1, 1, 0), (4, 1, 1, 0)]
    layers: list[nn.Module] = []
    channels = 3
    for out, *options in shapes:
        layers += [nn.Conv2d(channels, out, *options), nn.ELU()]
        channels = out
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    x, target = normal(2, 3, 14, 14), torch.tensor([2, 1])

    def loss(y: Tensor) -> Tensor:
        return F.cross_entropy(y, target, CLASS_WEIGHTS, label_smoothing=0.1)

    def operations(step: Recursion, p: Params) -> Tensor:
        y = x
        for n, (_, _, stride, padding) in enumerate(shapes):
            conv = partial(F.conv2d, stride=stride, padding=padding)
            y = step(F.elu, step(conv, y, p[f"{2 * n}.weight"], p[f"{2 * n}.bias"]))
        return step(loss, step(average, y))

    assert_recursion(net, lambda net: loss(net(x)), operations)


class Block(nn.Module):
    """Two convolutions with batch norm, and a shortcut: the identity or a projection."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(n_out), nn.BatchNorm2d(n_out)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.Conv2d(n_in, n_out, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The statistics are those of the batch, and part of the operation."""
    mean = x.mean((0, 2, 3), keepdim=True)
    std = ((x - mean).square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
    return weight[:, None, None] * (x - mean) / std + bias[:, None, None]


RUNNING = {"running_mean": 0.2, "running_var": 1.7}


def batch_norm_evaluated(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The statistics are constants."""
    mean, std = RUNNING["running_mean"], (RUNNING["running_var"] + 1e-5) ** 0.5
    return weight[:, None, None] * (x - mean) / std + bias[:, None, None]


@pytest.mark.parametrize("training", [True, False])
def test_resnet(training):
    """A stem, a block with the identity and a block of stride 2 with a projection."""
    torch.manual_seed(2)
    net = nn.Sequential(
        *(nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU()),
        *(Block(3, 3, 1), Block(3, 4, 2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)),
    ).double()
    spread(net).train(training)
    for name, buffer in net.named_buffers():
        buffer.fill_(RUNNING.get(name.rpartition(".")[2], 0))
    x, target = normal(4, 2, 6, 6), torch.tensor([3, 1, 0, 2])

    def loss(y: Tensor) -> Tensor:
        return F.cross_entropy(y, target, CLASS_WEIGHTS)

    def operations(step: Recursion, p: Params) -> Tensor:
        def norm(y: Tensor, name: str) -> Tensor:
            function = batch_norm if training else batch_norm_evaluated
            return step(function, y, p[f"{name}.weight"], p[f"{name}.bias"])

        def conv(y: Tensor, name: str, stride: int = 1, padding: int = 1) -> Tensor:
            return step(partial(F.conv2d, stride=stride, padding=padding), y, p[f"{name}.weight"])

        y = step(F.relu, norm(conv(x, "0"), "1"))
        for block, stride in (("3", 1), ("4", 2)):
            z = step(F.relu, norm(conv(y, f"{block}.conv1", stride), f"{block}.norm1"))
            z = norm(conv(z, f"{block}.conv2"), f"{block}.norm2")
            if stride > 1:
                y = norm(conv(y, f"{block}.shortcut.0", stride, 0), f"{block}.shortcut.1")
            y = step(lambda a, b: F.relu(a + b), z, y)
        return step(loss, step(dense, step(average, y), p["7.weight"], p["7.bias"]))

    assert_recursion(net, lambda net: loss(net(x)), operations)


class Dense(nn.Module):
    """DenseNet's block: every convolution sees all that came before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 2, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(2 + 2 * n, 2, 3, padding=1) for n in range(3))
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for conv in self.convs:
            x = torch.cat([x, conv(F.elu(x))], 1)
        return self.last(F.avg_pool2d(x, 4).flatten(1))


def test_densenet():
    torch.manual_seed(3)
    net, x, target = Dense().double(), normal(2, 2, 4, 4), normal(2, 3)

    def loss(y: Tensor) -> Tensor:
        return F.mse_loss(y, target)

    def operations(step: Recursion, p: Params) -> Tensor:
        conv = partial(F.conv2d, padding=1)
        y = step(conv, x, p["stem.weight"], p["stem.bias"])
        for n in range(3):
            z = step(conv, step(F.elu, y), p[f"convs.{n}.weight"], p[f"convs.{n}.bias"])
            y = step(lambda a, b: torch.cat([a, b], 1), y, z)
        return step(loss, step(dense, step(average, y), p["last.weight"], p["last.bias"]))

    assert_recursion(net, lambda net: loss(net(x)), operations)
