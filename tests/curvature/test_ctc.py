"""Connectionist temporal classification of a log-softmax is exact at the logits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hesrl.curvature import hess_diag
from tests import reference
from tests.curvature.rows.ctc import IMPOSSIBLE, TARGETS, by_alignments, ctc, logits

FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda z: z.log_softmax(-1),
    "batch first": lambda z: z.transpose(0, 1).log_softmax(2).transpose(0, 1),
    "permuted": lambda z: z.permute(2, 1, 0).log_softmax(0).permute(2, 1, 0),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_at_the_logits(form, reduction):
    torch.manual_seed(0)
    z = logits()[0].requires_grad_()
    loss = ctc(IMPOSSIBLE, reduction=reduction, zero_infinity=True)(FORMS[form](z))
    (h,) = hess_diag(loss.exp(), [z])

    def definition(z: Tensor) -> Tensor:
        return by_alignments(z.log_softmax(-1), IMPOSSIBLE, reduction, 0.0).exp()

    (expected,) = reference.hess_diag(definition, z.detach())
    torch.testing.assert_close(h, expected, rtol=1e-10, atol=1e-12)


def test_a_log_softmax_that_is_used_elsewhere_has_its_own_rule():
    torch.manual_seed(1)
    z = logits()[0].requires_grad_()
    y = z.log_softmax(-1)
    loss = ctc(TARGETS, reduction="sum")(y) + y.exp().sum()
    (h,) = hess_diag(loss, [z])
    (apart,) = hess_diag(ctc(TARGETS, reduction="sum")(z.log_softmax(-1).clone()), [z])
    torch.testing.assert_close(h, apart, rtol=1e-10, atol=1e-10)


def test_one_sequence():
    torch.manual_seed(2)
    z = logits()[0][:, 1].requires_grad_()
    loss = F.ctc_loss(z.log_softmax(-1), torch.tensor([0, 2]), (4,), (2,), 1, "sum")
    (h,) = hess_diag(loss, [z])

    def definition(z: Tensor) -> Tensor:
        y = z.log_softmax(-1).unsqueeze(1).expand(4, 4, 3)
        return by_alignments(y, TARGETS, "none", 0.0)[1]

    (expected,) = reference.hess_diag(definition, z.detach())
    torch.testing.assert_close(h, expected, rtol=1e-10, atol=1e-12)
