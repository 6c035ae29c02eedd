"""Policies: log-probabilities as torch has them, most probable actions, and what is drawn."""

import math

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete, MultiBinary, MultiDiscrete
from torch.distributions import Bernoulli, Categorical, Independent, Normal

from hesrl.rl.independent_policies import BernoulliPolicy, MultiCategoricalPolicy
from hesrl.rl.policies import CategoricalPolicy, GaussianPolicy, policy_for
from tests.rl.variants import CATEGORICAL, GAUSSIAN

SAMPLES = 20_000
LOGITS = np.array([[0.5, -1.0, 2.0, 0.0]], dtype=np.float32)
MEAN = np.array([[1.0, -2.0]], dtype=np.float32)
LOG_STD = np.array([[-0.5, 0.7]], dtype=np.float32)


@pytest.mark.parametrize("rows", [1, 6])
def test_log_probabilities_of_a_gaussian(rows):
    torch.manual_seed(0)
    mean, log_std, actions = torch.randn(6, 2), torch.randn(rows, 2), torch.randn(6, 2)
    expected = Independent(Normal(mean, log_std.exp().expand(6, 2)), 1).log_prob(actions)
    torch.testing.assert_close(GaussianPolicy(2).log_prob((mean, log_std), actions), expected)


def test_log_probabilities_of_discrete_actions():
    torch.manual_seed(0)
    logits, actions = 3 * torch.randn(6, 4), torch.randint(4, (6,))
    expected = Categorical(logits=logits).log_prob(actions)
    torch.testing.assert_close(CategoricalPolicy(4).log_prob((logits,), actions), expected)


def test_log_probabilities_of_several_choices_and_of_bits():
    torch.manual_seed(0)
    logits, bits = 3 * torch.randn(6, 5), torch.randint(2, (6, 5)).float()
    actions = torch.stack([torch.randint(2, (6,)), torch.randint(3, (6,))], 1)
    expected = sum(
        Categorical(logits=z).log_prob(a)
        for z, a in zip(logits.split((2, 3), 1), actions.unbind(1), strict=True)
    )
    torch.testing.assert_close(
        MultiCategoricalPolicy([2, 3]).log_prob((logits,), actions), expected
    )
    expected = Independent(Bernoulli(logits=logits), 1).log_prob(bits)
    torch.testing.assert_close(BernoulliPolicy(5).log_prob((logits,), bits), expected)


def test_most_probable_actions():
    choices = MultiCategoricalPolicy([3, 1]).mode((np.concatenate((LOGITS, -LOGITS)),))
    assert choices.tolist() == [[2, 0], [1, 0]] and choices.dtype == np.int64
    bits = BernoulliPolicy(4).mode((LOGITS,))
    assert bits.tolist() == [[1, 0, 1, 0]] and bits.dtype == np.float32
    assert np.array_equal(GaussianPolicy(2).mode((MEAN, LOG_STD)), MEAN)
    mode = CategoricalPolicy(4).mode((np.concatenate((LOGITS, -LOGITS)),))
    assert mode.tolist() == [2, 1]


def test_discrete_actions_are_drawn_with_the_probabilities_of_softmax():
    policy, rng = CategoricalPolicy(4), np.random.default_rng(0)
    noise = policy.noise(rng, SAMPLES, 1)
    assert noise.shape == (SAMPLES, 1, 4)
    drawn = policy.sample((LOGITS,), noise[:, 0])
    assert drawn.shape == (SAMPLES,) and drawn.dtype == policy.dtype
    p = torch.from_numpy(LOGITS[0]).double().softmax(0).numpy()
    deviation = np.sqrt(p * (1 - p) / SAMPLES)
    frequencies = np.bincount(drawn, minlength=4) / SAMPLES
    assert (np.abs(frequencies - p) < 4 * deviation).all()


@pytest.mark.parametrize("policy", [MultiCategoricalPolicy([3, 1]), BernoulliPolicy(4)])
def test_choices_and_bits_are_drawn_independently_with_their_probabilities(policy):
    noise = policy.noise(np.random.default_rng(0), SAMPLES, 1)
    assert noise.shape == (SAMPLES, 1, 4) and noise.dtype == np.float32
    drawn = policy.sample((LOGITS,), noise[:, 0])
    assert drawn.shape == (SAMPLES, *policy.shape) and drawn.dtype == policy.dtype
    logits = torch.from_numpy(LOGITS[0]).double()
    if isinstance(policy, BernoulliPolicy):
        p, frequencies = logits.sigmoid().numpy(), drawn.mean(0)
        assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 4 / math.sqrt(SAMPLES)
    else:
        p = logits[:3].softmax(0).numpy()
        frequencies = np.bincount(drawn[:, 0], minlength=3) / SAMPLES
        assert (drawn[:, 1] == 0).all()
    assert (np.abs(frequencies - p) < 4 * np.sqrt(p * (1 - p) / SAMPLES)).all()


