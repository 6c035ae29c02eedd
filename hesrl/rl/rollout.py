"""Rollouts: acting in the environments, and what an update learns from."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hesrl.envs.vector import Episode, NormalizedEnvs
from hesrl.learner import Learner
from hesrl.runs import generator_state, set_generator_state


class Rollout(NamedTuple):
    """T steps in each of N environments."""

    obs: NDArray[np.float32]
    """Observations that were acted on (T, N, obs_dim)."""
    actions: NDArray[np.float32]
    """Actions (T, N, act_dim), before they are clipped to the environment's bounds."""
    noise: NDArray[np.float32]
    """Their distance from the mean in units of σ (T, N, act_dim)."""
    rewards: NDArray[np.float32]
    """Normalized rewards (T, N)."""
    terminations: NDArray[np.bool_]
    """Whether a step reached a terminal state (T, N)."""
    truncations: NDArray[np.bool_]
    """Whether a time limit alone ended the episode (T, N)."""
    final_obs: NDArray[np.float32]
    """Where an episode was truncated, the observation that the step led to (T, N, obs_dim)."""
    next_obs: NDArray[np.float32]
    """Observations to go on from (N, obs_dim)."""
    episodes: list[tuple[int, Episode]]
    """The episodes that ended, each with the environment steps so far in this rollout."""


def rollout(
    envs: NormalizedEnvs,
    learner: Learner,
    num_steps: int,
    rng: np.random.Generator,
    *,
    until_episode_ends: bool = False,
) -> Rollout:
    """Act for ``num_steps`` steps in each environment, from where they are.

    Args:
        envs: The environments.
        learner: Its actor acts.
        num_steps: T.
        rng: Draws the actions.
        until_episode_ends: Whether the first end of an episode also ends the rollout.
    """
    next_obs = envs.observations
    num_envs, obs_dim = next_obs.shape
    std = learner.agent.actor_logstd.detach().exp().numpy()
    noise = rng.standard_normal((num_steps, num_envs, std.shape[1]), dtype=np.float32)
    actions = noise * std
    obs = np.empty((num_steps, num_envs, obs_dim), dtype=np.float32)
    rewards = np.empty((num_steps, num_envs), dtype=np.float32)
    terminations = np.empty((num_steps, num_envs), dtype=bool)
    truncations = np.empty((num_steps, num_envs), dtype=bool)
    final_obs = np.zeros_like(obs)
    episodes: list[tuple[int, Episode]] = []
    act, step_envs = learner.act, envs.step

    for step in range(num_steps):
        obs[step] = next_obs
        action = actions[step]
        action += act(next_obs)
        next_obs, rewards[step], terminations[step], truncations[step], final, ended = step_envs(
            action
        )
        if final is not None:
            final_obs[step] = final
            episodes.extend(((step + 1) * num_envs, episode) for episode in ended)
            if until_episode_ends:
                break

    taken = slice(step + 1)
    return Rollout(
        obs[taken], actions[taken], noise[taken], rewards[taken], terminations[taken],
        truncations[taken], final_obs[taken], next_obs, episodes,
    )  # fmt: skip


def compute_gae(
    rewards: NDArray[np.float32],
    values: NDArray[np.float32],
    next_values: NDArray[np.float32],
    dones: NDArray[np.bool_],
    gamma: float,
    gae_lambda: float,
) -> NDArray[np.float32]:
    """Generalized advantage estimation (Schulman et al., 2016).

        δ_t = r_t + γ V(s_{t+1}) − V(s_t),    A_t = δ_t + γ λ A_{t+1} within an episode

    Args:
        rewards: r (T, N).
        values: V(s_t) (T, N).
        next_values: V(s_{t+1}) (T, N): of the state that step t reached, zero if it is terminal.
        dones: Whether step t ended its episode (T, N).
        gamma: γ.
        gae_lambda: λ.

    Returns:
        The advantages A (T, N), float32.
    """
    deltas = rewards + gamma * next_values - values
    decays = gamma * gae_lambda * (1.0 - dones)
    advantages = np.empty_like(deltas, dtype=np.float32)
    for env in range(deltas.shape[1]):
        advantage, column = 0.0, []
        for delta, decay in zip(
            deltas[::-1, env].tolist(), decays[::-1, env].tolist(), strict=True
        ):
            advantage = delta + decay * advantage
            column.append(advantage)
        advantages[:, env] = column[::-1]
    return advantages


class Batch(NamedTuple):
    """One rollout, flattened over steps and environments (B samples)."""

    obs: Tensor
    """Observations (B, obs_dim)."""
    actions: Tensor
    """Actions (B, act_dim)."""
    advantages: Tensor
    """A (B,)."""
    returns: Tensor
    """A + V (B,), what the values are to become."""
    values: Tensor
    """V (B,), before the update."""


def make_batch(storage: Rollout, learner: Learner, gamma: float, gae_lambda: float) -> Batch:
    """Compute values and advantages of a rollout, in one pass each.

    Args:
        storage: The rollout.
        learner: Its critic gives the values.
        gamma: γ.
        gae_lambda: λ.
    """
    obs, truncations = storage.obs, storage.truncations
    reached = np.concatenate((obs, storage.next_obs[None])).reshape(-1, obs.shape[2])
    all_values = learner.value(reached).reshape(len(obs) + 1, -1)
    values, next_values = all_values[:-1], all_values[1:].copy()
    if storage.episodes:
        if truncations.any():
            next_values[truncations] = learner.value(storage.final_obs[truncations])[:, 0]
        next_values[storage.terminations] = 0.0
    advantages = compute_gae(
        storage.rewards, values, next_values, storage.terminations | truncations, gamma, gae_lambda
    )
    return Batch(
        torch.from_numpy(obs).flatten(0, 1),
        torch.from_numpy(storage.actions).flatten(0, 1),
        torch.from_numpy(advantages).flatten(),
        torch.from_numpy(advantages + values).flatten(),
        torch.from_numpy(values).flatten(),
    )


def checkpoint(learner: Learner, envs: NormalizedEnvs, rng: np.random.Generator) -> dict[str, Any]:
    """Return all that the next rollout and its update depend on.

    Args:
        learner: Networks and optimizer.
        envs: The environments.
        rng: Draws the actions.
    """
    return {
        "learner": learner.state_dict(),
        "envs": envs.state_dict(),
        "torch_rng": torch.get_rng_state(),
        "action_rng": generator_state(rng),
    }


def restore(
    state: dict[str, Any], learner: Learner, envs: NormalizedEnvs, rng: np.random.Generator
) -> None:
    """Take over what `checkpoint` returned, and say so if an environment cannot go on."""
    learner.load_state_dict(state["learner"])
    torch.set_rng_state(state["torch_rng"])
    set_generator_state(rng, state["action_rng"])
    if not envs.load_state_dict(state["envs"]):
        print("the environment's state cannot be saved: it starts a new episode")
