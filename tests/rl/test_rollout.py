"""Rollouts and what is made of them, against hand-computed numbers."""

import contextlib

import numpy as np
import pytest
import torch

from hesrl.actor_critic import Agent
from hesrl.envs.vector import Episode, NormalizedEnvs
from hesrl.learner import Learner
from hesrl.rollout import compute_gae, make_batch, rollout
from tests.rollouts import random_rollout


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


@pytest.fixture
def agent() -> Agent:
    torch.manual_seed(0)
    return Agent(5, 2)


def test_truncation_bootstraps_the_value_of_the_last_state_and_termination_does_not(agent):
    learner, storage = Learner(agent, "adam"), random_rollout(4, 1, 5, 2)
    storage.truncations[1] = storage.terminations[2] = True
    storage = storage._replace(episodes=[(2, Episode(0, 0.0, 2)), (3, Episode(0, 0.0, 1))])
    batch = make_batch(storage, learner, gamma=0.99, gae_lambda=0.0)
    reached = [storage.obs[1], storage.final_obs[1], storage.obs[3], storage.next_obs]
    with torch.no_grad():
        next_values = torch.stack([agent.critic(torch.tensor(x))[0, 0] for x in reached])
    next_values[2] = 0
    expected = torch.tensor(storage.rewards[:, 0]) + 0.99 * next_values
    torch.testing.assert_close(batch.returns, expected)


@pytest.mark.parametrize("until_episode_ends", [False, True])
def test_end_of_an_episode_ends_the_rollout_if_asked_to(until_episode_ends):
    torch.manual_seed(0)
    learner, rng = Learner(Agent(4, 1), "adam"), np.random.default_rng(0)
    envs = NormalizedEnvs("InvertedPendulum-v5", 2, seed=1, gamma=0.99)
    with contextlib.closing(envs):
        first = envs.reset()
        storage = rollout(envs, learner, 100, rng, until_episode_ends=until_episode_ends)
        steps = len(storage.rewards)
        assert all(len(array) == steps for array in storage[:7])
        np.testing.assert_array_equal(storage.obs[0], first)
        np.testing.assert_array_equal(storage.next_obs, envs.observations)
        assert envs.steps == 2 * steps
    ended = storage.terminations.any(1)
    assert ended.any() and storage.episodes
    if until_episode_ends:
        assert steps < 100 and ended[-1] and not ended[:-1].any()
        assert {count for count, _ in storage.episodes} == {2 * steps}
    else:
        assert steps == 100
