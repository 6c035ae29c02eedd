"""Gauss-Newton methods below the losses whose likelihood is known, against Jᵀ H J written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from hesrl import losses
from hesrl.curvature import hess_diag
from hesrl.optim import AdaGGNMC
from tests.losses.data import CHOICES, CLASSES, CLIP, PROBABILITIES, WEIGHT, K, N, normal

X = normal(N, 2, seed=20)
TARGETS, OLD_VALUES = normal(N, K, seed=21), normal(N, seed=22)
NLL = losses.GaussianNLLLoss
SCALES = {"log_std": torch.tanh, "variance": torch.exp}
CONVEX = {
    "cross-entropy": lambda z: losses.CrossEntropyLoss()(z, CHOICES),
    "cross-entropy sum": lambda z: losses.CrossEntropyLoss(reduction="sum")(z, CLASSES),
    "cross-entropy none": lambda z: (
        losses.CrossEntropyLoss(reduction="none")(z, CHOICES) @ X[:, 0].exp()
    ),
    "weights": lambda z: losses.CrossEntropyLoss(WEIGHT, label_smoothing=0.3)(z, CLASSES),
    "soft targets": lambda z: losses.CrossEntropyLoss(WEIGHT)(z, PROBABILITIES),
    "mse": lambda z: losses.MSELoss()(z, TARGETS),
    "mse none": lambda z: losses.MSELoss("none")(z, TARGETS) @ X[:, 0].exp(),
    "value": lambda z: losses.ValueLoss()(z[:, 0], TARGETS[:, 0]),
    "value clipped": lambda z: losses.ValueLoss(CLIP)(z[:, 0], TARGETS[:, 0], OLD_VALUES),
    "value huber": lambda z: losses.HuberValueLoss(0.7)(z[:, 0], TARGETS[:, 0]),
    "two heads": lambda z: (
        losses.CrossEntropyLoss()(z, CHOICES) + 0.5 * losses.ValueLoss()(z[:, 1], TARGETS[:, 0])
    ),
}


def network(outputs: int = K) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, outputs)).double()


def by_definition(net: nn.Module, matrix: Tensor, of: str) -> Tensor:
    """Diag Jᵀ H J of one parameter for the matrix H at all outputs."""
    value = net.get_parameter(of).detach()
    jacobian = jacrev(lambda p: functional_call(net, {of: p}, (X,)))(value)
    jacobian = jacobian.reshape(len(matrix), -1)
    return ((jacobian.T @ matrix) * jacobian.T).sum(1).view_as(value)


def assert_diagonal(net: nn.Module, found: dict[str, Tensor], matrix: Tensor) -> None:
    for name, diagonal in found.items():
        expected = by_definition(net, matrix, name)
        torch.testing.assert_close(diagonal, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", CONVEX)
def test_the_gauss_newton_diagonal(name):
    net, loss = network(), CONVEX[name]
    found = hess_diag(loss(net(X)), dict(net.named_parameters()), "ggn")
    z = net(X).detach().requires_grad_()
    (grad,) = torch.autograd.grad(loss(z), z, create_graph=True)
    rows = [torch.autograd.grad(g, z, retain_graph=True)[0].flatten() for g in grad.flatten()]
    assert_diagonal(net, found, torch.stack(rows))


def gaussian(net: nn.Module, scale: str, reduction: str = "mean") -> Tensor:
    z = net(X)
    loss = NLL(reduction, scale=scale)(z[:, :K], SCALES[scale](z[:, K:]), TARGETS)
    return loss if reduction != "none" else loss @ X[:, 0].exp()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("scale", SCALES)
def test_fishers_matrix_of_a_gaussian(scale, reduction):
    """By hand: 1/σ² at the mean, 2 at log σ and ½/v² at v, below the activation of the scale."""
    net = network(2 * K)
    found = hess_diag(gaussian(net, scale, reduction), dict(net.named_parameters()), "ggn")
    raw = net(X).detach()[:, K:]
    value = SCALES[scale](raw)
    if scale == "log_std":
        variance, slope, fisher = (2 * value).exp(), 1 - value**2, torch.tensor(2.0)
    else:
        variance, slope, fisher = value, value, 0.5 / value**2
    weight = {"mean": X.new_full((N,), 1 / N), "sum": torch.ones(N), "none": X[:, 0].exp()}
    diagonal = torch.cat([1 / variance, fisher * slope**2], 1) * weight[reduction][:, None]
    assert_diagonal(net, found, diagonal.flatten().diag())


@pytest.mark.parametrize("shape", [(K,), (1, K)])
@pytest.mark.parametrize("scale", SCALES)
def test_fishers_matrix_of_a_scale_that_all_samples_share(scale, shape):
    net, shared = network(), torch.full(shape, 0.5, dtype=torch.float64).requires_grad_()
    loss = NLL(scale=scale)(net(X), shared, TARGETS)
    expected = 2.0 if scale == "log_std" else 0.5 / 0.25
    found = hess_diag(loss, [shared, net[2].bias], "ggn")
    torch.testing.assert_close(found[0], torch.full_like(shared, expected))
    with pytest.raises(ValueError, match=r"they share an output of shape \(.*3.*\); let each have"):
        hess_diag(loss, [shared], "squared_sample_gradients")


@pytest.mark.parametrize("name", ["weights", "soft targets", "mse none", "two heads"])
def test_the_mean_over_draws_is_the_diagonal(name):
    torch.manual_seed(0)
    net = network()
    loss, params = CONVEX[name](net(X)), list(net.parameters())
    exact, drawn = (hess_diag(loss, params, m, samples=20_000) for m in ("ggn", "ggn_mc"))
    for expected, found in zip(exact, drawn, strict=True):
        assert (found - expected).norm() < 0.04 * expected.norm()


@pytest.mark.parametrize("scale", SCALES)
def test_the_mean_over_draws_of_a_gaussian(scale):
    torch.manual_seed(0)
    net = network(2 * K)
    loss, params = gaussian(net, scale), list(net.parameters())
    exact, drawn = (hess_diag(loss, params, m, samples=20_000) for m in ("ggn", "ggn_mc"))
    for expected, found in zip(exact, drawn, strict=True):
        assert (found - expected).norm() < 0.04 * expected.norm()


@pytest.mark.parametrize(
    ("outputs", "loss"),
    [
        (K, lambda z, n: losses.CrossEntropyLoss()(z, CHOICES[n])),
        (K, lambda z, n: losses.MSELoss()(z, TARGETS[n])),
        (K, lambda z, n: F.mse_loss(z, TARGETS[n])),
        (2 * K, lambda z, n: NLL()(z[:, :K], z[:, K:].tanh(), TARGETS[n])),
        (
            K,
            lambda z, n: (
                F.cross_entropy(z, CHOICES[n]) + losses.ValueLoss()(z[:, 1], OLD_VALUES[n])
            ),
        ),
    ],
    ids=["cross-entropy", "mse", "mse of torch", "gaussian", "two heads"],
)
def test_the_squared_gradients_of_the_samples(outputs, loss):
    net, rows = network(outputs), [slice(n, n + 1) for n in range(N)]
    params = list(net.parameters())
    found = hess_diag(loss(net(X), slice(None)), params, "squared_sample_gradients")
    single = [torch.autograd.grad(loss(net(X[n]), n), params) for n in rows]
    for diagonal, grads in zip(found, zip(*single, strict=True), strict=True):
        torch.testing.assert_close(diagonal, torch.stack(grads).square().mean(0))


def test_outputs_with_other_numbers_of_samples_are_refused():
    net = network()
    loss = losses.CrossEntropyLoss()(net(X), CHOICES) + losses.MSELoss()(net(X[:4]), TARGETS[:4])
    with pytest.raises(ValueError, match="the network's outputs have 4 and 9 of them"):
        hess_diag(loss, net.parameters(), "squared_sample_gradients")


def test_a_policy_loss_has_no_likelihood():
    net = network()
    loss = losses.CategoricalA2CLoss()(net(X), CHOICES, OLD_VALUES)
    with pytest.raises(ValueError, match="this loss is none of them: write it with one, or with"):
        hess_diag(loss, net.parameters(), "ggn")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (losses.CrossEntropyLoss(), lambda z: F.cross_entropy(z, CHOICES)),
        (losses.MSELoss(), lambda z: F.mse_loss(z, TARGETS)),
    ],
)
def test_an_optimizer_draws_for_them_as_for_the_losses_of_torch(ours, theirs):
    target = CHOICES if isinstance(ours, losses.CrossEntropyLoss) else TARGETS
    nets = network(), network()
    optimizers = [AdaGGNMC(net.parameters(), lr=0.05) for net in nets]
    of_nets = zip(nets, optimizers, (lambda z: ours(z, target), theirs), strict=True)
    for net, optimizer, loss in of_nets:
        for step in range(3):
            optimizer.zero_grad()
            torch.manual_seed(step)
            loss(net(X)).backward()
            optimizer.step()
    for p, q in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(p.hess_diag, q.hess_diag, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)
