"""A2C, advantage actor-critic (Mnih et al., 2016), first or second order.

The optimizer takes one step per rollout of a few steps, over the whole rollout, on the loss

    L = −A log π(x) − ent_coef H(π) + vf_coef ½ (V − R)²,      R = A + V_old

The file differs from ``agents/ppo.py`` where the algorithm does. What differs from other
implementations:

- Truncation is not termination. Where a time limit ends an episode, the value of the state that was
  reached is bootstrapped.
- The value loss is ½·MSE (Stable-Baselines3: MSE), and the optimizer is one of `hesrl.optim`
  (Stable-Baselines3: RMSprop).
- The step on a rollout is one call of `hesrl.train_step`, and environments and actions step in C or
  NumPy, as in PPO.
- The gradient is clipped for first-order optimizers only.
- ``--paper`` takes the settings of Elsayed et al. (2024): an update also at the end of an episode,
  which a time limit makes a terminal state, the progress of the episode in the observation, a
  network for the variance, and PyTorch's initialization.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hesrl.cli import run_command
from hesrl.envs.evaluation import Evaluator
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.envs.steps import Episode
from hesrl.errors import UserError
from hesrl.losses import ValueLoss
from hesrl.rl.actor_critic import Agent, network_settings
from hesrl.rl.actor_critic_settings import ActorCriticSettings
from hesrl.rl.agent_optimizer import anneal, make_optimizer
from hesrl.rl.env_options import check_real_time, env_options
from hesrl.rl.numpy_forward import Acting
from hesrl.rl.optimizer_settings import KFAC_DEFAULTS, defaults_of_optimizers
from hesrl.rl.threads import limit_threads
from hesrl.rl.training_state import (
    check_finite,
    checkpoint,
    curvature_metrics,
    curvature_of,
    diverging_at,
    restore,
)
from hesrl.runs.session import Session
from hesrl.settings import require_multiples, require_positive, settings_in_force
from hesrl.train_step import BREAK_EVEN, LossFunction, TrainStep, pays

DEFAULTS = defaults_of_optimizers(
    by_gradient={"learning_rate": 1e-3, "eps": 1e-5, "max_grad_norm": 0.5},
    by_curvature={"learning_rate": 1e-3, "eps": 1e-3, "max_grad_norm": math.inf},
    adam_bound=math.inf,
    by_sample={"learning_rate": 1e-2},
)
"""What each optimizer brings where nothing is given; docs/learning has the sweep."""


@dataclass
class Args(ActorCriticSettings):
    """Train A2C."""

    PRESETS: ClassVar[dict[str, str]] = {"paper": "a2c-paper.yaml"}
    TUNED: ClassVar[str] = "a2c-tuned.yaml"
    OPTIMIZER_DEFAULTS: ClassVar[dict[str, dict[str, float]]] = DEFAULTS | KFAC_DEFAULTS

    # Run
    paper: bool = False
    """settings of the paper instead of the defaults (configs/a2c-paper.yaml)"""
    log_interval: int = 100
    """updates from one row of metrics to the next, and between looks at Ctrl-C"""
    checkpoint_interval: int = 5000
    """updates from one checkpoint to the next, a multiple of log_interval"""
    eval_interval: int | None = None
    """updates from one evaluation to the next, a multiple of log_interval; None: only at the end"""

    # Environment
    progress: bool = False
    """whether the progress of the episode, −0.5 to 0.5, is appended to the observation"""

    # Algorithm
    num_steps: int = 5
    """length of a rollout (environment steps, per environment)"""
    update_at_episode_end: bool = False
    """whether the end of an episode, in any environment, also ends the rollout"""
    gae_lambda: float = 1.0
    """λ of generalized advantage estimation (1: returns of num_steps)"""
    norm_adv: bool = False
    """whether to normalize the advantages of each rollout"""

    @property
    def planned_timesteps(self) -> int:
        """Environment steps that the run will take, at most, if episodes end rollouts."""
        return self.total_timesteps if self.update_at_episode_end else super().planned_timesteps

    def check(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            UserError: One setting is impossible; the message names it.
        """
        super().check()
        require_positive(self, "log_interval")
        require_multiples(self, "checkpoint_interval eval_interval", of="log_interval")
        if self.norm_adv and (self.batch_size < 2 or self.update_at_episode_end):
            raise UserError(
                "--norm-adv needs rollouts of more than one sample; leave it out, or raise "
                "--num-steps and leave --update-at-episode-end out"
            )


