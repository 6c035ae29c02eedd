"""The value losses: when the clip stops a value, rounding, and Huber's kink."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hesrl.losses import HuberValueLoss, ValueLoss, huber_value_loss, value_loss
from tests.losses.data import CLIP, assert_equal, normal


def value_inputs(n=60):
    """Values V, returns and V_old, of which some V lie within ±CLIP of V_old and others not."""
    returns, old_values, change = normal(3, n, seed=0)
    return old_values + 0.3 * change, returns, old_values


def test_a_value_moves_unless_the_clipped_error_is_larger():
    values, returns, old_values = value_inputs()
    terms = value_loss(values, returns, old_values, CLIP)
    change = values - old_values
    clipped = old_values + change.clamp(-CLIP, CLIP)
    outside, worse = change.abs() > CLIP, (clipped - returns).abs() > (values - returns).abs()
    for case in (outside & worse, outside & ~worse, change > CLIP, change < -CLIP, ~outside):
        assert case.sum() > 5
    assert_equal(terms.hess, (~(outside & worse)).double() / 60)


def test_rounding_within_the_clip_does_not_stop_a_value():
    values, returns, old_values = (x.float() for x in value_inputs(n=100_000))
    change = values - old_values
    inside = change.abs() <= CLIP
    rounded = old_values + change - returns
    assert (rounded.abs() > (values - returns).abs())[inside].any()
    assert (value_loss(values, returns, old_values, CLIP).hess[inside] > 0).all()


def test_at_the_clip_itself_a_value_moves():
    """V − V_old is ε to the last bit, and V has the larger error on one side only."""
    values, returns = torch.tensor([0.25, 0.25]), torch.tensor([1.0, -1.0])
    terms = value_loss(values, returns, torch.zeros(2), 0.25, "none")
    assert terms.hess.tolist() == [1.0, 1.0]
    assert terms.grad.tolist() == [-0.75, 1.25]


def test_old_values_do_not_matter_without_a_clip():
    values, returns, old_values = value_inputs()
    assert torch.equal(ValueLoss()(values, returns), ValueLoss()(values, returns, old_values))


def test_old_values_are_needed_for_the_clip():
    values, returns, _ = value_inputs()
    with pytest.raises(ValueError, match=r"^old_values are missing: the clipped value loss starts"):
        ValueLoss(CLIP)(values, returns)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_huber_is_that_of_torch(reduction):
    values, returns, _ = value_inputs()
    expected = F.huber_loss(values, returns, reduction=reduction, delta=0.4)
    assert_equal(HuberValueLoss(0.4, reduction)(values, returns), expected)


def test_huber_at_its_kinks():
    """The slope of either side is the same; the curvature is that of the straight line."""
    values = torch.tensor([-0.5, 0.0, 0.5])
    terms = huber_value_loss(values, torch.zeros(3), 0.5, "none")
    assert terms.grad.tolist() == [-0.5, 0.0, 0.5]
    assert terms.hess.tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("clip_coef", [None, CLIP])
def test_nan_in_the_data_reaches_loss_and_gradient(clip_coef):
    values, returns, old_values = value_inputs()
    returns[7] = torch.nan
    terms = value_loss(values, returns, old_values, clip_coef)
    assert terms.loss.isnan()
    assert terms.grad[7].isnan()
    terms = huber_value_loss(values, returns)
    assert terms.loss.isnan()
    assert terms.grad[7].isnan()
