"""The losses of the agents in the words of CleanRL, on `torch.distributions`; for tests."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal
from torch.func import functional_call

from hesrl.curvature import arm
from hesrl.rl.actor_critic import Agent
from hesrl.rl.independent_policies import BernoulliPolicy, MultiCategoricalPolicy
from tests.reference import hess_diag
from tests.rl.variants import POLICIES, make_agent

N = 24
VARIANTS = [(p, s) for p in POLICIES for s in (False, True)]
"""Policy, and whether actor and critic share a trunk."""


class Choices:
    """Several categorical distributions at once, as CleanRL's PPO for MultiDiscrete has them."""

    def __init__(self, logits: Tensor, sizes: tuple[int, ...]) -> None:
        self.parts = [Categorical(logits=part) for part in logits.split(sizes, 1)]

    def sample(self) -> Tensor:
        return torch.stack([part.sample() for part in self.parts], 1)

    def log_prob(self, actions: Tensor) -> Tensor:
        columns = zip(self.parts, actions.unbind(1), strict=True)
        return torch.stack([part.log_prob(column) for part, column in columns]).sum(0)

    def entropy(self) -> Tensor:
        return torch.stack([part.entropy() for part in self.parts]).sum(0)


def policy_of(agent: Agent, obs: Tensor) -> Distribution | Choices:
    features = agent.trunk(obs)
    outputs = agent.actor(features)
    if agent.actor_logvar is not None:
        std = torch.exp(0.5 * agent.actor_logvar(features))
    elif agent.actor_logstd is not None:
        std = torch.exp(agent.actor_logstd.expand_as(outputs))
    elif isinstance(agent.policy, MultiCategoricalPolicy):
        return Choices(outputs, agent.policy.sizes)
    elif isinstance(agent.policy, BernoulliPolicy):
        return Independent(Bernoulli(logits=outputs), 1)
    else:
        return Categorical(logits=outputs)
    return Independent(Normal(outputs, std), 1)


def values_of(agent: Agent, obs: Tensor) -> Tensor:
    return agent.critic(agent.trunk(obs)).view(-1)


def make_data(policy: str, shared_trunk: bool) -> tuple[Agent, list[Tensor]]:
    """Return an agent in double precision, and what PPO's loss takes; A2C's leaves the last out.

    Values and log-probabilities before lie inside and outside the clip by 0.2.
    """
    agent = make_agent(policy, shared_trunk=shared_trunk).double()
    obs, advantages, returns = torch.randn(N, 5), torch.randn(N) + 0.5, torch.randn(N)
    obs, advantages, returns = obs.double(), advantages.double(), returns.double()
    with torch.no_grad():
        actions = policy_of(agent, obs).sample()
        logprobs = policy_of(agent, obs).log_prob(actions) + 0.3 * torch.randn(N).double()
        values = values_of(agent, obs) + 0.3 * torch.randn(N).double()
    return agent, [obs, actions, advantages, returns, values, logprobs]


class PPOLoss(nn.Module):
    """CleanRL's loss of a minibatch, with a plain value loss of the same weight."""

    def __init__(self, agent: Agent, args: Any) -> None:
        super().__init__()
        self.agent, self.args = agent, args

    def forward(
        self, obs: Tensor, actions: Tensor, advantages: Tensor, returns: Tensor, values: Tensor,
        logprobs: Tensor,
    ) -> Tensor:  # fmt: skip
        args, policy = self.args, policy_of(self.agent, obs)
        ratio = (policy.log_prob(actions) - logprobs).exp()
        if args.norm_adv:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        pg_loss1 = -advantages * ratio
        pg_loss2 = -advantages * torch.clamp(ratio, 1 - args.clip_coef, 1 + args.clip_coef)
        pg_loss = torch.max(pg_loss1, pg_loss2).mean()
        newvalue = values_of(self.agent, obs)
        squares = (newvalue - returns) ** 2
        if args.clip_vloss:
            change = torch.clamp(newvalue - values, -args.clip_coef, args.clip_coef)
            squares = torch.max(squares, (values + change - returns) ** 2)
        v_loss = 0.5 * squares.mean()
        return pg_loss - args.ent_coef * policy.entropy().mean() + args.vf_coef * v_loss


class A2CLoss(PPOLoss):
    """The loss of a rollout, with the same arguments."""

    def forward(
        self, obs: Tensor, actions: Tensor, advantages: Tensor, returns: Tensor, *_: Tensor
    ) -> Tensor:
        args, policy = self.args, policy_of(self.agent, obs)
        if args.norm_adv:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        pg_loss = -(advantages * policy.log_prob(actions)).mean()
        v_loss = 0.5 * ((values_of(self.agent, obs) - returns) ** 2).mean()
        return pg_loss - args.ent_coef * policy.entropy().mean() + args.vf_coef * v_loss


def assert_derivatives_agree(
    agent: Agent, loss_fn: Callable[..., Tensor], written_out: PPOLoss, data: list[Tensor]
) -> None:
    """Compare loss, gradients and curvature; the last layers' with the true Hessian diagonal too.

    Args:
        agent: In double precision.
        loss_fn: The loss of this agent, from the data.
        written_out: The same loss.
        data: What both take.
    """
    other = copy.deepcopy(written_out)
    arm(agent.parameters())
    arm(other.parameters())
    loss, expected = loss_fn(*data), other(*data)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    names, theirs = zip(*other.named_parameters(), strict=True)
    for name, p, q in zip(names, agent.parameters(), theirs, strict=True):
        assert q.grad.any() and q.hess_diag.any(), name
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-12, msg=name)
        torch.testing.assert_close(p.hess_diag, q.hess_diag, rtol=1e-9, atol=1e-12, msg=name)
    last = outermost(agent)
    exact = hess_diag(
        lambda *values: functional_call(
            written_out, {f"agent.{n}": v for n, v in zip(last, values, strict=True)}, tuple(data)
        ),
        *(p.detach() for p in last.values()),
    )
    for (name, p), hess in zip(last.items(), exact, strict=True):
        torch.testing.assert_close(p.hess_diag, hess, rtol=1e-9, atol=1e-12, msg=name)


def outermost(agent: Agent) -> dict[str, Tensor]:
    """The parameters whose HesScale is exact: those of the last layers, and log σ."""
    networks = {"actor": agent.actor, "critic": agent.critic, "actor_logvar": agent.actor_logvar}
    params = {
        f"{name}.{len(network) - 1}.{kind}": getattr(network[-1], kind)
        for name, network in networks.items()
        if network is not None
        for kind in ("weight", "bias")
    }
    if agent.actor_logstd is not None:
        params["actor_logstd"] = agent.actor_logstd
    return params
