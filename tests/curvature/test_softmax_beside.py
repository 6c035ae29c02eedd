"""A softmax and a log-softmax of the same logits, as entropies are written by hand: exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hesrl.curvature import arm, explain
from tests import reference
from tests.curvature.comparison import normal

Q = torch.tensor([[0.5, -1.0, 2.0, 0.3], [1.0, 0.2, -0.7, 0.1], [0.0, 1.5, 0.4, -2.0]]).double()


def softmax_first(z: Tensor) -> Tensor:
    p = z.softmax(-1)
    return (p * (0.2 * z.log_softmax(-1) - Q)).sum(-1).mean()


def log_softmax_first(z: Tensor) -> Tensor:
    log_p = z.log_softmax(1)
    return (z.softmax(1) * (0.2 * log_p - Q)).sum(-1).mean()


def several(z: Tensor) -> Tensor:
    """Two softmaxes, one of them over another dimension, and a log-softmax used by itself too."""
    p, columns, log_p = z.softmax(1), z.softmax(0), z.log_softmax(1)
    return (p * log_p).sum() - (z.softmax(1).square() * log_p.exp()).sum() + columns.sum()


def with_nll(z: Tensor) -> Tensor:
    p, log_p = z.softmax(1), z.log_softmax(1)
    return torch.nn.functional.nll_loss(log_p, torch.tensor([0, 3, 1])) + (p * log_p).mean()


LOSSES = [softmax_first, log_softmax_first, several, with_nll]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_exact_at_the_logits(loss: Callable[[Tensor], Tensor]):
    torch.manual_seed(0)
    z = normal(3, 4)
    for _ in range(2):
        logits = z.clone().requires_grad_()
        arm([logits])
        loss(logits).backward()
        (exact,) = reference.hess_diag(loss, z)
        torch.testing.assert_close(logits.hess_diag, exact, rtol=1e-12, atol=1e-13)


def test_extreme_logits_leave_finite_curvature():
    z = torch.tensor([[0.0, 300.0, -300.0], [200.0, 0.0, 0.0]], requires_grad=True)
    arm([z])
    (z.softmax(1) * z.log_softmax(1)).sum().backward()
    assert z.hess_diag.isfinite().all()


def test_a_checkpoint_reads_saved_tensors_once():
    torch.manual_seed(1)
    z = normal(3, 4).requires_grad_()
    arm([z])
    torch.utils.checkpoint.checkpoint(softmax_first, z, use_reentrant=False).backward()
    (exact,) = reference.hess_diag(softmax_first, z.detach())
    torch.testing.assert_close(z.hess_diag, exact)


def test_explain_names_the_pair(capsys):
    z = normal(3, 4).requires_grad_()
    explain(softmax_first(z), [z])
    out = capsys.readouterr().out
    assert "rules.softmax_group.common_log_softmax" in out
