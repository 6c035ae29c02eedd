"""The pieces of PPO: its loss against CleanRL's, its update and its settings."""

import math

import pytest
import torch

from hesrl import optim
from hesrl.agents import ppo
from hesrl.agents.ppo import DEFAULTS, METRICS, Args, make_loss, update
from hesrl.errors import UserError
from hesrl.rl.agent_optimizer import make_optimizer
from hesrl.rl.training_state import curvature_of
from hesrl.train_step import TrainStep
from tests.agents.batches import batch_of, random_rollout
from tests.agents.written_out import (
    VARIANTS,
    PPOLoss,
    assert_derivatives_agree,
    make_data,
    policy_of,
    values_of,
)
from tests.rl.variants import POLICIES, make_agent

SMALL = {
    "num_envs": 2, "num_steps": 32, "num_minibatches": 4, "total_timesteps": 64, "update_epochs": 5,
}  # fmt: skip


def checked(**settings):
    args = Args(**{**SMALL, **settings})
    args.check()
    args.fill_in()
    return args


def prepare(args, policy="gaussian"):
    """Return agent, step and batch as `main` makes them, of random numbers."""
    agent = make_agent(policy)
    optimizer = make_optimizer(args, agent)
    train_step = TrainStep(
        make_loss(agent, args),
        optimizer,
        max_grad_norm=args.max_grad_norm,
        compile="off",
        after_backward=curvature_of(agent, optimizer),
    )
    storage = random_rollout(policy, args.num_steps, args.num_envs)
    return agent, train_step, batch_of(ppo, storage, agent)


@pytest.mark.parametrize(("policy", "shared_trunk"), VARIANTS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"norm_adv": False, "clip_vloss": False, "ent_coef": 0.1},
        {"ent_coef": 0.02, "vf_coef": 1.5, "clip_coef": 0.1},
    ],
    ids=["defaults", "plain", "weights"],
)
def test_the_loss_is_cleanrls_with_the_same_derivatives(policy, shared_trunk, settings):
    agent, data = make_data(policy, shared_trunk)
    args = checked(**settings)
    loss_fn = make_loss(agent, args)
    assert_derivatives_agree(agent, lambda *x: loss_fn(*x)[0], PPOLoss(agent, args), data)


@pytest.mark.parametrize("policy", POLICIES)
def test_data_lie_in_all_regions_of_the_surrogate(policy):
    agent, (obs, actions, advantages, returns, values, logprobs) = make_data(policy, False)
    ratio = (policy_of(agent, obs).log_prob(actions) - logprobs).exp()
    change = values_of(agent, obs) - values
    for sign in (advantages > 0, advantages < 0):
        for region in (ratio < 0.8, (ratio > 0.8) & (ratio < 1.2), ratio > 1.2):
            assert (sign & region).any()
    assert 0 < (change.abs() > 0.2).sum() < len(change)
    assert len(returns) == len(ratio)


