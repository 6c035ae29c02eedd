"""Samples of gamma, beta and Dirichlet distributions against their definition in many digits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Beta, Dirichlet, Gamma, StudentT

from hesrl.curvature import arm
from hesrl.curvature.rules.reparameterization import _CHUNK, _beta, _gamma, _in_chunks
from tests import reference
from tests.curvature.implicit import beta_distribution, gamma_distribution, second_derivatives
from tests.curvature.rows.reparameterization import CONCENTRATION, by_expansion, sample
from tests.curvature.seeding import grad_and_hess, node_names


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(actual, expected, rtol):
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=0)


@pytest.mark.parametrize("a", [0.003, 0.03, 0.3, 1.0, 3.0, 80.0, 1000.0])
def test_gamma(a):
    torch.manual_seed(0)
    a = torch.full((60,), a, dtype=torch.float64)
    x = torch._standard_gamma(a).sort().values[::8]
    close(_in_chunks(_gamma, a[:8], x), second_derivatives(gamma_distribution, x, a[:8]), 1e-9)


@pytest.mark.parametrize(
    ("a", "b"),
    [(0.05, 0.05), (0.03, 10), (10, 0.03), (1, 1), (0.9, 3), (30, 20), (5, 500), (0.5, 500)],
)
def test_beta(a, b):
    torch.manual_seed(1)
    a, of_b = torch.full((60,), a, dtype=torch.float64), torch.full((60,), b, dtype=torch.float64)
    x = Beta(a, of_b).sample()
    x = x[x < 1 - 1e-6].sort().values[::9]
    a, of_b, expected = a[: len(x)], of_b[: len(x)], beta_distribution(b)
    expected = second_derivatives(expected, x, a)
    close(_in_chunks(_beta, a, of_b, x, 1 - x), expected, 1e-10)


def test_many_samples_are_integrated_piece_by_piece():
    a = torch.linspace(0.1, 10, 2 * _CHUNK + 3, dtype=torch.float64)
    x = torch.linspace(10, 0.1, len(a), dtype=torch.float64)
    some = torch.tensor([0, _CHUNK - 1, _CHUNK, len(a) - 1])
    whole = _in_chunks(_gamma, a, x)
    close(whole[some], _in_chunks(_gamma, a[some], x[some]), 1e-14)


CONCENTRATIONS = {
    "dirichlet": [[0.4, 2.0, 1.1], [5.0, 0.2, 30.0]],
    "two entries": [[0.5, 0.5], [3.0, 0.9]],
    "one dimension": [0.8, 1.7, 2.0, 0.3],
}


@pytest.mark.parametrize("name", CONCENTRATIONS)
def test_dirichlet_is_the_definition(name):
    """Each x_j is a beta sample, and the other entries share the rest as they did before."""
    a = column(*CONCENTRATIONS[name])
    inputs = a.clone().requires_grad_()
    arm([inputs])
    torch.manual_seed(2)
    x = Dirichlet(inputs).rsample()
    assert "_DirichletBackward" in node_names(x)
    grad_out, hess_out = grad_and_hess(x)
    x = x.detach()
    slope = torch._dirichlet_grad(x, a, a.sum(-1, keepdim=True).expand_as(a))
    others = [beta_distribution(b) for b in (a.sum(-1, keepdim=True) - a).flatten().tolist()]
    second = second_derivatives(others, x, a) / (1 - x)

    def by_expansion(values: Tensor) -> Tensor:
        step = values - a
        moved = slope * step + 0.5 * second * step**2
        return x + moved - x * moved.sum(-1, keepdim=True)

    expected = reference.hesscale(by_expansion, [a], 0, grad_out, hess_out)
    torch.testing.assert_close(inputs.hess_diag, expected, rtol=1e-10, atol=1e-12)


def test_a_loss_with_the_concentration_beside_its_sample_is_exact():
    """It is one elementwise operation."""

    def loss(a: Tensor, x: Tensor) -> Tensor:
        return Gamma(a, 1.0, validate_args=False).log_prob(x).exp().sum()

    inputs = CONCENTRATION.clone().requires_grad_()
    arm([inputs])
    loss(inputs, sample(inputs)).backward()
    (expected,) = reference.hess_diag(lambda a: loss(a, by_expansion(a)), CONCENTRATION)
    torch.testing.assert_close(inputs.hess_diag, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("distribution", "least"),
    [(Gamma, 1e-3), (Beta, 1e-3), (Dirichlet, 1e-3), (Gamma, 0.5), (Beta, 0.5), (StudentT, 5.0)],
)
def test_a_policys_loss_is_finite_where_samples_underflow(distribution, least, dtype):
    torch.manual_seed(3)
    params = [(least + torch.rand(200, 3, dtype=dtype)).requires_grad_() for _ in range(2)]
    params = params if distribution in (Gamma, Beta) else params[:1]
    params[0].data[:100] = least
    arm(params)
    distribution(*params).rsample().clamp(1e-6, 0.9).square().sum().backward()
    for p in params:
        assert p.grad.isfinite().all()
        assert p.hess_diag.isfinite().all() and p.hess_diag.abs().sum() > 0
