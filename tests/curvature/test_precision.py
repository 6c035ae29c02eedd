"""Number formats: autocast, half precision, mixtures, and scaled losses."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hesrl.curvature import arm
from tests.curvature.nets import (
    TARGET,
    X,
    assert_equal,
    curvatures,
    fresh_curvatures,
    loss_of,
    make_net,
)


def armed_copy(net: nn.Module) -> nn.Module:
    net = copy.deepcopy(net)
    arm(net.parameters())
    return net


def relative_errors(actual: nn.Module, expected: nn.Module) -> list[float]:
    """``‖h − h₀‖ / ‖h₀‖`` for every parameter."""
    pairs = zip(actual.parameters(), expected.parameters(), strict=True)
    return [((p.hess_diag - q.hess_diag).norm() / q.hess_diag.norm()).item() for p, q in pairs]


def mean_square(y: Tensor) -> Tensor:
    return (y - 1).square().mean()


def cross_entropy(y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(y, torch.arange(len(y)) % y.shape[1])


def mlp() -> tuple[nn.Module, Tensor]:
    layers = nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 4)
    return nn.Sequential(*layers), torch.randn(256, 8)


def convolutional() -> tuple[nn.Module, Tensor]:
    layers = nn.Conv2d(2, 16, 3), nn.Tanh(), nn.Conv2d(16, 16, 3), nn.Tanh()
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 16, 4)), torch.randn(16, 2, 8, 8)


@pytest.mark.parametrize("loss", [mean_square, cross_entropy])
@pytest.mark.parametrize(("make", "limit"), [(mlp, 0.01), (convolutional, 0.02)])
def test_bfloat16_autocast_is_within_a_percent_or_two(make, limit, loss):
    """Two for convolutions, in which PyTorch adds up positions in bfloat16, for g as for h."""
    torch.manual_seed(0)
    net, x = make()
    full, cast = armed_copy(net), armed_copy(net)
    loss(full(x)).backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(cast(x))
    value.backward()
    errors = relative_errors(cast, full)
    assert 1e-4 < max(errors) < limit
    assert {p.hess_diag.dtype for p in cast.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.bfloat16, 2e-2), (torch.float16, 3e-3), (torch.float64, 1e-6)],
    ids=str,
)
def test_a_whole_model_in_another_format(dtype, tolerance):
    net = make_net().to(dtype)
    (net(X.to(dtype)) - TARGET.to(dtype)).square().mean().backward()
    assert {p.hess_diag.dtype for p in net.parameters()} == {dtype}
    expected = make_net()
    loss_of(expected).backward()
    assert max(relative_errors(net.double(), expected.double())) < tolerance


LAYERS: list[Callable[[], nn.Module]] = [
    nn.ReLU,
    nn.GELU,
    nn.SiLU,
    nn.Softplus,
    nn.Hardtanh,
    lambda: nn.LayerNorm(4),
    lambda: nn.Softmax(1),
]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("make", LAYERS, ids=lambda make: str(make()))
def test_the_format_of_the_curvature_is_that_of_the_parameter(make, dtype):
    torch.manual_seed(0)
    net = armed_copy(nn.Sequential(nn.Linear(3, 4), make(), nn.Linear(4, 3)).to(dtype))
    expected = armed_copy(net.double())
    net.to(dtype)
    cross_entropy(net(X.to(dtype))).backward()
    cross_entropy(expected(X.double())).backward()
    assert {p.hess_diag.dtype for p in net.parameters()} == {dtype}
    assert max(relative_errors(net.double(), expected)) < (1e-12 if dtype is torch.float64 else 0.1)


def test_layers_of_different_formats():
    net = make_net()
    net.first.double()
    net.last.bfloat16()
    a = torch.tanh(net.first(X.double())).float()
    y = net.last((a + torch.tanh(net.second(a))).bfloat16())
    (y - TARGET).square().mean().backward()
    dtypes = [torch.float64] * 2 + [torch.float32] * 2 + [torch.bfloat16] * 2
    assert [p.hess_diag.dtype for p in net.parameters()] == dtypes
    assert [p.grad.dtype for p in net.parameters()] == dtypes
    for p, h in zip(net.parameters(), fresh_curvatures(), strict=True):
        torch.testing.assert_close(p.hess_diag.float(), h, rtol=0.02, atol=0.005)


def test_a_scaled_loss_scales_the_curvature():
    """What a gradient scaler does: a power of two leaves every digit as it is."""
    net, scaler = make_net(), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaler.scale(loss_of(net)).backward()
    assert_equal(curvatures(net), [2.0**10 * h for h in fresh_curvatures()])
