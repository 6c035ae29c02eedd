"""An MLP follows the recursion of each estimator over its layers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import reference
from tests.curvature import losses_as_written as written
from tests.curvature.comparison import Params, assert_recursion, normal, spread
from tests.curvature.outputs import ACTIONS, CHOICES, N
from tests.curvature.recursion import Recursion

Operations = Callable[[Recursion, Params], Tensor]


def make() -> tuple[nn.Module, Tensor]:
    """Three dense layers with tanh between, and a batch for them."""
    layers = nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)
    return spread(nn.Sequential(*layers)).double(), normal(N, 3)


def operations_of(x: Tensor, *last: Callable[[Tensor], Tensor]) -> Operations:
    """The MLP, with the operations that come after its outputs."""

    def operations(step: Recursion, p: Params) -> Tensor:
        y = x
        for n in (0, 2, 4):
            y = step(torch.tanh, y) if n else y
            y = step(F.linear, y, p[f"{n}.weight"], p[f"{n}.bias"])
        for function in last:
            y = step(function, y)
        return y

    return operations


def mse(y: Tensor) -> Tensor:
    return F.mse_loss(y, ACTIONS)


def huber(y: Tensor) -> Tensor:
    return F.huber_loss(y, ACTIONS)


def cross_entropy(y: Tensor) -> Tensor:
    return F.cross_entropy(y, CHOICES)


@pytest.mark.parametrize("loss", [mse, huber, cross_entropy, written.ppo_cleanrl_discrete])
def test_hesscale(loss):
    torch.manual_seed(0)
    net, x = make()
    actual = assert_recursion(net, lambda net: loss(net(x)), operations_of(x, loss))
    assert min(hess.min() for hess in actual.values()) < 0


def tanh_linearized(x: Tensor) -> Tensor:
    """Tanh's slope without its curvature."""
    y = torch.tanh(x).detach()
    return y + (1 - y**2) * (x - x.detach())


@pytest.mark.parametrize("loss", [mse, cross_entropy])
def test_hesscale_gn_drops_the_curvature_of_activations(loss):
    torch.manual_seed(1)
    net, x = make()
    actual = assert_recursion(
        net,
        lambda net: loss(net(x)),
        operations_of(x, loss),
        method="hesscale_gn",
        stand_ins={torch.tanh: tanh_linearized},
    )
    assert all(hess.min() >= 0 for hess in actual.values())


def log_softmax(z: Tensor) -> Tensor:
    return z - z.logsumexp(1, keepdim=True)


def log_softmax_elementwise(z: Tensor) -> Tensor:
    """As if the other entries were constants."""
    own = z.exp()
    others = (own.sum(1, keepdim=True) - own).detach()
    return z - (own + others).log()


def softmax(z: Tensor) -> Tensor:
    return log_softmax(z).exp()


def softmax_elementwise(z: Tensor) -> Tensor:
    return log_softmax_elementwise(z).exp()


def nll(log_p: Tensor) -> Tensor:
    return -log_p[torch.arange(N), CHOICES].mean()


def brier(p: Tensor) -> Tensor:
    return (p - F.one_hot(CHOICES)).square().sum(1).mean()


@pytest.mark.parametrize(
    ("of_logits", "last", "stand_ins"),
    [
        (cross_entropy, (log_softmax, nll), {log_softmax: log_softmax_elementwise}),
        (lambda z: brier(z.softmax(1)), (softmax, brier), {softmax: softmax_elementwise}),
    ],
    ids=["log-softmax", "softmax"],
)
def test_bl89_takes_softmax_for_elementwise(of_logits, last, stand_ins):
    """So the last layer is not exact."""
    torch.manual_seed(2)
    net, x = make()

    def loss(net: Callable[..., Tensor]) -> Tensor:
        return of_logits(net(x))

    operations = operations_of(x, *last)
    actual = assert_recursion(net, loss, operations, method="bl89", stand_ins=stand_ins)
    exact = reference.module_hess_diag(net, loss)["4.weight"]
    assert (actual["4.weight"] - exact).norm() > 0.1 * exact.norm()
