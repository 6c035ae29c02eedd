"""The step sizes of the networks: what they begin with, annealing, and adapting to the policy."""

import math

import pytest
import torch

from hesrl.agents.ppo import Args
from hesrl.errors import UserError
from hesrl.rl.agent_optimizer import adapt_to_kl, anneal, make_optimizer
from tests.rl.variants import make_agent


def optimizer_of(policy="gaussian", **settings):
    args = Args(learning_rate=0.25, **settings)
    args.check()
    args.fill_in()
    return make_optimizer(args, make_agent(policy))


def rates(optimizer):
    return {group["name"]: float(group["lr"]) for group in optimizer.param_groups}


@pytest.mark.parametrize("policy", ["gaussian", "variance network"])
@pytest.mark.parametrize("optimizer", ["adam", "adahesscale", "scaled-adahesscale"])
def test_each_network_begins_with_its_own_step_size(policy, optimizer):
    found = optimizer_of(
        policy, optimizer=optimizer, critic_learning_rate=0.5, variance_learning_rate=0.125
    )
    assert rates(found) == {"actor": 0.25, "variance": 0.125, "critic": 0.5}


def test_log_std_alone_has_the_step_size_of_the_variance():
    agent = make_agent("gaussian")
    args = Args(learning_rate=0.25, variance_learning_rate=0.125)
    args.fill_in()
    groups = {group["name"]: group for group in make_optimizer(args, agent).param_groups}
    (own,) = groups["variance"]["params"]
    assert own is agent.actor_logstd and groups["variance"]["lr"] == 0.125
    assert not any(own is param for param in groups["actor"]["params"])
    assert sum(len(group["params"]) for group in groups.values()) == len(list(agent.parameters()))


def test_nothing_given_gives_all_the_same():
    assert rates(optimizer_of()) == {"actor": 0.25, "critic": 0.25}
    named = optimizer_of("variance network")
    assert rates(named) == {"actor": 0.25, "variance": 0.25, "critic": 0.25}


def test_discrete_actions_have_no_variance():
    with pytest.raises(UserError, match=r"^--variance-learning-rate: discrete actions have no"):
        optimizer_of("categorical", variance_learning_rate=0.1)


@pytest.mark.parametrize("option", ["critic-learning-rate", "variance-learning-rate"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_impossible_step_sizes_are_refused(option, value):
    with pytest.raises(UserError, match=rf"^--{option} {value}"):
        Args(**{option.replace("-", "_"): value}).check()


def test_annealing_keeps_the_ratio_of_the_step_sizes():
    optimizer = optimizer_of(critic_learning_rate=0.5)
    anneal(optimizer, 0.5)
    anneal(optimizer, 0.25)
    assert rates(optimizer) == {"actor": 0.0625, "critic": 0.125}


@pytest.mark.parametrize(
    ("approx_kl", "factor"),
    [
        (0.0, 1.5), (0.0049, 1.5), (0.005, 1), (0.01, 1), (0.02, 1), (0.0201, 1 / 1.5),
        (math.inf, 1 / 1.5), (math.nan, 1),
    ],
)  # fmt: skip
def test_step_sizes_follow_the_divergence(approx_kl, factor):
    optimizer = optimizer_of(critic_learning_rate=0.5)
    adapt_to_kl(optimizer, approx_kl, 0.01)
    assert rates(optimizer) == pytest.approx({"actor": 0.25 * factor, "critic": 0.5 * factor})


@pytest.mark.parametrize(("approx_kl", "end"), [(0.0, 10), (1.0, 0.01)])
def test_step_sizes_stay_within_bounds(approx_kl, end):
    optimizer = optimizer_of(critic_learning_rate=0.5)
    for _ in range(30):
        adapt_to_kl(optimizer, approx_kl, 0.01)
    assert rates(optimizer) == pytest.approx({"actor": 0.25 * end, "critic": 0.5 * end})


def test_a_step_size_that_is_a_tensor_adapts_too():
    optimizer = optimizer_of()
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(group["lr"], dtype=torch.float64)
    adapt_to_kl(optimizer, 1.0, 0.01)
    assert rates(optimizer) == pytest.approx({"actor": 0.25 / 1.5, "critic": 0.25 / 1.5})
