"""Random programs of softmaxes and log-softmaxes in all spellings, made of each other: exact."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hesrl.curvature import arm
from tests import reference
from tests.curvature.outputs import fixed

Make = Callable[[Tensor, int], Tensor]


def logsumexp(u: Tensor, dim: int) -> Tensor:
    m = u.amax(dim, keepdim=True)
    return m + (u - m).exp().sum(dim, keepdim=True).log()


def quotient(u: Tensor, dim: int) -> Tensor:
    e = u.exp()
    return e / e.sum(dim, keepdim=True)


# Of logits or of a log-softmax: what gives a log-softmax, and what gives a softmax.
LOG_SOFTMAXES: list[Make] = [
    torch.log_softmax,
    lambda u, dim: u - u.logsumexp(dim, keepdim=True),
    lambda u, dim: u - u.logsumexp(dim).unsqueeze(dim),
    lambda u, dim: u - u.exp().sum(dim, keepdim=True).log(),
    lambda u, dim: u - u.exp().sum(dim).unsqueeze(dim).log(),
    lambda u, dim: u - logsumexp(u, dim),
    lambda u, dim: -(u.logsumexp(dim, keepdim=True) - u),
    lambda u, dim: u.softmax(dim).log(),
]
SOFTMAXES: list[Make] = [
    torch.softmax,
    quotient,
    lambda u, dim: u.exp() / u.exp().sum(dim).unsqueeze(dim),
    lambda u, dim: (lambda p: p / p.sum(dim, keepdim=True))(u.softmax(dim)),
    lambda u, dim: u.log_softmax(dim).exp(),
]
SHIFTS: list[Make] = [
    lambda u, dim: u,
    lambda u, dim: u - u.max(dim, keepdim=True).values,
    lambda u, dim: u - u.amax(dim).unsqueeze(dim),
    lambda u, dim: u - u.max(),
    lambda u, dim: u - u.max(dim, keepdim=True).values.detach(),
]
OF_ANY = [torch.sin, torch.tanh, torch.square, lambda x: x]
OF_SOFTMAX = [
    *OF_ANY,
    torch.log,
    torch.sqrt,
    lambda p: p.clamp(0.1, 0.6),
    lambda p: (p + 0.1).log(),
]


def program(seed: int) -> Callable[[Tensor], Tensor]:
    """Return a loss that is a sum of elementwise functions of softmaxes of the same logits."""
    constants = [fixed(3, 4, seed=1000 * seed + i) for i in range(8)]

    def loss(z: Tensor) -> Tensor:
        draw = random.Random(seed)
        dim = draw.choice([0, 1, -1])
        logits = draw.choice(SHIFTS)(z, dim)
        logs, softmaxes = [], []
        for _ in range(draw.randint(2, 5)):
            u = draw.choice([logits, logits, *logs])
            kind = draw.random()
            if kind < 0.45:
                logs.append(draw.choice(LOG_SOFTMAXES)(draw.choice(SHIFTS[:4])(u, dim), dim))
            elif kind < 0.8 or not softmaxes:
                softmaxes.append(draw.choice(SOFTMAXES)(draw.choice(SHIFTS[:4])(u, dim), dim))
            else:
                p = draw.choice(softmaxes)
                softmaxes.append(p / p.sum(dim, keepdim=True))
        terms = []
        for constant in constants[: draw.randint(1, 4)]:
            term = constant
            for _ in range(draw.randint(1, 3)):
                if logs and (draw.random() < 0.5 or not softmaxes):
                    term = term * draw.choice(OF_ANY)(draw.choice(logs))
                else:
                    term = term * draw.choice(OF_SOFTMAX)(draw.choice(softmaxes))
            terms.append(term.sum())
        return torch.stack(terms).sum()

    return loss


@pytest.mark.parametrize("seed", range(200))
def test_exact(seed):
    loss, z = program(seed), 2 * fixed(3, 4, seed=seed)
    logits = z.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(logits), [logits])
    arm([logits])
    loss(logits).backward()
    assert torch.equal(logits.grad, grad)
    (exact,) = reference.hess_diag(loss, z)
    scale = exact.abs().max().item() + grad.abs().max().item()
    torch.testing.assert_close(logits.hess_diag, exact, rtol=1e-12, atol=1e-12 * scale)