class Rollout(NamedTuple):
    """T steps in each of N environments."""

    obs: NDArray[Any]
    """Observations that were acted on (T, N, …)."""
    actions: NDArray[Any]
    """Continuous actions, not clipped (T, N, act_dim), or the numbers of discrete ones, (T, N) for
    one and (T, N, D) for several."""
    rewards: NDArray[np.float32]
    """Rewards to learn from (T, N)."""
    terminations: NDArray[np.bool_]
    """Whether a step reached a terminal state (T, N)."""
    truncations: NDArray[np.bool_]
    """Whether a time limit alone ended the episode (T, N)."""
    final_obs: dict[int, NDArray[Any]]
    """Observations that a step led to (N, …), by the number of the step, if it ended an episode."""
    next_obs: NDArray[Any]
    """Observations to act on next (N, …)."""
    episodes: list[tuple[int, Episode]]
    """Finished episodes, each after the environment steps of this rollout until its end."""


def rollout(
    envs: NormalizedEnvs,
    acting: Acting,
    num_steps: int,
    rng: np.random.Generator,
    *,
    until_episode_ends: bool = False,
) -> Rollout:
    """Act for T = ``num_steps`` steps in each environment, from where the environments are.

    With ``until_episode_ends``, the first end of an episode also ends the rollout.

    In real time a rollout ends with an episode, because learning must not interrupt one. A fault
    may have made an earlier episode shorter; the last one is then cut off, which is a truncation.
    """
    next_obs = envs.observations
    num_envs = len(next_obs)
    obs = np.empty((num_steps + 1, *next_obs.shape), dtype=next_obs.dtype)
    obs[0] = next_obs
    actions = np.empty((num_steps, num_envs, *acting.policy.shape), dtype=acting.policy.dtype)
    rewards = np.empty((num_steps, num_envs), dtype=np.float32)
    terminations = np.zeros((num_steps, num_envs), dtype=bool)
    truncations = np.zeros((num_steps, num_envs), dtype=bool)
    final_obs: dict[int, NDArray[Any]] = {}
    episodes: list[tuple[int, Episode]] = []

    # A policy that has diverged is refused by the environments, in one line.
    with np.errstate(over="ignore", invalid="ignore"):
        sampler = acting.sampler(rng, num_steps, num_envs)
        step = 0
        while step < num_steps:
            # One step, or, compiled, all steps until an episode ends.
            taken, given = envs.advance(sampler, step, obs, actions, rewards)
            if given.fault is not None:
                # Nothing is learned from a broken step: the one before it ended the episode.
                if step and step - 1 not in final_obs:
                    truncations[step - 1] = True
                    final_obs[step - 1] = obs[step].copy()
                obs[step] = given.obs
                if until_episode_ends and step:
                    break
                continue
            step += taken
            if given.final_obs is not None:
                terminations[step - 1] = given.terminations
                truncations[step - 1] = given.truncations
                final_obs[step - 1] = given.final_obs
                episodes.extend((step * num_envs, episode) for episode in given.episodes)
                if until_episode_ends:
                    break

    if envs.real_time and step - 1 not in final_obs:
        truncations[step - 1] = True
        final_obs[step - 1] = envs.cut_off()
        obs[step] = envs.observations
    rows = slice(step)
    return Rollout(
        obs[rows], actions[rows], rewards[rows], terminations[rows], truncations[rows],
        final_obs, obs[step], episodes,
    )  # fmt: skip