@pytest.mark.parametrize("policy", ["gaussian", "categorical", "choices", "bits"])
def test_metrics_are_cleanrls(policy):
    agent, data = make_data(policy, False)
    args = checked(ent_coef=0.1)
    loss, (row,) = make_loss(agent, args)(*data)
    obs, actions, *_, logprobs = data
    distribution = policy_of(agent, obs)
    logratio = distribution.log_prob(actions) - logprobs
    ratio, entropy = logratio.exp(), distribution.entropy().mean()
    metrics = dict(zip(METRICS, row, strict=True))
    expected = {
        "losses/policy_loss": PPOLoss(agent, checked(ent_coef=0.0, vf_coef=0.0))(*data),
        "losses/entropy": entropy,
        "losses/old_approx_kl": (-logratio).mean(),
        "losses/approx_kl": ((ratio - 1) - logratio).mean(),
        "losses/clipfrac": ((ratio - 1.0).abs() > 0.2).double().mean(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(metrics[name], value.detach(), msg=name)
    rest = loss - metrics["losses/policy_loss"] + 0.1 * entropy
    torch.testing.assert_close(metrics["losses/value_loss"], (rest / args.vf_coef).detach())


@pytest.mark.parametrize("policy", POLICIES)
def test_log_probabilities_of_a_rollout_are_those_of_the_policy(policy):
    agent, _, batch = prepare(checked(), policy)
    expected = policy_of(agent, batch.obs).log_prob(batch.actions)
    torch.testing.assert_close(batch.logprobs, expected.detach())
    assert not batch.logprobs.requires_grad


@pytest.mark.parametrize("policy", ["gaussian", "categorical", "choices", "bits"])
@pytest.mark.parametrize("optimizer", DEFAULTS)
def test_update_improves_the_surrogate_and_the_values(optimizer, policy):
    args = checked(optimizer=optimizer)
    agent, train_step, batch = prepare(args, policy)
    before = parts_of_loss(agent, batch)
    metrics = update(train_step, lambda: batch, args)
    for now, then in zip(parts_of_loss(agent, batch), before, strict=True):
        assert now < then
    expected = {*METRICS, "losses/explained_variance"}
    if optim.get(optimizer).curvature is not None:
        expected |= {"curvature/norm", "curvature/negative_share", "curvature/largest"}
    assert metrics.keys() == expected and all(map(math.isfinite, metrics.values()))


@torch.no_grad()
def parts_of_loss(agent, batch):
    """Return the surrogate alone and the value loss alone."""
    surrogate = PPOLoss(agent, checked(vf_coef=0.0))(*batch)
    return surrogate, PPOLoss(agent, checked())(*batch) - surrogate


def test_the_explained_variance_is_that_before_the_update():
    args = checked()
    _, train_step, batch = prepare(args)
    residual = (batch.returns - batch.values).numpy()
    explained = 1 - residual.var() / batch.returns.numpy().var()
    metrics = update(train_step, lambda: batch, args)
    assert metrics["losses/explained_variance"] == pytest.approx(explained, rel=1e-4)


def test_each_epoch_takes_every_sample_once():
    args, taken = checked(update_epochs=3), []
    _, train_step, batch = prepare(args)

    def watched(tensors, inds):
        taken.append(inds)
        return train_step(tensors, inds)

    update(watched, lambda: batch, args)
    assert [len(inds) for inds in taken] == [16] * 12
    epochs = [torch.cat(taken[4 * epoch : 4 * epoch + 4]) for epoch in range(3)]
    for epoch in epochs:
        assert torch.equal(epoch.sort().values, torch.arange(64))
    assert not torch.equal(epochs[0], epochs[1])


@pytest.mark.parametrize("anew", [False, True])
def test_epochs_estimate_the_advantages_anew_if_asked(anew):
    args, taken, estimated = checked(update_epochs=3, recompute_advantages=anew), [], []
    agent, train_step, _ = prepare(args)
    storage = random_rollout("gaussian", args.num_steps, args.num_envs)

    def watched(tensors, inds):
        taken.append(tensors)
        return train_step(tensors, inds)

    def estimate():
        estimated.append(batch_of(ppo, storage, agent))
        return estimated[-1]

    metrics = update(watched, estimate, args)
    assert len(estimated) == (3 if anew else 1)
    batch = estimated[0]
    assert all(tensors is batch for tensors in (taken[:4] if anew else taken))
    for epoch, now in enumerate(estimated[1:], 1):
        assert not torch.equal(now.values, batch.values)
        for tensors in taken[4 * epoch : 4 * epoch + 4]:
            assert tensors.advantages is now.advantages and tensors.returns is now.returns
            assert tensors.logprobs is batch.logprobs and tensors.values is batch.values
    explained = 1 - (batch.returns - batch.values).var() / batch.returns.var()
    assert metrics["losses/explained_variance"] == pytest.approx(explained.item())


def epochs_of_update(target_kl):
    """Return the approximate KL divergence after each epoch that an update takes."""
    args, divergences = checked(target_kl=target_kl), []
    _, train_step, batch = prepare(args)

    def watched(tensors, inds):
        row, *curvature = train_step(tensors, inds)
        divergences.append(row[METRICS.index("losses/approx_kl")].item())
        return row, *curvature

    update(watched, lambda: batch, args)
    return divergences[args.num_minibatches - 1 :: args.num_minibatches]


def test_an_update_ends_after_the_epoch_that_exceeds_the_target():
    whole = epochs_of_update(None)
    assert len(whole) == 5 and whole[0] < max(whole)
    first = next(epoch for epoch, kl in enumerate(whole) if kl > whole[0])
    assert epochs_of_update(whole[0]) == whole[: first + 1]
    assert epochs_of_update(0.99 * whole[0]) == whole[:1]
    assert epochs_of_update(max(whole)) == whole


@pytest.mark.parametrize(("desired_kl", "grows"), [(10.0, True), (1e-9, False)])
def test_the_step_size_follows_the_divergence_of_an_epoch(desired_kl, grows):
    args = checked(desired_kl=desired_kl, update_epochs=3)
    _, train_step, batch = prepare(args)
    update(train_step, lambda: batch, args)
    factor = 1.5**3 if grows else 1.5**-3
    for group in train_step.optimizer.param_groups:
        assert float(group["lr"]) == pytest.approx(factor * args.learning_rate)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_minibatches": 31}, "31: does not divide the rollout of 2048 steps"),
        ({"num_minibatches": 2048}, "2048: one sample .*or --no-norm-adv"),
        ({"desired_kl": math.inf}, "inf: must be at least 0, and not infinite"),
        ({"total_timesteps": 100}, "100: is less than one rollout of 2048 steps"),
        *[({name: 0}, "0: must be greater than zero") for name in (
            "num_minibatches", "update_epochs", "clip_coef", "target_kl", "desired_kl",
        )],
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(settings, message):
    option = "--" + next(iter(settings)).replace("_", "-")
    with pytest.raises(UserError, match=f"^{option} {message}"):
        Args(**settings).check()


def test_one_sample_per_minibatch_goes_without_normalized_advantages():
    args = checked(num_minibatches=64, norm_adv=False)
    assert args.minibatch_size == 1


def test_sizes_follow_from_the_settings():
    args = checked(total_timesteps=200)
    assert (args.batch_size, args.minibatch_size, args.num_iterations) == (64, 16, 3)
