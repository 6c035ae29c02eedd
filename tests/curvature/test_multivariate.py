"""Multivariate normal distributions, by their factor, covariance or precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import LowRankMultivariateNormal, MultivariateNormal

from hesrl.curvature import arm
from tests import reference
from tests.curvature.rows.linalg import lower, symmetric
from tests.curvature.rows.row import normal, positive

BY = ("scale_tril", "covariance_matrix", "precision_matrix")
VALUE = torch.tensor([0.3, -1.2, 0.8], dtype=torch.float64)


def draw(by: str) -> Tensor:
    a = lower(2, 3, 3) if by == "scale_tril" else symmetric(2, 3, 3)
    if by == "scale_tril":
        a.diagonal(dim1=-2, dim2=-1).abs_()
    return a


def check(function, *values):
    """``hess_diag`` of the loss is the exact diagonal."""
    inputs = [x.clone().requires_grad_() for x in values]
    arm(inputs)
    function(*inputs).backward()
    expected = reference.hess_diag(function, *values)
    for x, hess in zip(inputs, expected, strict=True):
        torch.testing.assert_close(x.hess_diag, hess, rtol=1e-10, atol=1e-12)
        assert hess.abs().sum() > 0


def test_log_prob_is_exact_by_its_factor():
    """The Hessian at ``L⁻¹ (x − μ)`` is diagonal."""
    torch.manual_seed(0)

    def loss(loc: Tensor, scale_tril: Tensor) -> Tensor:
        return (
            MultivariateNormal(loc, scale_tril=scale_tril, validate_args=False)
            .log_prob(VALUE)
            .sum()
        )

    check(loss, normal(2, 3), draw("scale_tril"))


@pytest.mark.parametrize("by", BY)
def test_entropy_is_exact(by):
    """It is a sum over the diagonal of the factor."""
    torch.manual_seed(1)
    loc = normal(2, 3)
    check(
        lambda a: MultivariateNormal(loc, **{by: a}, validate_args=False).entropy().sum(), draw(by)
    )


def test_a_sample_is_exact_by_its_factor():
    torch.manual_seed(2)

    def loss(loc: Tensor, scale_tril: Tensor) -> Tensor:
        torch.manual_seed(3)
        normal = MultivariateNormal(loc, scale_tril=scale_tril, validate_args=False)
        return normal.rsample((4,)).sin().sum()

    check(loss, normal(2, 3), draw("scale_tril"))


def log_prob(distribution) -> Tensor:
    return distribution.log_prob(VALUE).sum()


def entropy(distribution) -> Tensor:
    return distribution.entropy().sum()


def sample(distribution) -> Tensor:
    return distribution.rsample((4,)).square().sum()


@pytest.mark.parametrize("of", [log_prob, entropy, sample])
@pytest.mark.parametrize("by", [*BY, "low rank"])
def test_every_operation_has_a_rule(by, of):
    torch.manual_seed(4)
    loc = normal(2, 3)
    params = [normal(2, 3, 2), positive(2, 3)] if by == "low rank" else [draw(by)]
    inputs = [loc, *params]
    arm(x.requires_grad_() for x in inputs)
    if by == "low rank":
        distribution = LowRankMultivariateNormal(*inputs)
    else:
        distribution = MultivariateNormal(loc, **{by: params[0]})
    of(distribution).backward()
    for x in inputs if of is not entropy else params:
        assert x.hess_diag.isfinite().all() and x.hess_diag.abs().sum() > 0