def compute_gae(
    rewards: NDArray[np.float32],
    values: NDArray[np.float32],
    nextvalues: NDArray[np.float32],
    dones: NDArray[np.bool_],
    gamma: float,
    gae_lambda: float,
) -> NDArray[np.float32]:
    """Return the advantages A of generalized advantage estimation (Schulman et al., 2016).

        δ_t = r_t + γ V(s_{t+1}) − V(s_t),    A_t = δ_t + d_t A_{t+1},
        d_t = γ λ, or 0 if step t ended its episode

    Doubling solves the recurrence in log2 T vector operations. If A_t sums k steps, and d_t is the
    product of their decays, then A_t + d_t A_{t+k} sums 2k steps, whose product is d_t d_{t+k}.

    Args:
        rewards: r (T, N).
        values: V(s_t) (T, N).
        nextvalues: V(s_{t+1}) (T, N), of the state that step t reached; zero if it is terminal.
        dones: Whether step t ended its episode (T, N).
        gamma: γ.
        gae_lambda: λ.
    """
    advantages = (rewards + gamma * nextvalues - values).astype(np.float64)
    decays = gamma * gae_lambda * (1.0 - dones)
    k = 1
    while k < len(advantages):
        advantages[:-k] += decays[:-k] * advantages[k:]
        decays[:-k] *= decays[k:]
        k *= 2
    return advantages.astype(np.float32)


class Batch(NamedTuple):
    """One rollout, flattened over steps and environments (B samples)."""

    obs: Tensor
    """Observations (B, …)."""
    actions: Tensor
    """Actions (B, act_dim), or the numbers of discrete ones, (B,) or (B, D)."""
    advantages: Tensor
    """A (B,)."""
    returns: Tensor
    """A + V (B,), which the values are to become."""
    values: Tensor
    """V (B,) before the update."""


