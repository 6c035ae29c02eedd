"""The streaming actor–critic: what it learns from a transition."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from torch.func import jacrev

from hesrl.agents import stream_ac
from hesrl.rl.actor_critic import Agent
from hesrl.train_step import RecordedStep
from tests.agents.streaming_written_out import PublishedAgent, forward
from tests.envs.test_real_time import register  # noqa: F401

ACTIONS = {
    "gaussian": Box(-1, 1, (2,), np.float32),
    "categorical": Discrete(3),
    "choices": MultiDiscrete([2, 3]),
    "bits": MultiBinary(2),
}
EACH_POLICY = pytest.mark.parametrize("policy", ACTIONS)


class Learner:
    """An agent with its optimizers, and the same agent in the words of the authors."""

    def __init__(self, policy, dtype=torch.float64, hidden_sizes=(8, 7), **settings):
        torch.manual_seed(0)
        self.args = stream_ac.Args(**settings)
        self.args.check()
        self.agent = Agent(
            Box(-np.inf, np.inf, (5,), np.float32), ACTIONS[policy], hidden_sizes=hidden_sizes,
            activation="leaky_relu", layer_norm=True, sparse_init=0.5, softplus_std=True,
        ).to(dtype)  # fmt: skip
        self.kind, self.dtype = policy, dtype
        self.optimizers = stream_ac.make_optimizers(self.agent, self.args)
        form = {"intentional": "policy", "intentional-kl": "kl"}.get(self.args.optimizer, "obgd")
        etas = {} if form != "kl" else {"eta": 5e-4}
        self.published = PublishedAgent(
            *([p.detach().double().clone() for p in network.parameters()]
              for network in (self.agent.actor, self.agent.critic)),
            self.kind, form, self.args.source == "fisher", **etas,
            power=self.args.power, damping=self.args.damping,
        )  # fmt: skip
        self.step = partial(stream_ac.learn, self.agent, *self.optimizers, self.args)

    def transition(self, step):
        """Numbers that follow from the step alone; every eleventh state is terminal."""
        generator = torch.Generator().manual_seed(step)
        obs, next_obs = (
            torch.randn(5, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
            for i in (step + 1000, step + 1001)
        )
        action = torch.randn(2, generator=generator, dtype=torch.float64)
        if self.kind == "categorical":
            action = torch.randint(3, (), generator=generator)
        elif self.kind != "gaussian":
            action = torch.randint(2, (2,), generator=generator)
            action = action.double() if self.kind == "bits" else action
        reward = torch.randn((), generator=generator, dtype=torch.float64)
        return obs, action, reward, next_obs, float(step % 11 == 10)

    def tensors(self, step):
        """The transition as the agent takes it."""
        numbers = map(torch.as_tensor, self.transition(step))
        return [(x.to(self.dtype) if x.is_floating_point() else x)[None] for x in numbers]

    def learn(self, step):
        """Let both learn; return what the agent and the authors' words give."""
        (row,) = self.step(*self.tensors(step))
        return row, self.published.learn(*self.transition(step))

    def parameters(self):
        """All parameters of the agent as one vector."""
        networks = self.agent.actor, self.agent.critic
        return torch.cat([p.detach().double().flatten() for n in networks for p in n.parameters()])

    def published_parameters(self):
        """Those of the authors' words."""
        thetas = *self.published.actor.thetas, *self.published.critic.thetas
        return torch.cat([theta.flatten() for theta in thetas])


