"""Cross-entropy and squared error beside torch's, with the same options and conventions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hesrl import losses
from hesrl.curvature import arm
from tests.losses.data import (
    ACTIONS,
    CHOICES,
    CLASSES,
    LOGITS,
    MEAN,
    PROBABILITIES,
    WEIGHT,
    assert_equal,
)

REDUCTIONS = ("mean", "sum", "none")


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
@pytest.mark.parametrize(
    "targets", [CHOICES, CLASSES, PROBABILITIES], ids=["classes", "some ignored", "soft"]
)
def test_cross_entropy_is_that_of_torch(targets, weight, smoothing, reduction):
    options = dict(label_smoothing=smoothing, reduction=reduction)
    ours, theirs = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    arm([ours, theirs])
    loss = losses.CrossEntropyLoss(weight, **options)(ours, targets)
    expected = F.cross_entropy(theirs, targets, weight, **options)
    assert_equal(loss, expected)
    loss.sum().backward()
    expected.sum().backward()
    assert_equal(ours.grad, theirs.grad)
    assert_equal(ours.hess_diag, theirs.hess_diag)


def test_a_soft_target_may_be_one_hot():
    soft = F.one_hot(CHOICES, 3).double()
    for ours, hard in zip(
        losses.cross_entropy(LOGITS, soft), losses.cross_entropy(LOGITS, CHOICES), strict=True
    ):
        assert_equal(ours, hard)


def test_an_ignored_target_has_no_derivatives():
    terms = losses.cross_entropy(LOGITS, CLASSES, label_smoothing=0.3, reduction="none")
    ignored = CLASSES == losses.supervised.IGNORE_INDEX
    for term in terms:
        assert torch.equal((term.view(len(LOGITS), -1) == 0).all(1), ignored)


def test_if_all_targets_are_ignored_a_mean_is_nan_as_in_torch():
    targets = torch.full_like(CHOICES, -100)
    assert losses.CrossEntropyLoss()(LOGITS, targets).isnan()
    assert F.cross_entropy(LOGITS, targets).isnan()
    assert losses.CrossEntropyLoss(reduction="sum")(LOGITS, targets) == 0


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_mean_squared_error_is_that_of_torch(reduction):
    """Without reduction, torch has a loss for every entry, not for every sample."""
    loss = losses.MSELoss(reduction)(MEAN, ACTIONS)
    expected = F.mse_loss(MEAN, ACTIONS, reduction=reduction)
    assert_equal(loss, expected.sum(1) if reduction == "none" else expected)


def test_gaussian_nll_is_that_of_torch_but_for_what_a_mean_divides_by():
    variance = PROBABILITIES + 0.5
    loss = losses.GaussianNLLLoss("sum", scale="variance")(MEAN, variance, ACTIONS)
    assert_equal(loss, nn.GaussianNLLLoss(full=True, reduction="sum")(MEAN, ACTIONS, variance))


def test_the_class_weights_move_and_are_saved_with_the_module():
    module = losses.CrossEntropyLoss(WEIGHT)
    assert list(module.state_dict()) == ["weight"]
    assert module.float().weight.dtype == torch.float32
