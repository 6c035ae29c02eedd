"""Softmax and log-softmax of the same logits in any spelling are one operation: exact."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hesrl.curvature import Method, arm, explain, hess_diag
from tests import reference
from tests.curvature import distribution_spellings
from tests.curvature import softmax_spellings as written
from tests.curvature.comparison import normal

Pair = tuple[Tensor, Tensor]
SPELLINGS = [*written.SPELLINGS, *distribution_spellings.SPELLINGS]
each_spelling = pytest.mark.parametrize("loss", SPELLINGS, ids=lambda loss: loss.__name__)
each_method = pytest.mark.parametrize("method", ["hesscale", "hesscale_gn", "bl89"])


def assert_exact(
    loss: Callable[[Tensor], Tensor],
    z: Tensor,
    run: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor] = lambda loss, z: loss(z),
) -> None:
    """Check the curvature at the logits twice, and that the gradient is the native one."""
    logits = z.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(logits), [logits])
    (exact,) = reference.hess_diag(loss, z)
    for _ in range(2):
        logits = z.clone().requires_grad_()
        arm([logits])
        run(loss, logits).backward()
        assert torch.equal(logits.grad, grad)
        atol = 1e-12 * exact.abs().max().item() + 1e-15 * grad.abs().max().item()
        torch.testing.assert_close(logits.hess_diag, exact, rtol=1e-12, atol=atol)


@each_spelling
def test_exact_at_the_logits(loss):
    torch.manual_seed(0)
    assert_exact(loss, normal(3, 4))


@each_spelling
def test_exact_at_large_logits(loss):
    z = torch.tensor([[50, -50, 0, 3], [-50, -50, -40, 49], [1, 50, -50, 50]]).double()
    assert_exact(loss, z)


@each_spelling
def test_exact_at_the_last_layer(loss):
    torch.manual_seed(1)
    net, x = nn.Linear(2, 4).double(), normal(3, 2)
    exact = reference.module_hess_diag(net, lambda net: loss(net(x)))
    actual = hess_diag(loss(net(x)), dict(net.named_parameters()))
    torch.testing.assert_close(actual, exact, rtol=1e-12, atol=1e-13)


@each_spelling
def test_in_a_checkpoint_where_saved_tensors_are_read_once(loss):
    torch.manual_seed(2)
    assert_exact(loss, normal(3, 4), partial(checkpoint, use_reentrant=False))


def native(z: Tensor, dim: int) -> Pair:
    return z.softmax(dim), z.log_softmax(dim)


def log_softmax_first(z: Tensor, dim: int) -> Pair:
    y = z.log_softmax(dim)
    return z.softmax(dim), y


def by_hand(z: Tensor, dim: int) -> Pair:
    u = z - z.max(dim, keepdim=True).values
    e = u.exp()
    total = e.sum(dim, keepdim=True)
    return e / total, -(total.log() - u)


def negative_alone(z: Tensor, dim: int) -> Pair:
    """Of the logarithm there is only the negative, from which the quotient follows."""
    u = z - z.amax(dim, keepdim=True)
    negative = u.exp().sum(dim).log().unsqueeze(dim) - u
    return u.exp() / u.exp().sum(dim).unsqueeze(dim), -negative


def categorical(z: Tensor, dim: int) -> Pair:
    y = z - z.logsumexp(dim, keepdim=True)
    return y.softmax(dim), y


def by_probabilities(z: Tensor, dim: int) -> Pair:
    p = z.softmax(dim)
    p = p / p.sum(dim, keepdim=True)
    return p, p.log()


def by_log_probabilities(z: Tensor, dim: int) -> Pair:
    y = z.log_softmax(dim)
    y2 = y - y.logsumexp(dim, keepdim=True)
    return y2.exp(), y2.log_softmax(dim)


PAIRS = [
    native,
    log_softmax_first,
    by_hand,
    negative_alone,
    categorical,
    by_probabilities,
    by_log_probabilities,
]
each_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.__name__)


@each_pair
@pytest.mark.parametrize(
    ("shape", "dim"),
    [((5, 1), 1), ((1, 4), 1), ((1, 1), 0), ((3, 4), 0), ((4,), 0), ((2, 3, 4), 1), ((2, 3), -1)],
    ids=str,
)
def test_every_shape(pair, shape, dim):
    torch.manual_seed(3)
    weights, others = normal(*shape), normal(*shape)

    def loss(z: Tensor) -> Tensor:
        p, y = pair(z, dim)
        return (weights * p * (y - others)).sum() + (others * y).sum() + p.square().mean()

    assert_exact(loss, normal(*shape))


@pytest.mark.parametrize("dims", [(0, 1), (0,), (1, 2), None], ids=str)
def test_several_dimensions(dims):
    """Leading dimensions need not be kept, and the sum over all dimensions has none."""
    torch.manual_seed(4)
    weights = normal(2, 3, 4)

    def loss(z: Tensor) -> Tensor:
        keep = dims == (1, 2)
        e = z.exp()
        total = e.sum() if dims is None else e.sum(dims, keepdim=keep)
        lse = z.logsumexp((0, 1, 2) if dims is None else dims, keepdim=keep)
        return (weights * (e / total) * (z - lse)).sum() + ((z - total.log()) * weights).sum()

    assert_exact(loss, normal(2, 3, 4))


@each_method
@each_pair
def test_every_spelling_is_the_same_below_a_layer_by_every_method(pair, method: Method):
    """The native pair is held against recursions in `test_recursion_mlp`."""
    torch.manual_seed(5)
    z, weights = normal(3, 4), normal(4, 2)

    def computed(pair: Callable[[Tensor, int], Pair]) -> Tensor:
        logits, matrix = z.clone().requires_grad_(), weights.clone().requires_grad_()
        arm([logits, matrix], method)
        p, y = pair(logits, 1)
        ((p * y + p) @ matrix).square().sum().backward()
        return logits.hess_diag

    torch.testing.assert_close(computed(pair), computed(native), rtol=1e-12, atol=1e-13)


def test_bl89_has_the_own_diagonal_entries_of_the_jacobian():
    torch.manual_seed(6)
    z, weights = normal(3, 4), normal(3, 4)
    p = z.softmax(1)

    def of_own_entry(x: Tensor) -> Tensor:
        """The loss of p_j and y_j as functions of z_j, of slopes p (1 − p) and 1 − p."""
        others = z.exp().sum(1, keepdim=True) - z.exp()
        y = x - (x.exp() + others).log()
        return (weights * y.exp() * y).sum()

    for pair in PAIRS:
        logits = z.clone().requires_grad_()
        p, y = pair(logits, 1)
        (h,) = hess_diag((weights * p * y).sum(), [logits], "bl89")
        torch.testing.assert_close(h, reference.hess_diag(of_own_entry, z)[0])


def test_forms_over_different_dimensions_are_different_operations():
    torch.manual_seed(7)
    weights = normal(3, 4)
    assert_exact(
        lambda z: (weights * z.log_softmax(0)).sum() + (weights * z.log_softmax(1)).sum(),
        normal(3, 4),
    )


def test_with_a_q_that_requires_a_gradient():
    torch.manual_seed(8)
    z, q = normal(3, 4).requires_grad_(), normal(3, 4).requires_grad_()

    def sac(z: Tensor, q: Tensor) -> Tensor:
        return (z.softmax(1) * (0.2 * z.log_softmax(1) - q.square())).sum()

    exact = reference.hess_diag(sac, z.detach(), q.detach())
    torch.testing.assert_close(hess_diag(sac(z, q), [z, q]), exact, rtol=1e-12, atol=1e-13)


def test_explain_names_the_forms(capsys):
    z = normal(3, 4).requires_grad_()
    explain(written.baselines_entropy(z), [z])
    out = capsys.readouterr().out
    assert "rules.softmax_group.common_negative" in out
    assert "rules.softmax_group.exp_of_log_softmax" in out
    assert "MaxBackward0" not in out
