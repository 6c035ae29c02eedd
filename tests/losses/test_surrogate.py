"""PPO's surrogate: where it is flat, at the clip itself, overflowing ratios, its log-ratio."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from hesrl.curvature import arm
from hesrl.curvature.rules.ties import SHARED
from hesrl.losses import (
    GaussianEntropyBonus,
    GaussianSurrogateLoss,
    SurrogateLoss,
    ValueLoss,
    gaussian_surrogate,
    surrogate,
)
from tests.losses.data import (
    CLIP,
    armed,
    assert_equal,
    log_density,
    normal,
    plain_surrogate,
    plain_value_loss,
)

LOG_RATIOS = (-3.0, -0.3, -0.1, 0.0, 0.1, 0.3, 3.0)
ADVANTAGES = (1.5, 0.0, -0.7)


def surrogate_inputs(log_std_shape=(1, 3)):
    """Every log-ratio with every advantage, K = 3; the first sample lies far from its mean."""
    logratio, advantages = torch.cartesian_prod(
        torch.tensor(LOG_RATIOS, dtype=torch.float64), torch.tensor(ADVANTAGES, dtype=torch.float64)
    ).unbind(1)
    mean, actions = normal(2, len(logratio), 3, seed=0)
    actions[0] += 5
    log_std = normal(*log_std_shape, seed=1)
    logprobs = Normal(mean, log_std.exp().expand_as(mean)).log_prob(actions).sum(-1)
    return mean, log_std, actions, logprobs - logratio, advantages


def test_it_is_flat_exactly_where_it_is_clipped():
    inputs = surrogate_inputs((21, 3))
    terms, advantages = gaussian_surrogate(*inputs, CLIP), inputs[-1]
    logratio = torch.tensor(LOG_RATIOS, dtype=torch.float64).repeat_interleave(len(ADVANTAGES))
    assert_equal(terms.logratio, logratio)
    ratio = logratio.exp()
    flat = ((advantages > 0) & (ratio > 1 + CLIP)) | ((advantages < 0) & (ratio < 1 - CLIP))
    flat |= advantages == 0
    assert flat.sum() == 11
    for derivative in terms[2:]:
        assert torch.equal((derivative == 0).all(1), flat)


def test_its_curvature_has_both_signs():
    terms = gaussian_surrogate(*surrogate_inputs((21, 3)), CLIP)
    for hess in (terms.hess_mean, terms.hess_log_std):
        assert (hess < 0).any()
        assert (hess > 0).any()


def test_a_clipped_ratio_may_overflow():
    mean, log_std, actions, old_logprobs, advantages = surrogate_inputs()
    old_logprobs[0] = -1000.0
    terms = gaussian_surrogate(mean, log_std, actions, old_logprobs, advantages, CLIP)
    assert advantages[0] > 0
    assert all(term.isfinite().all() for term in terms)
    assert (terms.hess_mean[0] == 0).all()


@pytest.mark.parametrize("log_ratio", [0.2, -0.2])
@pytest.mark.parametrize("advantage", [1.5, -0.7])
def test_at_the_clip_itself_the_slope_is_not_yet_zero(log_ratio, advantage):
    """The ratio is 1 ± ε to the last bit; where a tie shares the slope, torch has half of it."""
    logprobs = torch.tensor([log_ratio], dtype=torch.float64)
    clip_coef = (logprobs.exp() - 1).abs().item()
    assert logprobs.exp().item() in (1 + clip_coef, 1 - clip_coef)
    constants = torch.zeros(1, dtype=torch.float64), torch.tensor([advantage], dtype=torch.float64)
    terms = surrogate(logprobs, *constants, clip_coef)
    x = logprobs.clone().requires_grad_()
    ratio = x.exp()
    clipped = ratio.clamp(1 - clip_coef, 1 + clip_coef)
    (-torch.min(ratio * constants[1], clipped * constants[1])).sum().backward()
    assert_equal(terms.grad, -advantage * logprobs.exp())
    assert_equal(terms.hess, terms.grad)
    assert_equal(x.grad, terms.grad * (0.5 if SHARED else 1.0))


def test_two_losses_of_the_same_outputs_add_up():
    mean, log_std, *constants = surrogate_inputs()
    others = [constants[0] + 0.5, constants[1] - 0.1, constants[2].flip(0)]
    x = armed(mean, log_std)
    module = GaussianSurrogateLoss(CLIP)
    (module(*x, *constants)[0] + 2 * module(*x, *others)[0]).backward()
    first = gaussian_surrogate(mean, log_std, *constants, CLIP)
    second = gaussian_surrogate(mean, log_std, *others, CLIP)
    assert_equal(x[0].hess_diag, first.hess_mean + 2 * second.hess_mean)
    assert_equal(x[1].hess_diag, first.hess_log_std + 2 * second.hess_log_std)


def test_ppo_equals_the_torch_form_below_a_network():
    """Policy, value and entropy loss of one network with a log σ of its own."""
    mean, log_std, actions, old_logprobs, advantages = surrogate_inputs()
    returns, old_values = normal(2, len(mean), seed=2)
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    ours.register_parameter("log_std", nn.Parameter(log_std))
    theirs = copy.deepcopy(ours)
    arm([*ours.parameters(), *theirs.parameters()])
    out = ours(mean)
    policy, _ = GaussianSurrogateLoss(CLIP)(
        out[:, :3], ours.log_std, actions, old_logprobs, advantages
    )
    value = ValueLoss(CLIP)(out[:, 3] + old_values, returns, old_values)
    (policy + 0.5 * value + GaussianEntropyBonus(0.01)(ours.log_std)).backward()
    out = theirs(mean)
    logprobs = log_density(out[:, :3], theirs.log_std, actions)
    policy = plain_surrogate(logprobs, old_logprobs, advantages).mean()
    value = plain_value_loss(out[:, 3] + old_values, returns, old_values).mean()
    (policy + 0.5 * value - 0.01 * theirs.log_std.sum()).backward()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_equal(p.grad, q.grad)
        assert_equal(p.hess_diag, q.hess_diag)


def test_the_logratio_carries_no_gradient():
    mean, log_std, *constants = surrogate_inputs()
    _, logratio = GaussianSurrogateLoss(CLIP)(*armed(mean, log_std), *constants)
    assert not logratio.requires_grad
    assert torch.equal(logratio, gaussian_surrogate(mean, log_std, *constants, CLIP).logratio)


def test_without_reduction_the_logratio_is_the_same():
    mean, log_std, *constants = surrogate_inputs()
    loss, logratio = GaussianSurrogateLoss(CLIP, "none")(*armed(mean, log_std), *constants)
    assert loss.shape == logratio.shape == (21,)
    assert torch.equal(logratio, gaussian_surrogate(mean, log_std, *constants, CLIP).logratio)


def test_of_log_probabilities_below_any_policy():
    mean, log_std, actions, *constants = surrogate_inputs()
    ours, theirs = armed(mean, log_std), armed(mean, log_std)
    SurrogateLoss(CLIP)(log_density(*ours, actions), *constants)[0].backward()
    GaussianSurrogateLoss(CLIP)(*theirs, actions, *constants)[0].backward()
    for x, y in zip(ours, theirs, strict=True):
        assert_equal(x.grad, y.grad)


@pytest.mark.parametrize("name", ["actions", "old_logprobs", "advantages"])
def test_nan_in_the_data_reaches_loss_and_gradient(name):
    mean, log_std, *constants = surrogate_inputs()
    names = "actions", "old_logprobs", "advantages"
    constants[names.index(name)][4] = torch.nan
    terms = gaussian_surrogate(mean, log_std, *constants, CLIP)
    assert terms.loss.isnan()
    assert terms.grad_mean[4].isnan().all()
    assert terms.hess_mean[4].isnan().all()
