"""Forward passes in NumPy equal those in torch, also after the parameters have changed."""

import numpy as np
import pytest
import torch
from torch import nn

from hesrl.rl.layers import ACTIVATIONS
from hesrl.rl.numpy_forward import LARGEST_BATCH, Acting, numpy_forward
from tests.rl.variants import OBSERVATIONS, POLICIES, draw_observations, make_agent


def assert_equal_forward(forward, network, x):
    before = x.copy()
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(forward(x), expected, rtol=1e-5, atol=1e-6)
    assert np.array_equal(x, before)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("depth", range(4))
def test_linear_layers_equal_torch(activation, depth):
    network = make_agent("gaussian", activation=activation, hidden_sizes=(6,) * depth).actor
    for scale in (1, 100):
        assert_equal_forward(
            numpy_forward(network), network, scale * draw_observations("vector", 9)
        )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_functions_reach_their_limits(activation):
    linear = nn.Linear(1, 1)
    nn.init.ones_(linear.weight)
    nn.init.zeros_(linear.bias)
    network = nn.Sequential(linear, ACTIVATIONS[activation]())
    x = np.float32([-np.inf, -1e4, -200, -88, -1, 0, 1, 88, 200, 1e4]).reshape(-1, 1)
    if activation in ("relu", "tanh", "elu"):
        assert_equal_forward(numpy_forward(network), network, x)
    assert_equal_forward(numpy_forward(network), network, x[1:])


@pytest.mark.parametrize("count", [1, LARGEST_BATCH, LARGEST_BATCH + 44])
def test_convolutions_equal_torch_in_parts(count):
    critic = make_agent("gaussian", "channels last").critic
    seen = []
    critic.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    images = draw_observations("channels last", count)
    values = numpy_forward(critic)(images)
    assert max(seen) <= LARGEST_BATCH and sum(seen) == count
    with torch.no_grad():
        expected = critic(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)


def assert_acting_equals(agent, obs):
    acting = Acting(agent)
    with torch.no_grad():
        distribution, values = agent(torch.from_numpy(obs))
    for one, other in zip(acting.distribution(obs), distribution, strict=True):
        np.testing.assert_allclose(one, other.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(acting.value(obs), values, rtol=1e-5, atol=1e-6)


def outputs(acting, obs):
    return [array.copy() for array in (*acting.distribution(obs), acting.value(obs))]


@pytest.mark.parametrize("shared_trunk", [False, True], ids=["separate", "shared"])
@pytest.mark.parametrize("observations", OBSERVATIONS)
@pytest.mark.parametrize("policy", POLICIES)
def test_acting_equals_the_agent(policy, observations, shared_trunk):
    agent = make_agent(policy, observations, shared_trunk=shared_trunk)
    obs = draw_observations(observations, 6)
    assert_acting_equals(agent, obs)
    acting = Acting(agent)
    actions = acting.act(obs)
    assert np.array_equal(actions, agent.policy.mode(acting.distribution(obs)))
    assert actions.shape == (6, *agent.policy.shape) and actions.dtype == agent.policy.dtype


@pytest.mark.parametrize("shared_trunk", [False, True], ids=["separate", "shared"])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_sampler_draws_from_the_distribution_with_the_noise_of_the_policy(policy, shared_trunk):
    acting = Acting(make_agent(policy, shared_trunk=shared_trunk))
    obs = draw_observations("vector", 3, 4)
    noise = acting.policy.noise(np.random.default_rng(5), 3, 4)
    sampler = acting.sampler(np.random.default_rng(5), 3, 4)
    assert sampler.actor is None and np.array_equal(sampler.noise, noise)
    for step in range(3):
        expected = acting.policy.sample(acting.distribution(obs[step]), noise[step])
        np.testing.assert_allclose(sampler.draw(step, obs[step]), expected, rtol=1e-6)


@pytest.mark.parametrize("policy", ["gaussian", "categorical"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_normalized_layers_and_softplus_equal_torch(policy, scale):
    """The networks of streaming."""
    agent = make_agent(
        policy, activation="leaky_relu", layer_norm=True, softplus_std=True, hidden_sizes=(32, 16)
    )
    assert agent.softplus_std == (policy == "gaussian")
    obs = scale * draw_observations("vector", 9)
    assert_acting_equals(agent, obs)
    # In a single precision of 6e-8, of numbers of about 1.
    with torch.no_grad():
        expected = agent.actor(torch.from_numpy(obs)).numpy()
    np.testing.assert_allclose(numpy_forward(agent.actor)(obs), expected, rtol=1e-6, atol=1e-6)


def test_a_shared_trunk_without_layers_is_the_identity():
    agent = make_agent("gaussian", hidden_sizes=(), shared_trunk=True)
    assert_acting_equals(agent, draw_observations("vector", 6))


@pytest.mark.parametrize("observations", ["vector", "channels first"])
@pytest.mark.parametrize("policy", POLICIES)
def test_parameters_that_change_in_place_are_followed(policy, observations):
    agent, obs = make_agent(policy, observations), draw_observations(observations, 3)
    acting = Acting(agent)
    before = outputs(acting, obs)
    with torch.no_grad():
        for param in agent.parameters():
            param.mul_(1.1)
    after = outputs(acting, obs)
    for old, new, fresh in zip(before, after, outputs(Acting(agent), obs), strict=True):
        assert not np.allclose(old, new) and np.array_equal(new, fresh)
