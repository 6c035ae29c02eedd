"""What training depends on: refused where it is not finite, summed up, saved and restored."""

import contextlib
import math

import numpy as np
import pytest
import torch

from hesrl import optim
from hesrl.agents.ppo import rollout
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.optim.sources import _bounded
from hesrl.rl.actor_critic import Agent
from hesrl.rl.numpy_forward import Acting
from hesrl.rl.training_state import (
    check_finite,
    checkpoint,
    curvature_metrics,
    curvature_of,
    restore,
)
from hesrl.runs.checkpoint import load_checkpoint, save_checkpoint
from tests.rl.variants import draw_observations, make_agent


def backward(agent):
    (mean, log_std), values = agent(torch.from_numpy(draw_observations("vector", 6)))
    (mean.square().mean() - log_std.square().sum() + values.square().mean()).backward()


def after_one_step(name):
    agent = make_agent("gaussian")
    optimizer = optim.get(name)(agent.parameter_groups(), lr=1e-3)
    backward(agent)
    optimizer.step()
    return agent, optimizer


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("loss", "loss"),
        ("exp_avg", "gradient"),
        ("exp_avg_sq", "squared gradient"),
        ("exp_hess_sq", "squared curvature"),
        ("parameter", "sum of the parameters"),
    ],
)
def test_what_is_not_finite_is_named(key, name, value):
    agent, optimizer = after_one_step("scaled-adam")
    check_finite(agent, optimizer, 1.0, global_step=640)
    with torch.no_grad():
        if key == "parameter":
            agent.critic[2].bias[1] = value
        elif key != "loss":
            optimizer.state[agent.critic[2].bias][key][1] = value
    check_refused(agent, optimizer, name, value if key == "loss" else 1.0)


def test_the_large_number_in_place_of_a_curvature_that_is_not_finite_is_named():
    agent, optimizer = after_one_step("adahesscale")
    bounded = _bounded(torch.tensor([math.nan]))
    optimizer.state[agent.critic[2].bias]["exp_hess_sq"] += 0.001 * bounded.square()
    check_refused(agent, optimizer, "squared curvature", 1.0)


def check_refused(agent, optimizer, name, loss):
    expected = f"the {name} is not finite at step 640: try a smaller --learning-rate or a larger"
    with pytest.raises(FloatingPointError, match=expected):
        check_finite(agent, optimizer, loss, global_step=640)


@pytest.mark.parametrize("name", ["adahesscale", "scaled-adam", "adahessian"])
def test_curvature_is_summed_up_in_three_numbers(name):
    agent = make_agent("gaussian")
    optimizer = optim.get(name)(agent.parameter_groups(), lr=1e-3)
    handed_on = curvature_of(agent, optimizer)
    backward(agent)
    metrics = curvature_metrics(handed_on())
    hess = np.concatenate([p.hess_diag.numpy().ravel() for p in agent.parameters()])
    assert 0 < (hess < 0).mean() < 1
    assert metrics == pytest.approx(
        {
            "curvature/norm": np.linalg.norm(hess),
            "curvature/negative_share": (hess < 0).mean(),
            "curvature/largest": np.abs(hess).max(),
        },
        rel=1e-5,
    )


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_first_order_optimizers_have_no_curvature_to_sum_up(name):
    agent = make_agent("gaussian")
    assert curvature_of(agent, optim.get(name)(agent.parameter_groups(), lr=1e-3)) is None
    assert curvature_metrics([]) == {}


@pytest.fixture
def training():
    """Makes everything that a run depends on, from a seed."""
    with contextlib.ExitStack() as stack:

        def make(seed):
            torch.manual_seed(seed)
            envs = NormalizedEnvs("InvertedPendulum-v5", 2, seed=seed, gamma=0.99)
            stack.enter_context(contextlib.closing(envs))
            agent = Agent(envs.observation_space, envs.action_space, hidden_sizes=(4,))
            optimizer = optim.get("adahesscale")(agent.parameter_groups(), lr=1e-2)
            return agent, optimizer, envs, np.random.default_rng(seed)

        yield make


def train(agent, optimizer, envs, rng):
    """Return what two rollouts of 9 steps, each with a step of the optimizer, saw and drew."""
    seen = []
    for _ in range(2):
        seen.append(rollout(envs, Acting(agent), 9, rng).obs)
        optimizer.zero_grad()
        (mean, log_std), values = agent(torch.from_numpy(seen[-1][:, 0]))
        drawn = torch.rand(len(values))
        ((mean[:, 0] * log_std.exp()).square() + (values - drawn).square()).mean().backward()
        optimizer.step()
    return np.array(seen)


def test_a_checkpoint_brings_everything_back(training, tmp_path):
    whole = training(seed=1)
    whole[2].reset()
    train(*whole)
    save_checkpoint(tmp_path / "checkpoint.pt", checkpoint(*whole))
    expected = train(*whole)
    resumed = training(seed=2)
    restore(load_checkpoint(tmp_path / "checkpoint.pt"), *resumed)
    assert np.array_equal(train(*resumed), expected)
    for one, other in zip(resumed[0].parameters(), whole[0].parameters(), strict=True):
        assert torch.equal(one, other)


def test_an_environment_that_starts_anew_is_said(capsys):
    parts = []
    for env_id in ("CartPole-v1", "HalfCheetah-v5"):
        with contextlib.closing(NormalizedEnvs(env_id, 1, seed=1, gamma=0.99)) as envs:
            envs.reset()
            agent = Agent(envs.observation_space, envs.action_space, hidden_sizes=())
            optimizer = optim.get("adam")(agent.parameter_groups(), lr=1e-3)
            rest = agent, optimizer, envs, np.random.default_rng(0)
            restore(checkpoint(*rest), *rest)
            parts.append(capsys.readouterr().out)
    assert parts == ["the environment's state cannot be saved: it starts a new episode\n", ""]
