"""Rollouts: acting in the environments, and what an update learns from."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hesrl.envs.normalized_envs import Episode, NormalizedEnvs
from hesrl.rl.gae import compute_gae
from hesrl.rl.numpy_forward import Acting


class Rollout(NamedTuple):
    """T steps in each of N environments."""

    obs: NDArray[Any]
    """Observations that were acted on (T, N, …)."""
    actions: NDArray[Any]
    """Continuous actions (T, N, act_dim), not clipped to the bounds, or the numbers of discrete
    ones (T, N)."""
    rewards: NDArray[np.float32]
    """Normalized rewards (T, N)."""
    terminations: NDArray[np.bool_]
    """Whether a step reached a terminal state (T, N)."""
    truncations: NDArray[np.bool_]
    """Whether a time limit alone ended the episode (T, N)."""
    final_obs: dict[int, NDArray[Any]]
    """By the number of a step that ended an episode, the observations that it led to (N, …)."""
    next_obs: NDArray[Any]
    """Observations to go on from (N, …)."""
    episodes: list[tuple[int, Episode]]
    """The episodes that ended, each with the environment steps so far in this rollout."""


def rollout(
    envs: NormalizedEnvs,
    acting: Acting,
    num_steps: int,
    rng: np.random.Generator,
    *,
    until_episode_ends: bool = False,
) -> Rollout:
    """Act for ``num_steps`` steps in each environment, from where they are.

    In real time a rollout never ends within an episode, so that learning does not interrupt one:
    an episode that goes on is cut off, which is a truncation. That happens only after a fault has
    made another one shorter, because ``num_steps`` are whole episodes (`check_real_time`).

    Args:
        envs: The environments.
        acting: Gives the policy.
        num_steps: T.
        rng: Draws the actions.
        until_episode_ends: Whether the first end of an episode also ends the rollout.
    """
    next_obs = envs.observations
    num_envs = len(next_obs)
    obs = np.empty((num_steps, *next_obs.shape), dtype=next_obs.dtype)
    actions = np.empty((num_steps, num_envs, *acting.policy.shape), dtype=acting.policy.dtype)
    rewards = np.empty((num_steps, num_envs), dtype=np.float32)
    terminations = np.zeros((num_steps, num_envs), dtype=bool)
    truncations = np.zeros((num_steps, num_envs), dtype=bool)
    final_obs: dict[int, NDArray[Any]] = {}
    episodes: list[tuple[int, Episode]] = []

    # A policy that has diverged is refused by the environments, in one line.
    with np.errstate(over="ignore", invalid="ignore"):
        sample, step_envs = acting.sampler(rng, num_steps, num_envs), envs.step
        for step in range(num_steps):
            obs[step] = next_obs
            action = sample(step, next_obs)
            actions[step] = action
            next_obs, rewards[step], terminated, truncated, final, ended = step_envs(action)
            if final is not None:
                terminations[step], truncations[step] = terminated, truncated
                final_obs[step] = final
                episodes.extend(((step + 1) * num_envs, episode) for episode in ended)
                if until_episode_ends:
                    break

    if envs.real_time and step not in final_obs:
        truncations[step] = True
        final_obs[step] = envs.cut_off()
        next_obs = envs.observations

    taken = slice(step + 1)
    return Rollout(
        obs[taken], actions[taken], rewards[taken], terminations[taken], truncations[taken],
        final_obs, next_obs, episodes,
    )  # fmt: skip


class Batch(NamedTuple):
    """One rollout, flattened over steps and environments (B samples)."""

    obs: Tensor
    """Observations (B, …)."""
    actions: Tensor
    """Actions (B, act_dim), or the numbers of discrete ones (B,)."""
    advantages: Tensor
    """A (B,)."""
    returns: Tensor
    """A + V (B,), what the values are to become."""
    values: Tensor
    """V (B,), before the update."""

    def to(self, device: str) -> Batch:
        """Return the batch on a device."""
        if device == "cpu":  # where it is made
            return self
        return Batch(*(tensor.to(device) for tensor in self))


def make_batch(storage: Rollout, acting: Acting, gamma: float, gae_lambda: float) -> Batch:
    """Compute values and advantages of a rollout, in one pass each.

    Args:
        storage: The rollout.
        acting: Gives the values.
        gamma: γ.
        gae_lambda: λ.

    Raises:
        FloatingPointError: An advantage is not finite.
    """
    obs, truncations = storage.obs, storage.truncations
    steps, num_envs, *shape = obs.shape
    reached = np.concatenate((obs, storage.next_obs[None])).reshape(-1, *shape)
    with np.errstate(over="ignore", invalid="ignore"):
        all_values = acting.value(reached).reshape(steps + 1, num_envs)
        values, next_values = all_values[:-1], all_values[1:]
        dones = storage.terminations
        if storage.final_obs:
            next_values = next_values.copy()
            for step, final_obs in storage.final_obs.items():
                cut = truncations[step]
                if cut.any():
                    next_values[step, cut] = acting.value(final_obs[cut])
            next_values[storage.terminations] = 0.0
            dones = storage.terminations | truncations
        advantages = compute_gae(storage.rewards, values, next_values, dones, gamma, gae_lambda)
    if not np.isfinite(advantages).all():
        raise FloatingPointError(
            "an advantage is not finite; the critic has diverged: try a smaller --learning-rate "
            "or a larger --eps"
        )
    samples = steps * num_envs
    return Batch(
        torch.from_numpy(obs.reshape(samples, *shape)),
        torch.from_numpy(storage.actions.reshape(samples, *storage.actions.shape[2:])),
        torch.from_numpy(advantages.reshape(samples)),
        torch.from_numpy((advantages + values).reshape(samples)),
        torch.from_numpy(values.reshape(samples)),
    )
