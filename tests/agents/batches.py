"""Rollouts of random numbers, and the batches that the agents make of rollouts; for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from hesrl.agents import ppo
from hesrl.rl.actor_critic import Agent
from hesrl.rl.numpy_forward import Acting
from hesrl.rl.policies import policy_for
from tests.rl.variants import POLICIES, draw_observations


def random_rollout(policy: str, steps: int, num_envs: int, observations: str = "vector") -> Any:
    """Return a rollout of random numbers without the end of an episode, for both agents."""
    rng = np.random.default_rng(0)
    obs = draw_observations(observations, steps + 1, num_envs)
    of_policy = policy_for(POLICIES[policy][0])
    noise = of_policy.noise(rng, steps, num_envs)
    parameters = np.zeros((1, of_policy.size), np.float32)
    actions = np.stack([of_policy.sample((parameters, parameters), row) for row in noise])
    return ppo.Rollout(
        obs=obs[:-1],
        actions=actions,
        rewards=rng.standard_normal((steps, num_envs), dtype=np.float32),
        terminations=np.zeros((steps, num_envs), dtype=bool),
        truncations=np.zeros((steps, num_envs), dtype=bool),
        final_obs={},
        next_obs=obs[-1],
        episodes=[],
    )


def batch_of(module: Any, storage: Any, agent: Agent, **settings: Any) -> Any:
    """Return what an agent makes of a rollout, by default with γ = 0.99 and λ = 0.95."""
    args = module.Args(**{"gamma": 0.99, "gae_lambda": 0.95, **settings})
    networks = (agent, Acting(agent)) if module is ppo else (Acting(agent),)
    return module.make_batch(storage, *networks, args)
