"""The pieces of PPO against hand-computed numbers and against the autograd engine."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from hesrl.agents.ppo import Agent, Args, Batch, compute_gae, make_batch, update
from hesrl.curvature import arm
from hesrl.errors import UserError
from hesrl.learner import Learner
from hesrl.losses import gaussian_surrogate, value_loss


def column(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=np.float32).reshape(-1, 1)


def test_gae_of_one_episode_by_hand():
    # δ = r + ½ V' − V = (1, 2, 3) + (½, 1, 1½) − (0, 1, 2); A = δ + ½·½ A'.
    advantages = compute_gae(
        column(1, 2, 3), column(0, 1, 2), column(1, 2, 3), column(0, 0, 0), 0.5, 0.5
    )
    a_2 = 3 + 1.5 - 2
    a_1 = 2 + 1 - 1 + 0.25 * a_2
    a_0 = 1 + 0.5 - 0 + 0.25 * a_1
    np.testing.assert_allclose(advantages, column(a_0, a_1, a_2), rtol=1e-6)


def test_gae_does_not_cross_the_end_of_an_episode():
    rewards, values = column(1, 1, 1), column(0, 0, 0)
    ended = compute_gae(rewards, values, values, column(0, 1, 0), 0.9, 0.8)
    np.testing.assert_allclose(ended, column(1 + 0.72, 1, 1), rtol=1e-6)


def test_gae_of_endless_unit_reward_is_one_over_one_minus_gamma():
    n, gamma = 400, 0.9
    zeros = np.zeros((n, 2), dtype=np.float32)
    advantages = compute_gae(zeros + 1, zeros, zeros, zeros, gamma, 1.0)
    np.testing.assert_allclose(advantages[0], 1 / (1 - gamma), rtol=1e-6)


def test_gae_treats_environments_apart():
    rng = np.random.default_rng(0)
    rewards, values, next_values = rng.standard_normal((3, 6, 2)).astype(np.float32)
    dones = rng.random((6, 2)) < 0.3
    both = compute_gae(rewards, values, next_values, dones, 0.9, 0.8)
    for env in range(2):
        one = [x[:, env : env + 1] for x in (rewards, values, next_values, dones)]
        np.testing.assert_array_equal(both[:, env : env + 1], compute_gae(*one, 0.9, 0.8))


def storage_of(steps: int, envs: int, obs_dim: int, act_dim: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal((steps, envs, *shape), dtype=np.float32)

    return {
        "obs": normal(obs_dim),
        "actions": normal(act_dim),
        "noise": normal(act_dim),
        "rewards": normal(),
        "terminations": np.zeros((steps, envs), dtype=bool),
        "truncations": np.zeros((steps, envs), dtype=bool),
        "final_obs": normal(obs_dim),
    }


@pytest.fixture
def agent() -> Agent:
    torch.manual_seed(0)
    return Agent(5, 2)


def test_truncation_bootstraps_the_value_of_the_last_state_and_termination_does_not(agent):
    args = Args(gae_lambda=0.0)
    storage = storage_of(4, 1, 5, 2)
    storage["truncations"][1] = storage["terminations"][2] = True
    batch = make_batch(storage, np.zeros((1, 5), np.float32), agent, args)
    reached = [storage["obs"][1], storage["final_obs"][1], storage["obs"][3], np.zeros((1, 5))]
    with torch.no_grad():
        next_values = torch.stack([agent.critic(torch.tensor(x).float())[0, 0] for x in reached])
    next_values[2] = 0
    expected = torch.tensor(storage["rewards"][:, 0]) + args.gamma * next_values
    torch.testing.assert_close(batch.returns, expected)


def test_log_probabilities_of_the_rollout_are_those_of_the_policy(agent):
    with torch.no_grad():
        agent.actor_logstd.copy_(torch.tensor([[0.3, -0.5]]))
    storage = storage_of(3, 2, 5, 2)
    mean = agent.actor_mean(torch.from_numpy(storage["obs"])).detach()
    std = agent.actor_logstd.detach().exp()
    storage["actions"] = (mean + std * torch.from_numpy(storage["noise"])).numpy()
    batch = make_batch(storage, np.zeros((2, 5), np.float32), agent, Args())
    expected = Normal(mean, std).log_prob(torch.from_numpy(storage["actions"])).sum(-1).flatten()
    torch.testing.assert_close(batch.logprobs, expected)


@pytest.mark.parametrize("ent_coef", [0.0, 0.1])
def test_derivatives_of_a_minibatch_equal_backward_with_the_engine(agent, ent_coef):
    batch = make_batch(storage_of(16, 2, 5, 2), np.zeros((2, 5), np.float32), agent, Args())
    learner = Learner(agent, "adahesscale", lr=1e-3)
    log_std = agent.actor_logstd.detach()
    pg = gaussian_surrogate(
        learner.actor.forward(batch.obs), log_std, batch.actions, batch.logprobs,
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
    cleanrl_loss(agent, batch, ent_coef).backward()
    for p, (grad, hess) in zip(agent.parameters(), written_out, strict=True):
        torch.testing.assert_close(grad, p.grad, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(hess, p.hess_diag, rtol=1e-4, atol=1e-7)


def cleanrl_loss(agent: Agent, batch: Batch, ent_coef: float) -> torch.Tensor:
    mean = agent.actor_mean(batch.obs)
    policy = Normal(mean, torch.exp(agent.actor_logstd.expand_as(mean)))
    ratio = (policy.log_prob(batch.actions).sum(1) - batch.logprobs).exp()
    pg_loss1 = -batch.advantages * ratio
    pg_loss2 = -batch.advantages * torch.clamp(ratio, 0.8, 1.2)
    newvalue = agent.critic(batch.obs).view(-1)
    v_clipped = batch.values + torch.clamp(newvalue - batch.values, -0.2, 0.2)
    v_loss_max = torch.max((newvalue - batch.returns) ** 2, (v_clipped - batch.returns) ** 2)
    entropy = policy.entropy().sum(1).mean()
    return torch.max(pg_loss1, pg_loss2).mean() - ent_coef * entropy + 0.5 * 0.5 * v_loss_max.mean()


@pytest.mark.parametrize("optimizer", ["adam", "adahesscale"])
def test_update_improves_the_surrogate_and_the_values(agent, optimizer):
    args = Args(
        optimizer=optimizer, num_envs=2, num_steps=32, num_minibatches=4, total_timesteps=64
    )
    args.check()
    batch = make_batch(storage_of(32, 2, 5, 2), np.zeros((2, 5), np.float32), agent, args)
    learner = Learner(agent, optimizer, lr=1e-3)
    with torch.no_grad():
        before = cleanrl_loss(agent, batch, 0.0)
    metrics = update(learner, batch, args)
    with torch.no_grad():
        assert cleanrl_loss(agent, batch, 0.0) < before
    assert ("curvature/norm" in metrics) == (optimizer == "adahesscale")


def test_target_kl_ends_an_update_after_an_epoch(agent):
    args = Args(num_envs=2, num_steps=32, num_minibatches=4, total_timesteps=64, target_kl=1e-9)
    args.check()
    batch = make_batch(storage_of(32, 2, 5, 2), np.zeros((2, 5), np.float32), agent, args)
    learner = Learner(agent, "adahesscale", lr=1e-2)
    update(learner, batch, args)
    (state,) = learner.optimizer.state.values()
    assert state["step"] == args.num_minibatches


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adamw"}, "--optimizer adamw: unknown; choose one of adam, adahesscale"),
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
