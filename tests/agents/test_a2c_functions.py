"""The pieces of A2C: its loss against the one written out, and its settings."""

import pytest
import torch

from hesrl import optim
from hesrl.agents.a2c import DEFAULTS, METRICS, Args, make_loss
from hesrl.errors import UserError
from hesrl.rl.optimizer_settings import hyperparameters
from hesrl.train_step import TrainStep
from tests.agents.written_out import (
    VARIANTS,
    A2CLoss,
    assert_derivatives_agree,
    make_data,
    policy_of,
)
from tests.rl.variants import POLICIES


def checked(**settings):
    args = Args(**settings)
    args.check()
    args.fill_in()
    return args


@pytest.mark.parametrize(("policy", "shared_trunk"), VARIANTS)
@pytest.mark.parametrize(
    "settings",
    [{}, {"norm_adv": True, "ent_coef": 0.1}, {"ent_coef": 0.02, "vf_coef": 1.5}],
    ids=["defaults", "norm_adv", "weights"],
)
def test_the_loss_is_the_one_written_out_with_the_same_derivatives(policy, shared_trunk, settings):
    agent, (*data, _) = make_data(policy, shared_trunk)
    args = checked(**settings)
    loss_fn = make_loss(agent, args)
    assert_derivatives_agree(agent, lambda *x: loss_fn(*x)[0], A2CLoss(agent, args), data)


@pytest.mark.parametrize("policy", POLICIES)
def test_metrics_are_the_parts_of_the_loss(policy):
    agent, (*data, _) = make_data(policy, False)
    loss, (row,) = make_loss(agent, checked(ent_coef=0.1, vf_coef=0.3))(*data)
    metrics = dict(zip(METRICS, row, strict=True))
    policy_loss = A2CLoss(agent, checked(vf_coef=0.0))(*data)
    entropy = policy_of(agent, data[0]).entropy().mean()
    torch.testing.assert_close(metrics["losses/policy_loss"], policy_loss.detach())
    torch.testing.assert_close(metrics["losses/entropy"], entropy.detach())
    rest = (loss - policy_loss + 0.1 * entropy) / 0.3
    torch.testing.assert_close(metrics["losses/value_loss"], rest.detach())


@pytest.mark.parametrize("optimizer", DEFAULTS)
def test_steps_improve_the_loss(optimizer):
    agent, (*data, _) = make_data("gaussian", False)
    args = checked(optimizer=optimizer)
    written_out = A2CLoss(agent, args)
    before = written_out(*data).item()
    train_step = TrainStep(
        make_loss(agent, args),
        optim.get(optimizer)(agent.parameter_groups(), **hyperparameters(args)),
        max_grad_norm=args.max_grad_norm,
        compile="off",
    )
    for _ in range(20):
        train_step(data, torch.arange(len(data[0])))
    assert written_out(*data).item() < before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"checkpoint_interval": 150}, "--checkpoint-interval 150: must be a multiple of .* 100"),
        ({"eval_interval": 50}, "--eval-interval 50: must be a multiple of --log-interval 100"),
        ({"log_interval": 0}, "--log-interval 0: must be greater than zero"),
        ({"norm_adv": True, "num_steps": 1}, "--norm-adv needs rollouts of more than one sample"),
        ({"norm_adv": True, "update_at_episode_end": True}, "--norm-adv needs rollouts of more"),
        ({"total_timesteps": 4}, "--total-timesteps 4: is less than one rollout of 5 steps"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=f"^{message}"):
        Args(**settings).check()


def test_intervals_that_are_multiples_pass():
    args = checked(log_interval=50, checkpoint_interval=150, eval_interval=100)
    assert args.eval_interval == 100
