"""Exact and sampled diagonals against Jacobians and Hessians by `torch.func`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from hesrl.curvature import hess_diag
from tests import reference
from tests.curvature.comparison import normal

CLASSES = torch.tensor([2, 0, 1, 1, 2])
SHARES = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "cross_entropy": lambda z: 2 * F.cross_entropy(z, CLASSES),
    "weights and ignore_index": lambda z: F.cross_entropy(
        z, CLASSES, torch.tensor([0.5, 2.0, 1.0]).double(), ignore_index=0, reduction="sum"
    ),
    "soft targets": lambda z: F.cross_entropy(z, torch.eye(5, 3).double().add(0.1)),
    "label smoothing": lambda z: F.cross_entropy(z, CLASSES, label_smoothing=0.2),
    "mse": lambda z: 0.7 * F.mse_loss(z, torch.ones_like(z)),
    "mse sum": lambda z: F.mse_loss(z, torch.ones_like(z), reduction="sum"),
    "bce": lambda z: F.binary_cross_entropy_with_logits(z, SHARES),
    "bce weights": lambda z: (
        2
        * F.binary_cross_entropy_with_logits(
            z,
            SHARES,
            SHARES + 1,
            reduction="sum",
            pos_weight=torch.tensor([0.5, 2.0, 3.0]).double(),
        )
    ),
    "huber": lambda z: F.huber_loss(z, SHARES, delta=0.3),
    "smooth l1": lambda z: F.smooth_l1_loss(z, SHARES, reduction="sum", beta=0.5),
}
each_loss = pytest.mark.parametrize("name", LOSSES)


def problem() -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3)).double(), normal(5, 2)


def outputs_by(net: nn.Module, x: Tensor, name: str) -> Callable[[Tensor], Tensor]:
    return lambda value: functional_call(net, {name: value}, (x,))


def ggn_by_definition(net: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> dict:
    """Diag Jᵀ H J with the full Jacobian of all outputs and the full Hessian at them."""
    z = net(x).detach()
    h = jacrev(jacrev(loss))(z).reshape(z.numel(), z.numel())
    found = {}
    for name, p in net.named_parameters():
        jacobian = jacrev(outputs_by(net, x, name))(p.detach()).reshape(z.numel(), p.numel())
        found[name] = ((jacobian.T @ h) * jacobian.T).sum(1).view_as(p)
    return found


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


@each_loss
def test_the_hessian_and_the_gauss_newton_diagonal(name):
    net, x = problem()
    loss, params = LOSSES[name], dict(net.named_parameters())
    exact = reference.module_hess_diag(net, lambda net: loss(net(x)))
    torch.testing.assert_close(hess_diag(loss(net(x)), params, "hessian"), exact)
    ggn = hess_diag(loss(net(x)), params, "ggn")
    torch.testing.assert_close(ggn, ggn_by_definition(net, x, loss))
    assert all((diagonal >= 0).all() for diagonal in ggn.values())


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_a_sigmoid_and_its_logits_have_the_same_likelihood(reduction):
    net, x = problem()
    z, weight = net(x), SHARES + 1
    by_logits = F.binary_cross_entropy_with_logits(z, SHARES, weight, reduction=reduction)
    by_shares = F.binary_cross_entropy(z.sigmoid(), SHARES, weight, reduction=reduction)
    of_logits, of_shares = (
        hess_diag(loss.sum(), net.parameters(), "ggn") for loss in (by_logits, by_shares)
    )
    torch.testing.assert_close(of_shares, of_logits)


@pytest.mark.parametrize(("method", "exact"), [("hutchinson", "hessian"), ("ggn_mc", "ggn")])
@pytest.mark.parametrize("name", ["cross_entropy", "mse", "bce"])
def test_the_error_of_a_mean_falls_with_the_root_of_the_samples(name, method, exact):
    """The slope of its root mean square over 20 repetitions, on logarithmic scales, is −½."""
    torch.manual_seed(0)
    net, x = problem()
    loss, params = LOSSES[name](net(x)), list(net.parameters())
    expected = flat(hess_diag(loss, params, exact))
    counts, errors = torch.tensor([8.0, 64.0, 512.0, 4096.0]), []
    for count in counts.int().tolist():
        draws = [flat(hess_diag(loss, params, method, samples=count)) for _ in range(20)]
        errors.append((torch.stack(draws) - expected).square().sum(1).mean().sqrt())
    assert (torch.stack(draws).mean(0) - expected).norm() < 0.02 * expected.norm()
    x, y = counts.log() - counts.log().mean(), torch.stack(errors).log()
    assert abs((x * y).sum() / x.square().sum() + 0.5) < 0.05


def test_squared_gradients_of_the_batch_and_of_its_samples():
    net, x = problem()
    params = dict(net.named_parameters())
    loss = F.cross_entropy(net(x), CLASSES)
    grads = torch.autograd.grad(loss, list(params.values()), retain_graph=True)
    squared = hess_diag(loss, params, "squared_gradient")
    torch.testing.assert_close(list(squared.values()), [g.square() for g in grads])
    per_sample = hess_diag(loss, params, "squared_sample_gradients")
    for name, p in params.items():
        single = [
            torch.autograd.grad(F.cross_entropy(net(x[n : n + 1]), CLASSES[n : n + 1]), p)[0]
            for n in range(5)
        ]
        torch.testing.assert_close(per_sample[name], torch.stack(single).square().mean(0))


def test_outputs_with_positions():
    """Pixels: a row for each sample and position, with the classes in the second dimension."""
    torch.manual_seed(1)
    net, x = nn.Conv1d(2, 3, 2).double(), normal(2, 2, 4)
    target = torch.randint(3, (2, 3))

    def loss(z: Tensor) -> Tensor:
        return F.cross_entropy(z, target)

    found = hess_diag(loss(net(x)), dict(net.named_parameters()), "ggn")
    torch.testing.assert_close(found, ggn_by_definition(net, x, loss))
    drawn = hess_diag(loss(net(x)), net.parameters(), "ggn_mc", samples=20_000)
    for estimate, exact in zip(drawn, found.values(), strict=True):
        assert (estimate - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("method", ["ggn", "ggn_mc", "squared_sample_gradients"])
def test_a_loss_without_a_known_likelihood_is_refused(method):
    net, x = problem()
    with pytest.raises(ValueError, match=r"known for cross-entropy, .*; this loss"):
        hess_diag(net(x).exp().sum(), net.parameters(), method)
    with pytest.raises(ValueError, match="a negative weight is no likelihood"):
        hess_diag(-F.mse_loss(net(x), net(x).detach() + 1), net.parameters(), method)


def test_samples_are_counted_from_one():
    net, x = problem()
    with pytest.raises(ValueError, match="samples must be at least 1, not 0"):
        hess_diag(net(x).sum(), net.parameters(), "hutchinson", samples=0)
