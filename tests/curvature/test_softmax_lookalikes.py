"""What looks like a softmax or a log-softmax and is none, or is more than one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hesrl.curvature import arm, hess_diag
from tests.curvature.comparison import normal


def hidden(x: Tensor) -> Tensor:
    """The identity, as an operation that no form has among its parts."""
    return x.flip(0).flip(0)


# Each looks like a softmax or a log-softmax, and is none.
IMPOSTORS: dict[str, Callable[[Tensor], Tensor]] = {
    "scaled logsumexp": lambda z: torch.sub(z, z.exp().sum(1, keepdim=True).log(), alpha=0.5),
    "sum of another": lambda z: z - (2 * z).exp().sum(1, keepdim=True).log(),
    "wrong dimension": lambda z: z - z.exp().sum(1).log(),
    "wrong dimension restored": lambda z: z - z.exp().sum(1).log().unsqueeze(0),
    "added, not subtracted": lambda z: z + z.exp().sum(1, keepdim=True).log(),
    "other maximum": lambda z: z - (2 * z).amax(1, keepdim=True),
    "maximum of the wrong dimension": lambda z: z - z.amax(1),
    "half of the maximum added": lambda z: (
        z - torch.add((z - z.amax(1, True)).logsumexp(1, True), z.amax(1, True), alpha=0.5)
    ),
    "logsumexp of other shifts": lambda z: (
        z - ((z - z.amax(1, True)).logsumexp(1, True) + z.amax(0, True))
    ),
    "quotient by the sum of another": lambda z: z.exp() / z.square().sum(1, keepdim=True),
    "quotient by the wrong sum": lambda z: z.softmax(1) / z.softmax(1).square().sum(0, True),
}


@pytest.mark.parametrize("function", IMPOSTORS.values(), ids=IMPOSTORS.keys())
def test_what_looks_like_a_form(function):
    """Beside a log-softmax, and with its parts hidden from it: the same."""
    torch.manual_seed(9)
    z, weights = normal(3, 3), normal(3, 3)

    def loss(z: Tensor, hide: Callable[[Tensor], Tensor]) -> Tensor:
        return (weights * function(hide(z))).sum() + (weights * z.log_softmax(1)).exp().sum()

    seen, unseen = z.clone().requires_grad_(), z.clone().requires_grad_()
    (actual,) = hess_diag(loss(seen, lambda x: x), [seen])
    (expected,) = hess_diag(loss(unseen, hidden), [unseen])
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("part", ["maximum", "shifted", "exp", "total", "log"])
def test_a_part_that_is_used_by_something_else_too(part):
    """No form, or one of what is left: as if the part were hidden from it."""
    torch.manual_seed(10)
    z, weights = normal(3, 4), normal(3, 4)

    def loss(z: Tensor, expected: bool) -> Tensor:
        m = z.amax(1, keepdim=True)
        u = z - m
        e = u.exp()
        total = e.sum(1, keepdim=True)
        parts = {"maximum": m, "shifted": u, "exp": e, "total": total, "log": total.log()}
        y = u - parts["log"]
        if expected:
            shifts = part in ("maximum", "shifted")
            y = hidden(u).log_softmax(1) if shifts else u - hidden(parts["log"])
        return (weights * y.exp()).sum() + parts[part].square().sum()

    seen, unseen = z.clone().requires_grad_(), z.clone().requires_grad_()
    (actual,) = hess_diag(loss(seen, False), [seen])
    (expected,) = hess_diag(loss(unseen, True), [unseen])
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-13)


def test_a_root_is_a_use():
    torch.manual_seed(11)
    z = normal(4).requires_grad_()
    arm([z])
    lse = z.logsumexp(0)
    torch.autograd.backward([(z - lse)[0], lse])
    p = z.detach().softmax(0)
    torch.testing.assert_close(z.hess_diag, torch.zeros_like(p), rtol=0, atol=1e-15)
