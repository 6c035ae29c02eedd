"""Saturated outputs: no NaN, and what the limit says."""

from __future__ import annotations

import math

import pytest
import torch

from hesrl import losses
from hesrl.curvature import arm

INF = math.inf
SATURATED = torch.tensor(
    [[1e4, 0.0, -1e4], [-1e30, 0.0, 1e30], [50.0, -50.0, 50.0], [0.0, 800.0, 0.0]]
)
MASKED = torch.tensor([[0.3, -INF, -0.2], [-INF, 2.0, -INF], [0.1, 0.2, -INF], [1.0, 1.0, 1.0]])
"""Rows of logits in which −∞ stands for an action that cannot be taken."""
TAKEN = torch.tensor([2, 1, 0, 1])
ADVANTAGES = torch.tensor([1.0, -1.0, 0.5, 2.0])
OLD = torch.tensor([-0.5, -0.1, -0.7, -1.0])

OF_LOGITS = {
    "a2c": (losses.CategoricalA2CLoss("none"), (TAKEN, ADVANTAGES)),
    "ppo": (losses.CategoricalSurrogateLoss(0.2, "none"), (TAKEN, OLD, ADVANTAGES)),
    "entropy": (losses.CategoricalEntropyBonus(0.1, "none"), ()),
    "cross-entropy": (losses.CrossEntropyLoss(reduction="none"), (TAKEN,)),
}


def derivatives(loss, logits, constants):
    """Loss, gradient, curvature, and the Hessian times a vector of ones."""
    x = logits.clone().requires_grad_()
    arm([x])
    output = loss(x, *constants)
    value = output[0] if isinstance(output, tuple) else output
    value.sum().backward(create_graph=True)
    (product,) = torch.autograd.grad(x.grad.sum(), x)
    terms = value.detach(), x.grad.detach(), x.hess_diag, product
    x.grad = None
    return terms


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", OF_LOGITS)
@pytest.mark.parametrize("logits", [SATURATED, MASKED], ids=["saturated", "masked"])
def test_saturated_logits_give_no_nan(name, logits, dtype):
    loss, constants = OF_LOGITS[name]
    constants = [x.to(dtype) if x.is_floating_point() else x for x in constants]
    for term in derivatives(loss, logits.to(dtype), constants):
        assert term.dtype == dtype
        assert not term.isnan().any()


@pytest.mark.parametrize("name", OF_LOGITS)
def test_an_action_that_cannot_be_taken_has_no_derivatives(name):
    """The others have those of a policy without it."""
    loss, constants = OF_LOGITS[name]
    form = type(loss).operation.__self__.form
    settings = {"ppo": (0.2,), "entropy": (0.1,), "cross-entropy": (None,)}.get(name, ())
    masked = form(MASKED[2:3].double(), *(c[2:3] for c in constants), *settings, reduction="sum")
    without = form(
        MASKED[2:3, :2].double(), *(c[2:3] for c in constants), *settings, reduction="sum"
    )
    assert (masked[-1][:, 2] == 0).all()
    assert (masked[-2][:, 2] == 0).all()
    for ours, expected in zip((masked[-1], masked[-2]), (without[-1], without[-2]), strict=True):
        torch.testing.assert_close(ours[:, :2], expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(masked[0], without[0], rtol=1e-12, atol=0)


def test_a_certain_class_is_flat():
    terms = losses.cross_entropy(SATURATED[:1], torch.tensor([0]))
    assert all(term.count_nonzero() == 0 for term in terms)


def test_a_soft_target_without_mass_on_an_impossible_class():
    target = torch.tensor([[0.5, 0.5, 0.0]])
    terms = losses.cross_entropy(MASKED[2:3], target)
    assert all(term.isfinite().all() for term in terms)
    assert terms.hess[0, 2] == 0


def test_a_variance_close_to_zero():
    mean, x = torch.zeros(1, 1, dtype=torch.float64), torch.full((1, 1), 1e-6, dtype=torch.float64)
    variance = torch.full((1, 1), 1e-12, dtype=torch.float64).requires_grad_()
    arm([variance])
    losses.GaussianNLLLoss(scale="variance")(mean, variance, x).backward()
    torch.testing.assert_close(variance.hess_diag.item(), 0.5e24, rtol=1e-9, atol=0)


CERTAIN = torch.tensor([[INF, -INF, 0.3], [-INF, 1e4, 800.0], [1e30, -1e30, 0.0], [-1e4, 0.0, INF]])
"""Rows of logits of bits; ±∞ is a bit that is certain."""
DRAWN = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 0, 0], [0, 0, 1]])
OF_BITS = {
    "a2c": (losses.BernoulliA2CLoss("none"), (DRAWN, ADVANTAGES)),
    "ppo": (losses.BernoulliSurrogateLoss(0.2, "none"), (DRAWN, OLD, ADVANTAGES)),
    "entropy": (losses.BernoulliEntropyBonus(0.1, "none"), ()),
}


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", OF_BITS)
def test_bits_that_are_certain_are_flat(name, dtype):
    loss, constants = OF_BITS[name]
    constants = [x.to(dtype) if x.is_floating_point() else x for x in constants]
    value, grad, hess, _ = derivatives(loss, CERTAIN.to(dtype), constants)
    assert value.dtype == grad.dtype == hess.dtype == dtype
    assert value.isfinite().all()
    for term in (grad, hess):
        assert term.isfinite().all() and (term[CERTAIN.isinf()] == 0).all()
