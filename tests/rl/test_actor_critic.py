"""The networks of the agents: shapes of every variant, groups of parameters, refusals."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from hesrl.errors import UserError
from hesrl.rl.actor_critic import Agent
from hesrl.rl.layers import ACTIVATIONS, Pixels, sparse_layer_init
from tests.rl.variants import GAUSSIAN, OBSERVATIONS, POLICIES, draw_observations, make_agent


def each_variant(test):
    for name, values in {
        "policy": POLICIES,
        "observations": OBSERVATIONS,
        "shared_trunk": [False, True],
    }.items():
        test = pytest.mark.parametrize(name, values)(test)
    return test


@each_variant
def test_shapes_of_what_an_agent_gives(policy, observations, shared_trunk):
    agent = make_agent(policy, observations, shared_trunk=shared_trunk)
    obs = torch.from_numpy(draw_observations(observations, 7))
    distribution, values = agent(obs)
    expected = {
        "gaussian": [(7, 2), (1, 2)],
        "variance network": [(7, 2), (7, 2)],
        "categorical": [(7, 3)],
        "choices": [(7, 5)],
        "bits": [(7, 3)],
    }[policy]
    assert [tuple(parameter.shape) for parameter in distribution] == expected
    assert values.shape == (7,) and bool(len(agent.trunk)) == shared_trunk
    for alone, together in zip(agent.distribution(obs), distribution, strict=True):
        assert torch.equal(alone, together)


@each_variant
def test_groups_are_a_partition_of_the_parameters_with_one_per_network(
    policy, observations, shared_trunk
):
    agent = make_agent(policy, observations, shared_trunk=shared_trunk)
    groups = [group["params"] for group in agent.parameter_groups()]
    listed = [id(param) for group in groups for param in group]
    assert sorted(listed) == sorted(id(param) for param in agent.parameters())
    networks = [agent.actor, agent.critic]
    if policy == "variance network":
        networks.insert(1, agent.actor_logvar)
    assert len(groups) == len(networks)
    for group, network in zip(groups, networks, strict=True):
        assert {id(p) for p in network.parameters()} <= {id(p) for p in group}
    with_actor = [*agent.trunk.parameters(), agent.actor_logstd]
    assert {id(p) for p in with_actor if p is not None} <= {id(p) for p in groups[0]}


def test_networks_are_those_of_the_settings():
    agent = make_agent("categorical", hidden_sizes=(6, 5, 4), activation="elu")
    layers = [torch.nn.Linear, ACTIVATIONS["elu"]] * 3 + [torch.nn.Linear]
    assert [type(layer) for layer in agent.actor] == layers
    assert [layer.out_features for layer in agent.critic[::2]] == [6, 5, 4, 1]
    shared = make_agent("categorical", hidden_sizes=(6, 5), shared_trunk=True)
    assert [layer.out_features for layer in shared.trunk[::2]] == [6, 5]
    assert (shared.actor[0].in_features, len(shared.critic)) == (5, 1)


def test_a_new_policy_is_almost_uniform_with_orthogonal_hidden_layers():
    torch.manual_seed(0)
    agent = Agent(OBSERVATIONS["vector"], Discrete(3), hidden_sizes=(8,))
    weight = agent.actor[0].weight
    torch.testing.assert_close(weight.T @ weight, 2 * torch.eye(5), atol=1e-5, rtol=0)
    (logits,) = agent.distribution(torch.randn(9, 5))
    assert 0 < logits.abs().max() < 0.1
    log_std = Agent(OBSERVATIONS["vector"], GAUSSIAN).actor_logstd
    assert torch.equal(log_std, torch.zeros(1, 2))


def test_weights_can_start_as_pytorch_makes_them():
    torch.manual_seed(0)
    agent = Agent(
        OBSERVATIONS["vector"], GAUSSIAN, hidden_sizes=(), variance_network=True,
        orthogonal_init=False,
    )  # fmt: skip
    torch.manual_seed(0)
    critic, actor, *logvar = [torch.nn.Linear(5, n) for n in (1, 2, 64)] + [torch.nn.Linear(64, 2)]
    networks = agent.critic, agent.actor, agent.actor_logvar
    for network, layers in zip(networks, ([critic], [actor], logvar), strict=True):
        for layer, expected in zip(network[::2], layers, strict=True):
            assert torch.equal(layer.weight, expected.weight)
            assert torch.equal(layer.bias, expected.bias)


@pytest.mark.parametrize("layout", ["channels last", "channels first"])
def test_images_become_channels_of_numbers_from_zero_to_one(layout):
    images = torch.from_numpy(draw_observations(layout, 3))
    pixels = Pixels(OBSERVATIONS[layout].shape)(images)
    assert pixels.shape == (3, 2, 40, 36) and pixels.dtype == torch.float32
    x = images[2, 7, 5, 1] if layout == "channels last" else images[2, 1, 7, 5]
    assert pixels[2, 1, 7, 5] == x / 255
    assert pixels.min() == 0 and pixels.max() == 1


def test_both_layouts_of_an_image_give_the_same():
    last, first = (make_agent("categorical", f"channels {x}") for x in ("last", "first"))
    images = torch.from_numpy(draw_observations("channels last", 3))
    values = last(images)[1], first(images.permute(0, 3, 1, 2))[1]
    torch.testing.assert_close(*values)


@pytest.mark.parametrize("shape", [(35, 36, 1), (3, 36, 35)])
def test_an_image_that_is_too_small_is_refused(shape):
    with pytest.raises(UserError, match=r"images of \(.*\) are too small: .* 36 × 36 pixels"):
        Agent(Box(0, 255, shape, np.uint8), Discrete(2))
    Agent(Box(0, 255, (36, 36, 1), np.uint8), Discrete(2))


def test_discrete_actions_have_no_variance_network():
    with pytest.raises(UserError, match="--variance-network: discrete actions have no variance"):
        Agent(OBSERVATIONS["vector"], Discrete(2), variance_network=True)


@pytest.mark.parametrize(
    ("layer", "fan_in", "zeros"),
    [
        (torch.nn.Linear(17, 128), 17, 16), (torch.nn.Linear(128, 6), 128, 116),
        (torch.nn.Linear(30, 9), 30, 27), (torch.nn.Conv2d(2, 40, 3), 18, 17),
        (torch.nn.Linear(8, 128), 8, 7), (torch.nn.Linear(4, 128), 4, 3),
    ],
)  # fmt: skip
def test_nine_tenths_of_the_weights_of_each_unit_start_at_zero_but_never_all(layer, fan_in, zeros):
    torch.manual_seed(0)
    weight = sparse_layer_init(layer, 0.9).weight.detach().flatten(1)
    assert ((weight == 0).sum(1) == zeros).all() and not layer.bias.any()
    others = weight[weight != 0] * fan_in**0.5
    assert others.abs().max() <= 1 and others.min() < -0.8 and others.max() > 0.8
    # Which ones differs from unit to unit.
    assert len({tuple(row.tolist()) for row in weight == 0}) > min(5, fan_in - 1)


def test_a_normalization_lies_between_each_hidden_layer_and_its_activation():
    agent = make_agent("gaussian", layer_norm=True, activation="leaky_relu", softplus_std=True)
    kinds = [torch.nn.Linear, torch.nn.LayerNorm, torch.nn.LeakyReLU] * 2 + [torch.nn.Linear]
    assert [type(layer) for layer in agent.actor] == kinds
    assert agent.actor[-1].out_features == 4 and agent.actor_logstd is None
    assert not any(isinstance(m, torch.nn.LayerNorm) and [*m.parameters()] for m in agent.modules())
    outputs = torch.tensor([[0.3, -0.2, -5.0, 40.0]])
    mean, log_std = agent.distribution_of(outputs)
    assert torch.equal(mean, outputs[:, :2])
    expected = torch.log(torch.log1p(torch.exp(outputs[:, 2:].double())))
    torch.testing.assert_close(log_std.double(), expected, rtol=1e-6, atol=1e-6)
