"""Generalized advantage estimation: by hand, in closed form and against the recurrence."""

from __future__ import annotations

import numpy as np
import pytest

from hesrl.agents import a2c, ppo


@pytest.fixture(params=[ppo, a2c], ids=["ppo", "a2c"])
def compute_gae(request):
    """The function of each agent."""
    return request.param.compute_gae


def column(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=np.float32).reshape(-1, 1)


def random_steps(steps: int, envs: int, done: float) -> tuple[np.ndarray, ...]:
    """Rewards, values, next values, and ends of episodes with probability ``done``."""
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal((3, steps, envs)).astype(np.float32)
    return (*numbers, rng.random((steps, envs)) < done)


def by_recurrence(rewards, values, next_values, dones, gamma, gae_lambda):
    """A_t = δ_t + γ λ A_{t+1}, step by step from the last one, in double precision."""
    deltas = rewards.astype(float) + gamma * next_values.astype(float) - values
    advantages, following = np.empty_like(deltas), np.zeros(deltas.shape[1])
    for t in reversed(range(len(deltas))):
        following = deltas[t] + gamma * gae_lambda * np.where(dones[t], 0, following)
        advantages[t] = following
    return advantages


def test_one_episode_by_hand(compute_gae):
    # δ = r + ½ V' − V = (1, 2, 3) + (½, 1, 1½) − (0, 1, 2); A = δ + ½·½ A'.
    rewards, values, next_values = column(1, 2, 3), column(0, 1, 2), column(1, 2, 3)
    advantages = compute_gae(rewards, values, next_values, column(0, 0, 0) > 0, 0.5, 0.5)
    assert advantages.ravel().tolist() == [1.5 + 0.25 * 2.625, 2 + 0.25 * 2.5, 2.5]
    assert advantages.dtype == np.float32


def test_nothing_crosses_the_end_of_an_episode(compute_gae):
    ones, zeros = column(1, 1, 1), column(0, 0, 0)
    advantages = compute_gae(ones, zeros, zeros, column(0, 1, 0) > 0, 0.9, 0.8)
    np.testing.assert_allclose(advantages, column(1 + 0.72, 1, 1), rtol=1e-6)


def test_an_endless_unit_reward_is_worth_one_over_one_minus_gamma(compute_gae):
    zeros, gamma = np.zeros((400, 2), dtype=np.float32), 0.9
    advantages = compute_gae(zeros + 1, zeros, zeros, zeros > 0, gamma, 1.0)
    np.testing.assert_allclose(advantages[0], 1 / (1 - gamma), rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 64, 100, 2049])
@pytest.mark.parametrize("done", [0.0, 0.02, 0.5, 1.0])
def test_advantages_are_those_of_the_recurrence(compute_gae, steps, done):
    given = random_steps(steps, 3, done)
    np.testing.assert_allclose(
        compute_gae(*given, 0.99, 0.95), by_recurrence(*given, 0.99, 0.95), rtol=1e-5, atol=1e-5
    )


def test_without_lambda_advantages_are_the_one_step_errors(compute_gae):
    rewards, values, next_values, dones = random_steps(50, 2, 0.1)
    advantages = compute_gae(rewards, values, next_values, dones, 0.9, 0.0)
    np.testing.assert_allclose(advantages, rewards + 0.9 * next_values - values, rtol=1e-6)


def test_with_full_lambda_and_discount_they_are_sums_to_the_end_of_the_episode(compute_gae):
    rewards, zeros = np.arange(1, 9, dtype=np.float32).reshape(8, 1), np.zeros((8, 1), np.float32)
    advantages = compute_gae(rewards, zeros, zeros, rewards == 3, 1.0, 1.0)
    assert advantages.ravel().tolist() == [6, 5, 3, 30, 26, 21, 15, 8]


def test_environments_are_apart(compute_gae):
    given = random_steps(60, 2, 0.1)
    both = compute_gae(*given, 0.9, 0.8)
    for env in range(2):
        one = [array[:, env : env + 1] for array in given]
        np.testing.assert_array_equal(both[:, env : env + 1], compute_gae(*one, 0.9, 0.8))


def test_arguments_are_left_as_they_are(compute_gae):
    given = random_steps(20, 2, 0.1)
    before = [array.copy() for array in given]
    compute_gae(*given, 0.9, 0.8)
    for array, copy in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, copy)
