"""The pieces of PPO against the autograd engine, and its settings."""

import pytest
import torch
from torch.distributions import Normal

from hesrl.actor_critic import Agent
from hesrl.agents.ppo import Args, log_probabilities, update
from hesrl.curvature import arm
from hesrl.errors import UserError
from hesrl.learner import Learner
from hesrl.losses import gaussian_surrogate, value_loss
from hesrl.rollout import Batch, make_batch
from tests.rollouts import random_rollout


@pytest.fixture
def agent() -> Agent:
    torch.manual_seed(0)
    return Agent(5, 2)


def batch_of(learner: Learner, steps: int) -> tuple[Batch, torch.Tensor]:
    storage = random_rollout(steps, 2, 5, 2)
    batch = make_batch(storage, learner, gamma=0.99, gae_lambda=0.95)
    return batch, log_probabilities(storage, learner.agent)


def test_log_probabilities_of_the_rollout_are_those_of_the_policy(agent):
    with torch.no_grad():
        agent.actor_logstd.copy_(torch.tensor([[0.3, -0.5]]))
    storage = random_rollout(3, 2, 5, 2)
    mean = agent.actor_mean(torch.from_numpy(storage.obs)).detach()
    std = agent.actor_logstd.detach().exp()
    actions = mean + std * torch.from_numpy(storage.noise)
    expected = Normal(mean, std).log_prob(actions).sum(-1).flatten()
    torch.testing.assert_close(log_probabilities(storage, agent), expected)


@pytest.mark.parametrize("ent_coef", [0.0, 0.1])
def test_derivatives_of_a_minibatch_equal_backward_with_the_engine(agent, ent_coef):
    learner = Learner(agent, "adahesscale", lr=1e-3)
    batch, logprobs = batch_of(learner, 16)
    log_std = agent.actor_logstd.detach()
    pg = gaussian_surrogate(
        learner.actor.forward(batch.obs), log_std, batch.actions, logprobs,
        batch.advantages, 0.2,
    )  # fmt: skip
    v = value_loss(learner.critic.forward(batch.obs)[:, 0], batch.returns, batch.values, 0.2)
    learner.backward(
        mean=(pg.grad_mean, pg.hess_mean),
        log_std=(pg.grad_log_std - ent_coef, pg.hess_log_std),
        values=(0.5 * v.grad, 0.5 * v.hess),
    )
    written_out = [(p.grad.clone(), p.hess_diag.clone()) for p in agent.parameters()]

    for p in agent.parameters():
        p.grad = None
    arm(agent.parameters())
    cleanrl_loss(agent, batch, logprobs, ent_coef).backward()
    for p, (grad, hess) in zip(agent.parameters(), written_out, strict=True):
        torch.testing.assert_close(grad, p.grad, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(hess, p.hess_diag, rtol=1e-4, atol=1e-7)


def cleanrl_loss(
    agent: Agent, batch: Batch, logprobs: torch.Tensor, ent_coef: float
) -> torch.Tensor:
    mean = agent.actor_mean(batch.obs)
    policy = Normal(mean, torch.exp(agent.actor_logstd.expand_as(mean)))
    ratio = (policy.log_prob(batch.actions).sum(1) - logprobs).exp()
    pg_loss1 = -batch.advantages * ratio
    pg_loss2 = -batch.advantages * torch.clamp(ratio, 0.8, 1.2)
    newvalue = agent.critic(batch.obs).view(-1)
    v_clipped = batch.values + torch.clamp(newvalue - batch.values, -0.2, 0.2)
    v_loss_max = torch.max((newvalue - batch.returns) ** 2, (v_clipped - batch.returns) ** 2)
    entropy = policy.entropy().sum(1).mean()
    return torch.max(pg_loss1, pg_loss2).mean() - ent_coef * entropy + 0.5 * 0.5 * v_loss_max.mean()


@pytest.mark.parametrize("optimizer", ["adam", "adahesscale", "adahesscalegn", "scaled-adam"])
def test_update_improves_the_surrogate_and_the_values(agent, optimizer):
    args = Args(
        optimizer=optimizer, num_envs=2, num_steps=32, num_minibatches=4, total_timesteps=64
    )
    args.check()
    learner = Learner(agent, optimizer, lr=1e-3)
    batch, logprobs = batch_of(learner, 32)
    with torch.no_grad():
        before = cleanrl_loss(agent, batch, logprobs, 0.0)
    metrics = update(learner, batch, logprobs, args)
    with torch.no_grad():
        assert cleanrl_loss(agent, batch, logprobs, 0.0) < before
    assert ("curvature/norm" in metrics) == (optimizer != "adam")


def test_target_kl_ends_an_update_after_an_epoch(agent):
    args = Args(num_envs=2, num_steps=32, num_minibatches=4, total_timesteps=64, target_kl=1e-9)
    args.check()
    learner = Learner(agent, "adahesscale", lr=1e-2)
    batch, logprobs = batch_of(learner, 32)
    update(learner, batch, logprobs, args)
    (state,) = learner.optimizer.state.values()
    assert state["step"] == args.num_minibatches


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"optimizer": "adamw"},
            "--optimizer adamw: unknown; choose one of sgd, adam, ada",
        ),
        ({"optimizer": "adahessian"}, "agents do not compute its curvature, hutchinson; choose"),
        ({"optimizer": "sgd", "eps": 0.1}, "--eps does not go with --optimizer sgd"),
        ({"optimizer": "adam", "delta": 0.1}, "--delta does not go with --optimizer adam"),
        ({"optimizer": "scaled-adam", "delta": -1.0}, "--delta -1.0: must be greater than zero"),
        ({"num_minibatches": 31}, "--num-minibatches 31: does not divide"),
        ({"num_minibatches": 2048}, "--num-minibatches 2048: leaves one sample"),
        ({"total_timesteps": -1}, "--total-timesteps -1: must be greater than zero"),
        ({"total_timesteps": 100}, "--total-timesteps 100: is less than one rollout"),
        ({"num_envs": 0}, "--num-envs 0: must be greater than zero"),
        ({"learning_rate": float("nan")}, "--learning-rate nan: must be greater than zero"),
        ({"gamma": 1.5}, "--gamma 1.5: must be from 0 to 1"),
        ({"ent_coef": -0.1}, "--ent-coef -0.1: must be at least 0"),
        ({"betas": (0.9, 1.0)}, r"--betas \(0.9, 1.0\): must be"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Args(**settings).check()


def test_each_optimizer_has_its_own_defaults():
    adam, adahesscale = Args(optimizer="adam"), Args(optimizer="adahesscale")
    adam.check()
    adahesscale.check()
    assert adam.eps == 1e-5 and adahesscale.eps == 1e-3
    assert adam.max_grad_norm == 0.5
    assert adahesscale.max_grad_norm == float("inf")
    assert adam.learning_rate != 0 != adahesscale.learning_rate