def make_batch(storage: Rollout, acting: Acting, args: Args) -> Batch:
    """Bootstrap the values of a rollout, estimate the advantages, and flatten the batch.

    Raises:
        FloatingPointError: An advantage is not finite.
    """
    obs, actions, rewards, terminations, truncations, final_obs, next_obs, _ = storage
    if not args.bootstrap_at_time_limit:
        terminations, truncations = terminations | truncations, np.zeros_like(truncations)
    num_steps, num_envs, *shape = obs.shape
    reached = np.concatenate((obs, next_obs[None])).reshape(-1, *shape)
    with np.errstate(over="ignore", invalid="ignore"):
        all_values = acting.value(reached).reshape(num_steps + 1, num_envs)
        values, nextvalues = all_values[:-1], all_values[1:]
        if final_obs:
            # Behind the end of an episode the next observation is one of a new episode.
            nextvalues = nextvalues.copy()
            for step, final in final_obs.items():
                cut = truncations[step]
                if cut.any():
                    nextvalues[step, cut] = acting.value(final[cut])
            nextvalues[terminations] = 0.0
        dones = terminations | truncations
        advantages = compute_gae(rewards, values, nextvalues, dones, args.gamma, args.gae_lambda)
    if not np.isfinite(advantages).all():
        raise FloatingPointError(
            "an advantage is not finite; the critic has diverged: try a smaller --learning-rate "
            "or a larger --eps"
        )

    def flat(array: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(array.reshape(-1, *array.shape[2:]))
        return tensor if args.device == "cpu" else tensor.to(args.device)

    b_obs, b_actions, b_values = flat(obs), flat(actions), flat(values)
    b_advantages, b_returns = flat(advantages), flat(advantages + values)
    return Batch(b_obs, b_actions, b_advantages, b_returns, b_values)


METRICS = ("losses/policy_loss", "losses/value_loss", "losses/entropy")
"""Names of what the loss function returns beside the loss."""


def make_loss(agent: Agent, args: Args) -> LossFunction:
    """Return the loss of a rollout, as `hesrl.train_step.TrainStep` takes it."""
    policy_loss = agent.policy.a2c_loss(args.output_curvature)
    negative_entropy = agent.policy.entropy_bonus(1.0)
    value_loss = ValueLoss()

    def loss_fn(
        b_obs: Tensor, b_actions: Tensor, b_advantages: Tensor, b_returns: Tensor, b_values: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        if args.norm_adv:
            std, mean = torch.std_mean(b_advantages)
            b_advantages = (b_advantages - mean) / (std + 1e-8)

        distribution, newvalue = agent(b_obs)
        pg_loss = policy_loss(*distribution, b_actions, b_advantages)
        v_loss = value_loss(newvalue, b_returns)
        # Without weight the entropy is only logged.
        scale = distribution[-1] if args.ent_coef else distribution[-1].detach()
        entropy_loss = -negative_entropy(scale)
        loss = pg_loss - args.ent_coef * entropy_loss + args.vf_coef * v_loss

        with torch.no_grad():
            return loss, (torch.stack((pg_loss, v_loss, entropy_loss)),)

    return loss_fn


def main(args: Args) -> int:
    """Train, evaluate and summarize one run; return the exit status."""
    args = settings_in_force(args)
    args.check()
    args.fill_in()
    assert args.learning_rate is not None and args.max_grad_norm is not None
    limit_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    options = env_options(args.env_options, args.robot_host)
    envs = NormalizedEnvs(
        args.env_id,
        args.num_envs,
        seed=args.seed,
        gamma=args.gamma,
        normalize_observations=args.normalize_observations,
        normalize_rewards=args.normalize_rewards,
        progress=args.progress,
        env_options=options,
        env_threads=args.env_threads,
    )
    check_real_time(args, envs, args.num_steps)
    agent = Agent(envs.observation_space, envs.action_space, **network_settings(vars(args)))
    agent.to(args.device)
    acting = Acting(agent)
    if pays(args.compile, args.total_timesteps // args.num_envs, BREAK_EVEN):
        acting.compile(args.num_envs)
    optimizer = make_optimizer(args, agent)
    train_step = TrainStep(
        make_loss(agent, args),
        optimizer,
        max_grad_norm=args.max_grad_norm,
        compile=args.compile,
        expected_steps=args.num_iterations,
        after_backward=curvature_of(agent, optimizer),
    )
    b_inds = torch.arange(args.batch_size, device=args.device)

    with (
        contextlib.closing(envs),
        Evaluator(
            acting.act,
            args.env_id,
            envs.observation_normalizer,
            episodes=args.eval_episodes,
            seed=args.seed + args.num_envs,
            progress=args.progress,
            env_options=options,
            env=envs.lend() if envs.real_time else None,
            video=args.capture_video,
        ) as evaluator,
        Session("a2c", args, wandb_project=args.project, halt=envs.halt) as session,
    ):
        run = session.run.path
        iteration, global_step = 0, session.start_step
        if envs.real_time:
            session.state = lambda: {
                **checkpoint(agent, optimizer, envs, rng), "iteration": iteration,
            }  # fmt: skip
        if session.checkpoint is None:
            envs.reset()
        else:
            restore(session.checkpoint, agent, optimizer, envs, rng)
            iteration = session.checkpoint["iteration"]
        last = global_step + args.batch_size > args.total_timesteps
        while not last:
            iteration += 1
            frac = 1.0 - global_step / args.total_timesteps if args.anneal_lr else 1.0
            anneal(optimizer, frac)

            storage = rollout(
                envs, acting, args.num_steps, rng, until_episode_ends=args.update_at_episode_end
            )
            for steps, episode in storage.episodes:
                session.log_episode(global_step + steps, episode)
            global_step += storage.rewards.size
            batch = make_batch(storage, acting, args)
            taken = b_inds if len(batch.obs) == len(b_inds) else b_inds[: len(batch.obs)]
            with diverging_at(global_step):
                row, *curvature = train_step(batch, taken)

            last = global_step + args.batch_size > args.total_timesteps
            if not last and iteration % args.log_interval:
                continue
            metrics = dict(zip(METRICS, row.tolist(), strict=True)) | curvature_metrics(curvature)
            loss = metrics["losses/policy_loss"] + metrics["losses/value_loss"]
            check_finite(agent, optimizer, loss, global_step)
            metrics |= {"charts/learning_rate": frac * args.learning_rate, **envs.take_metrics()}
            if args.eval_interval is not None and iteration % args.eval_interval == 0 and not last:
                metrics["eval/episodic_return"] = evaluator.mean_return(run, global_step)
            session.log(global_step, metrics)

            stop = session.stop_requested
            if last or stop or iteration % args.checkpoint_interval == 0:
                session.save({**checkpoint(agent, optimizer, envs, rng), "iteration": iteration})
            if stop and not last:
                return session.interrupted()

        return session.finish(lambda: evaluator.play(run, global_step))


if __name__ == "__main__":
    raise SystemExit(run_command(Args, main))
