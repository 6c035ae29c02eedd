"""Operations in place on views, of which only assignment and addition have a rule."""

from __future__ import annotations

import pytest
import torch

from hesrl.curvature import MissingRuleError, arm

CHANGES = {
    "subtract": lambda view, v: view.sub_(v),
    "multiply": lambda view, v: view.mul_(v),
    "scale": lambda view, v: view.mul_(2.0),
    "negate": lambda view, v: view.neg_(),
    "exp": lambda view, v: view.exp_(),
    "square at 0": lambda view, v: view.zero_().square_(),
    "cumsum": lambda view, v: view.cumsum_(1),
    "matrix product": lambda view, v: view.addmm_(v[:, :2], torch.eye(2), beta=0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_any_other_change_of_a_view_is_refused(name):
    torch.manual_seed(0)
    x, v = torch.randn(2, 4, requires_grad=True), torch.randn(2, 2, requires_grad=True)
    arm([x, v])
    y = x.clone()
    CHANGES[name](y[:, 1:3], v)
    with pytest.raises(
        MissingRuleError, match=r"CopySlices \(output of shape \(2, 4\)\).*assign them"
    ):
        y.square().sum().backward()


def test_statistics_that_a_normalisation_returns_have_no_curvature_rule():
    x = torch.randn(2, 4, 3, requires_grad=True)
    arm([x])
    y, mean, _ = torch.native_group_norm(x, None, None, 2, 4, 3, 2, 1e-5)
    with pytest.raises(NotImplementedError, match="NativeGroupNormBackward0"):
        (y.sum() + mean.square().sum()).backward()
