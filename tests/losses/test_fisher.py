"""Losses of policies with Fisher's curvature, the Hessian of the divergence from the policy."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence
from torch.func import grad, jacrev

from tests.losses.cases import CASES
from tests.losses.data import REDUCTIONS, SIZES, N, armed, assert_equal, normal

POLICIES = ("gaussian", "categorical", "multi-categorical", "bernoulli")
FISHER = [c for c in CASES if c.id.startswith(POLICIES) and "entropy" not in c.id]


def distributions(case, inputs):
    """The independent parts of the policy, each over all samples."""
    name, z = case.id.split()[0], inputs[0]
    if name == "gaussian":
        std = inputs[1].sqrt() if "variance" in case.id else inputs[1].exp()
        return [Normal(z, std.expand_as(z), validate_args=False)]
    if name == "bernoulli":
        return [Bernoulli(logits=z, validate_args=False)]
    parts = z.split(SIZES, 1) if name == "multi-categorical" else [z]
    return [Categorical(logits=part, validate_args=False) for part in parts]


def divergences(case, inputs):
    """KL(π′ ‖ π) of every sample (N,), where π′ is the policy at the inputs of the case."""
    parts = zip(distributions(case, case.inputs), distributions(case, inputs), strict=True)
    return sum(kl_divergence(*part).view(N, -1).sum(1) for part in parts)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("case", FISHER, ids=lambda case: case.id)
def test_curvature_is_that_of_the_divergence_and_the_gradient_that_of_the_loss(case, reduction):
    weights = normal(N, seed=30).exp() if reduction == "none" else torch.ones(())
    exact, fisher = armed(*case.inputs), armed(*case.inputs)
    for leaves, curvature in ((exact, "exact"), (fisher, "fisher")):
        output = case.module(reduction=reduction, curvature=curvature)(*leaves, *case.constants)
        loss = output[0] if isinstance(output, tuple) else output
        (weights * loss).sum().backward()

    by_sample = weights if reduction == "none" else 1 / N if reduction == "mean" else 1.0
    for index, (x, y) in enumerate(zip(exact, fisher, strict=True)):
        assert_equal(y.grad, x.grad)

        def divergence(z, index=index):
            inputs = (*case.inputs[:index], z, *case.inputs[index + 1 :])
            return (by_sample * divergences(case, inputs)).sum()

        z = case.inputs[index]
        hessian = jacrev(grad(divergence))(z).reshape(z.numel(), -1)
        assert_equal(y.hess_diag, hessian.diagonal().view_as(z))
    assert not torch.allclose(fisher[-1].hess_diag, exact[-1].hess_diag)


@pytest.mark.parametrize("case", FISHER, ids=lambda case: case.id)
def test_another_curvature_is_refused(case):
    with pytest.raises(ValueError, match=r"^curvature must be 'exact' or 'fisher', not 'gauss'$"):
        case.module(curvature="gauss")