def test_a_continuous_action_is_the_mean_plus_deviations():
    noise = np.array([[2.0, -1.0]], dtype=np.float32)
    action = GaussianPolicy(2).sample((MEAN, LOG_STD), noise)
    np.testing.assert_allclose(action, [[1 + 2 * math.exp(-0.5), -2 - math.exp(0.7)]], rtol=1e-6)


def test_continuous_actions_are_drawn_with_mean_and_deviation():
    policy, rng = GaussianPolicy(2), np.random.default_rng(0)
    noise = policy.noise(rng, SAMPLES, 1)
    assert noise.shape == (SAMPLES, 1, 2) and noise.dtype == policy.dtype
    drawn, std = policy.sample((MEAN, LOG_STD), noise[:, 0]), np.exp(LOG_STD[0])
    assert drawn.dtype == policy.dtype
    assert (np.abs(drawn.mean(0) - MEAN[0]) < 4 * std / math.sqrt(SAMPLES)).all()
    assert (np.abs(drawn.std(0) - std) < 4 * std / math.sqrt(2 * SAMPLES)).all()
    correlation = np.corrcoef(drawn.T)[0, 1]
    assert abs(correlation) < 4 / math.sqrt(SAMPLES)


def test_each_step_and_environment_has_noise_of_its_own():
    for policy in (
        GaussianPolicy(2), CategoricalPolicy(2), BernoulliPolicy(2), MultiCategoricalPolicy([1, 1])
    ):  # fmt: skip
        noise = policy.noise(np.random.default_rng(0), 3, 2)
        assert len(np.unique(noise)) == 12
        assert np.array_equal(noise, policy.noise(np.random.default_rng(0), 3, 2))


def test_scores_are_gradients_of_log_pi_whose_covariance_is_fishers_matrix():
    torch.manual_seed(0)
    rows = 200_000
    mean, log_std = torch.zeros(rows, 1), torch.full((rows, 1), math.log(0.5))
    score = torch.cat(GaussianPolicy(1).scores((mean, log_std)), 1)
    torch.testing.assert_close(score.mean(0), torch.zeros(2), atol=0.02, rtol=0)
    torch.testing.assert_close(
        score.T @ score / rows, torch.diag(torch.tensor([4.0, 2.0])), atol=0.05, rtol=0
    )
    logits = torch.tensor([0.3, -1.0, 0.5]).expand(rows, 3)
    (score,) = CategoricalPolicy(3).scores((logits,))
    p = logits[0].softmax(0)
    torch.testing.assert_close(score.T @ score / rows, p.diag() - p.outer(p), atol=0.01, rtol=0)


@pytest.mark.parametrize("policy", [MultiCategoricalPolicy([2, 3]), BernoulliPolicy(5)])
def test_scores_of_choices_and_bits_have_fishers_matrix_as_covariance(policy):
    torch.manual_seed(0)
    rows, z = 200_000, torch.tensor([0.3, -1.0, 0.5, 0.0, 2.0])
    (score,) = policy.scores((z.expand(rows, 5),))
    (diagonal,) = policy.fisher((z[None],))
    covariance = score.T @ score / rows
    torch.testing.assert_close(covariance.diagonal(), diagonal[0], atol=0.01, rtol=0)
    if isinstance(policy, BernoulliPolicy):
        expected = diagonal[0].diag()
    else:
        q = [part.softmax(0) for part in z.split((2, 3))]
        expected = torch.block_diag(*(p.diag() - p.outer(p) for p in q))
    torch.testing.assert_close(covariance, expected, atol=0.01, rtol=0)
    torch.testing.assert_close(score.mean(0), torch.zeros(5), atol=0.01, rtol=0)


def test_the_space_of_the_actions_decides_on_the_policy():
    gaussian, categorical = policy_for(GAUSSIAN), policy_for(CATEGORICAL)
    assert (type(gaussian), gaussian.size, gaussian.shape) == (GaussianPolicy, 2, (2,))
    assert (type(categorical), categorical.size, categorical.shape) == (CategoricalPolicy, 3, ())
    assert policy_for(Discrete(5, start=-2)).size == 5
    choices, bits = policy_for(MultiDiscrete([[2], [4]])), policy_for(MultiBinary((2, 3)))
    assert (type(choices), choices.sizes) == (MultiCategoricalPolicy, (2, 4))
    assert (type(bits), bits.size, bits.shape) == (BernoulliPolicy, 6, (6,))