@EACH_POLICY
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"source": "fisher", "power": 1.0, "damping": 0.1},
        {"optimizer": "intentional-kl", "source": "fisher"},
        {"optimizer": "obgd"},
    ],
    ids=str,
)
def test_each_transition_is_learned_as_the_equations_say(policy, settings):
    """Two episodes; what is returned is δ, v and H before the step, and the policy after it."""
    learner = Learner(policy, **settings)
    start = learner.parameters()
    for step in range(22):
        row, (delta, value, entropy) = learner.learn(step)
        outputs = forward(learner.published.actor.thetas, learner.transition(step)[3])
        if policy == "gaussian":
            outputs[2:] = torch.nn.functional.softplus(outputs[2:]).log()
        expected = torch.cat((outputs, torch.stack((delta.abs(), value, entropy))))
        torch.testing.assert_close(row, expected, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(
            learner.parameters(), learner.published_parameters(), rtol=1e-10, atol=1e-12
        )
    assert ((learner.parameters() - start).abs() > 1e-9).double().mean() > 0.9


@pytest.mark.parametrize(
    ("dtype", "steps", "tolerance"), [(torch.float64, 1000, 1e-9), (torch.float32, 50, 1e-5)]
)
def test_a_thousand_steps_are_those_of_the_published_equations(dtype, steps, tolerance):
    """Recorded before the first one. In single precision the first fifty: rounding errors grow."""
    learner = Learner("gaussian", dtype)
    before = learner.parameters()
    learner.step = RecordedStep(learner.step, learner.optimizers, expected_steps=0, break_even=1)
    learner.step.warm_up(*learner.tensors(0))
    for step in range(steps):
        learner.learn(step)
    assert learner.step.tier == "replayed"
    assert (learner.parameters() - before).abs().max() > 0.1
    expected = learner.published_parameters()
    torch.testing.assert_close(learner.parameters(), expected, rtol=tolerance, atol=tolerance)


@EACH_POLICY
def test_the_diagonal_by_curvature_is_the_fisher_matrix_at_the_last_layers(policy):
    """Of the policy E_a[(∂ log π)²], of the value J²; before the last layers it is HesScaleGN's."""
    learner = Learner(policy, source="fisher")
    actor = [p.detach().clone() for p in learner.agent.actor.parameters()]
    critic = [p.detach().clone() for p in learner.agent.critic.parameters()]
    obs = learner.transition(0)[0]
    learner.learn(0)
    fisher = learner.published.fisher_of(forward(actor, obs))
    for network, thetas, inner in (
        (learner.agent.actor, actor, fisher),
        (learner.agent.critic, critic, torch.ones(1, 1, dtype=torch.float64)),
    ):
        outputs = partial(lambda hidden, *last: forward([*hidden, *last], obs), thetas[:-2])
        jacobians = jacrev(outputs, (0, 1))(*thetas[-2:])
        for param, jacobian in zip([*network.parameters()][-2:], jacobians, strict=True):
            states = (o.state.get(param, {}) for o in learner.optimizers)
            (found,) = [state["exp_fisher"] / 1e-3 for state in states if state]
            flat = jacobian.flatten(1)
            exact = torch.einsum("kj,kl,lj->j", flat, inner, flat).view(param.shape)
            torch.testing.assert_close(found, exact, rtol=1e-9, atol=0)


@EACH_POLICY
@pytest.mark.parametrize("source", stream_ac.SOURCES)
def test_a_recorded_transition_is_the_eager_one(policy, source):
    eager, recorded = (Learner(policy, source=source) for _ in range(2))
    recorded.step = RecordedStep(recorded.step, recorded.optimizers, break_even=1)
    recorded.step.warm_up(*recorded.tensors(0))
    for step in range(12):
        rows = [learner.step(*learner.tensors(step))[0] for learner in (eager, recorded)]
        torch.testing.assert_close(*rows, rtol=1e-8, atol=1e-9)
    assert recorded.step.tier == "replayed"
    torch.testing.assert_close(eager.parameters(), recorded.parameters(), rtol=1e-8, atol=1e-9)


def test_what_only_some_optimizers_have_is_theirs():
    kl = Learner("gaussian", optimizer="intentional-kl").optimizers
    assert [o.param_groups[0]["eta"] for o in kl] == [5e-4, 0.5]
    obgd = Learner("gaussian", optimizer="obgd", kappa_policy=4.0).optimizers
    assert [o.param_groups[0]["kappa"] for o in obgd] == [4.0, 2.0]
    published = Learner("gaussian").optimizers
    assert [o.param_groups[0]["eta"] for o in published] == [0.05, 0.5]
