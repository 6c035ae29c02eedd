"""The pieces of A2C against the recorded graph, its settings and its preset."""

import copy
import math

import pytest
import torch

from hesrl import optim
from hesrl.actor_critic import Agent
from hesrl.agents.a2c import Args, update
from hesrl.errors import UserError
from hesrl.learner import OPTIMIZERS, Learner
from hesrl.losses import GaussianA2CLoss, ValueLoss
from hesrl.optimizer_settings import hyperparameters
from hesrl.presets import defaults_for, preset
from hesrl.rollout import Batch


@pytest.fixture
def agent() -> Agent:
    torch.manual_seed(0)
    return Agent(5, 2).double()


@pytest.fixture
def batch() -> Batch:
    torch.manual_seed(1)
    return Batch(
        obs=torch.randn(7, 5).double(),
        actions=torch.randn(7, 2).double(),
        advantages=torch.randn(7).double(),
        returns=torch.randn(7).double(),
        values=torch.randn(7).double(),
    )


def settings(optimizer: str, **others: float) -> Args:
    args = Args(optimizer=optimizer, ent_coef=0.1, vf_coef=0.3, learning_rate=0.01, **others)
    args.check()
    return args


def recorded_loss(agent: Agent, batch: Batch) -> torch.Tensor:
    mean, log_std = agent.actor_mean(batch.obs), agent.actor_logstd
    policy_loss = GaussianA2CLoss()(mean, log_std, batch.actions, batch.advantages)
    value_loss = ValueLoss()(agent.critic(batch.obs)[:, 0], batch.returns)
    entropy = (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()
    return policy_loss - 0.1 * entropy + 0.3 * value_loss


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_updates_equal_those_of_the_recorded_graph(agent, batch, optimizer):
    args, other = settings(optimizer, max_grad_norm=math.inf), copy.deepcopy(agent)
    learner = Learner(agent, optimizer, **hyperparameters(args))
    networks = [[*other.actor_mean.parameters(), other.actor_logstd], other.critic.parameters()]
    groups = [{"params": params} for params in networks]
    theirs = optim.get(optimizer)(groups, **hyperparameters(args))
    for _ in range(5):
        update(learner, batch, args)
        theirs.zero_grad()
        recorded_loss(other, batch).backward()
        theirs.step()
    for p, q in zip(agent.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)
        if optim.get(optimizer).curvature is not None:
            torch.testing.assert_close(p.hess_diag, q.hess_diag, rtol=1e-9, atol=1e-12)


def test_update_returns_the_losses_before_the_step_and_clips(agent, batch):
    args, before = settings("sgd", max_grad_norm=1e-3), copy.deepcopy(agent)
    policy_loss, value_loss = update(Learner(agent, "sgd", lr=0.01), batch, args)
    entropy = 2 * 0.5 * math.log(2 * math.pi * math.e)
    expected = recorded_loss(before, batch).detach() + 0.1 * entropy
    torch.testing.assert_close(policy_loss + 0.3 * value_loss, expected)
    moves = [
        (p - q).flatten() for p, q in zip(agent.parameters(), before.parameters(), strict=True)
    ]
    assert torch.cat(moves).norm().item() == pytest.approx(0.01 * 1e-3, rel=1e-2)


def test_scaled_optimizer_has_a_group_for_each_network(agent):
    actor, critic = Learner(agent, "scaled-adam", lr=0.01).optimizer.param_groups
    assert actor["params"][0].numel() == sum(p.numel() for p in agent.actor_mean.parameters()) + 2
    assert critic["params"][0].numel() == sum(p.numel() for p in agent.critic.parameters())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer": "adaggnmc"}, "agents do not compute its curvature, ggn_mc; choose one of"),
        ({"checkpoint_interval": 150}, "must be a multiple of --log-interval 100"),
        ({"total_timesteps": 4}, "--total-timesteps 4: is less than one rollout of 5 steps"),
        ({"num_steps": 0}, "--num-steps 0: must be greater than zero"),
        ({"vf_coef": -0.1}, "--vf-coef -0.1: must be at least 0"),
    ],
)
def test_impossible_settings_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        Args(**values).check()


def test_paper_is_a_preset_that_a_resumed_run_ignores():
    paper = preset(Args, "paper")
    assert paper.paper and paper.progress and paper.update_at_episode_end and not paper.anneal_lr
    assert defaults_for(Args, ["--paper", "--num-steps", "3"]) == paper
    assert defaults_for(Args, []) is None
    assert defaults_for(Args, ["--paper", "--resume", "runs/x"]) is None
