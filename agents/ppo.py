"""PPO (Schulman et al., 2017), first or second order.

The file follows CleanRL's ``ppo_continuous_action.py`` in order and names. What differs:

- Truncation is not termination. Where a time limit ends an episode, the value of the state that was
  reached is bootstrapped, as in Stable-Baselines3. CleanRL takes zero there.
- The value loss is ½·MSE, as in CleanRL (Stable-Baselines3: MSE). ``target_kl`` stops after an
  epoch, as in CleanRL (Stable-Baselines3: before a step, at 1.5 times the target).
- N environments share their observation and reward statistics.
- A step on a minibatch is one call of `hesrl.train_step`, compiled if the run is long enough.
- Actions are computed in C or NumPy, and most of MuJoCo's tasks step in C until an episode ends.
  Values are computed in one pass after a rollout, and advantages by doubling, not step by step.
- The gradient is clipped for Adam only: AdaHesScale's step does not grow with the gradient alone.
- ``--paper`` takes the settings of Elsayed et al. (2024), which configs/ppo-paper.yaml has.

``agents/a2c.py`` differs from this file where the algorithm does.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hesrl import optim
from hesrl.cli import run_command
from hesrl.envs.evaluation import Evaluator
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.envs.steps import Episode
from hesrl.errors import UserError
from hesrl.losses import ValueLoss
from hesrl.rl.actor_critic import Agent, network_settings
from hesrl.rl.actor_critic_settings import ActorCriticSettings
from hesrl.rl.agent_optimizer import adapt_to_kl, anneal, make_optimizer
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
from hesrl.settings import require_between, require_positive, settings_in_force
from hesrl.train_step import BREAK_EVEN, LossFunction, TrainStep, pays

DEFAULTS = defaults_of_optimizers(
    by_gradient={"learning_rate": 3e-4, "eps": 1e-5, "max_grad_norm": 0.5},
    by_curvature={"learning_rate": 1e-3, "eps": 1e-3, "max_grad_norm": math.inf},
    adam_bound=math.inf,
    by_sample={"learning_rate": 1e-2},
)
"""What each optimizer brings where nothing is given; docs/learning has the sweep."""


@dataclass
class Args(ActorCriticSettings):
    """Train PPO."""

    PRESETS: ClassVar[dict[str, str]] = {"paper": "ppo-paper.yaml", "ur5": "ppo-ur5.yaml"}
    TUNED: ClassVar[str] = "ppo-tuned.yaml"
    OPTIMIZER_DEFAULTS: ClassVar[dict[str, dict[str, float]]] = DEFAULTS | KFAC_DEFAULTS

    # Run
    paper: bool = False
    """settings of the paper instead of the defaults (configs/ppo-paper.yaml)"""
    ur5: bool = False
    """settings for the UR5 Reacher instead of the defaults (configs/ppo-ur5.yaml)"""

    # Algorithm
    num_minibatches: int = 32
    """minibatches that a rollout is cut into"""
    update_epochs: int = 10
    """passes over a rollout in one update"""
    clip_coef: float = 0.2
    """largest rewarded change of the probability ratio, ε"""
    clip_vloss: bool = True
    """whether to clip the value loss, with the same ε in units of the value"""
    target_kl: float | None = None
    """approximate KL divergence (nats) after which an update ends early; None: never"""
    desired_kl: float | None = None
    """approximate KL divergence (nats) to which the step size adapts; None: it is annealed"""
    recompute_advantages: bool = False
    """whether each epoch estimates advantages and returns anew, by the critic it begins with"""
    reset_time: bool = False
    """whether the optimizer counts its steps anew with each rollout (Adam-Rel)"""

    @property
    def minibatch_size(self) -> int:
        """Samples in one minibatch."""
        return self.batch_size // self.num_minibatches

    def check(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            UserError: One setting is impossible; the message names it.
        """
        super().check()
        require_positive(self, "num_minibatches update_epochs clip_coef target_kl desired_kl")
        require_between(self, "desired_kl", 0, math.inf)
        if self.desired_kl is not None and self.anneal_lr and "anneal_lr" in self.given:
            raise UserError("--anneal-lr does not go with --desired-kl, which adapts the step size")
        if self.reset_time and not issubclass(optim.get(self.optimizer), optim.Adaptive):
            raise UserError(f"--reset-time does not go with --optimizer {self.optimizer}")
        if self.batch_size % self.num_minibatches:
            raise UserError(
                f"--num-minibatches {self.num_minibatches}: does not divide the rollout of "
                f"{self.batch_size} steps (num_envs × num_steps)"
            )
        if self.norm_adv and self.minibatch_size < 2:
            raise UserError(
                f"--num-minibatches {self.num_minibatches}: one sample per minibatch cannot be "
                "normalized; use fewer, or --no-norm-adv"
            )


class Rollout(NamedTuple):
    """T steps in each of N environments."""

    obs: NDArray[Any]
    """Observations that were acted on (T, N, …)."""
    actions: NDArray[Any]
    """Continuous actions (T, N, act_dim), not clipped, or numbers of discrete ones (T, N[, D])."""
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
    envs: NormalizedEnvs, acting: Acting, num_steps: int, rng: np.random.Generator
) -> Rollout:
    """Act for T = ``num_steps`` steps in each environment, from where the environments are.

    In real time a rollout ends with an episode, because learning must not interrupt one; after a
    fault in an earlier episode the last one is cut off, which is a truncation.
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
                continue
            step += taken
            if given.final_obs is not None:
                terminations[step - 1] = given.terminations
                truncations[step - 1] = given.truncations
                final_obs[step - 1] = given.final_obs
                episodes.extend((step * num_envs, episode) for episode in given.episodes)

    if envs.real_time and step - 1 not in final_obs:
        truncations[step - 1] = True
        final_obs[step - 1] = envs.cut_off()
        obs[step] = envs.observations
    return Rollout(
        obs[:-1], actions, rewards, terminations, truncations, final_obs, obs[-1], episodes
    )


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

    Doubling takes log2 T vector operations: if A_t sums k steps, and d_t is the product of their
    decays, then A_t + d_t A_{t+k} sums 2k steps, whose product is d_t d_{t+k}.

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
    logprobs: Tensor
    """log π (B,) before the update."""


def make_batch(storage: Rollout, agent: Agent, acting: Acting, args: Args) -> Batch:
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
    with torch.no_grad():
        b_logprobs = agent.policy.log_prob(agent.distribution(b_obs), b_actions)
    return Batch(b_obs, b_actions, b_advantages, b_returns, b_values, b_logprobs)


METRICS = (
    "losses/policy_loss", "losses/value_loss", "losses/entropy", "losses/old_approx_kl",
    "losses/approx_kl", "losses/clipfrac",
)  # fmt: skip
"""Names of what the loss function returns beside the loss."""


def make_loss(agent: Agent, args: Args) -> LossFunction:
    """Return the loss of a minibatch, as `hesrl.train_step.TrainStep` takes it."""
    policy_loss = agent.policy.surrogate_loss(args.clip_coef, args.output_curvature)
    negative_entropy = agent.policy.entropy_bonus(1.0)
    value_loss = ValueLoss(args.clip_coef if args.clip_vloss else None)

    def loss_fn(
        mb_obs: Tensor, mb_actions: Tensor, mb_advantages: Tensor, mb_returns: Tensor,
        mb_values: Tensor, mb_logprobs: Tensor,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:  # fmt: skip
        if args.norm_adv:
            std, mean = torch.std_mean(mb_advantages)
            mb_advantages = (mb_advantages - mean) / (std + 1e-8)

        distribution, newvalue = agent(mb_obs)
        pg_loss, logratio = policy_loss(*distribution, mb_actions, mb_logprobs, mb_advantages)
        v_loss = value_loss(newvalue, mb_returns, mb_values)
        # Without weight the entropy is only logged.
        scale = distribution[-1] if args.ent_coef else distribution[-1].detach()
        entropy_loss = -negative_entropy(scale)
        loss = pg_loss - args.ent_coef * entropy_loss + args.vf_coef * v_loss

        with torch.no_grad():
            ratio = logratio.exp()
            old_approx_kl = (-logratio).mean()
            approx_kl = ((ratio - 1) - logratio).mean()
            clipfrac = ((ratio - 1).abs() > args.clip_coef).to(ratio.dtype).mean()
            metrics = pg_loss, v_loss, entropy_loss, old_approx_kl, approx_kl, clipfrac
            return loss, (torch.stack(metrics),)

    return loss_fn


def update(train_step: TrainStep, estimate: partial[Batch], args: Args) -> dict[str, float]:
    """Take steps on the batch that ``estimate`` makes of a rollout; return the last metrics."""
    batch = learned = estimate()
    rows = []
    for epoch in range(args.update_epochs):
        if epoch and args.recompute_advantages:
            now = estimate()
            learned = batch._replace(advantages=now.advantages, returns=now.returns)
        b_inds = torch.randperm(len(batch.obs)).to(args.device)
        for mb_inds in b_inds.split(args.minibatch_size):
            row, *curvature = train_step(learned, mb_inds)
            rows.append(row)
        kls = torch.stack(rows[-args.num_minibatches :])[:, METRICS.index("losses/approx_kl")]
        if args.desired_kl is not None:
            adapt_to_kl(train_step.optimizer, kls.mean().item(), args.desired_kl)
        if args.target_kl is not None and kls[-1] > args.target_kl:
            break

    metrics = dict(zip(METRICS, row.tolist(), strict=True)) | curvature_metrics(curvature)
    clipfracs = torch.stack(rows)[:, METRICS.index("losses/clipfrac")]
    unexplained = (batch.returns - batch.values).var() / batch.returns.var()
    metrics["losses/clipfrac"] = clipfracs.mean().item()
    return metrics | {"losses/explained_variance": 1 - unexplained.item()}


def main(args: Args) -> int:
    """Train, evaluate and summarize one run; return the exit status."""
    args = settings_in_force(args)
    args.check()
    args.fill_in()
    assert args.max_grad_norm is not None
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
        expected_steps=args.num_iterations * args.update_epochs * args.num_minibatches,
        after_backward=curvature_of(agent, optimizer),
    )

    with (
        contextlib.closing(envs),
        Evaluator(
            acting.act,
            args.env_id,
            envs.observation_normalizer,
            episodes=args.eval_episodes,
            seed=args.seed + args.num_envs,
            env_options=options,
            env=envs.lend() if envs.real_time else None,
            video=args.capture_video,
        ) as evaluator,
        Session("ppo", args, wandb_project=args.project, halt=envs.halt) as session,
    ):
        run = session.run.path
        if envs.real_time:
            session.state = lambda: checkpoint(agent, optimizer, envs, rng)
        if session.checkpoint is None:
            envs.reset()
        else:
            restore(session.checkpoint, agent, optimizer, envs, rng)
        first_iteration = session.start_step // args.batch_size + 1
        for iteration in range(first_iteration, args.num_iterations + 1):
            if args.anneal_lr and args.desired_kl is None:
                anneal(optimizer, 1.0 - (iteration - 1) / args.num_iterations)
            lr = float(optimizer.param_groups[0]["lr"])

            global_step = (iteration - 1) * args.batch_size
            storage = rollout(envs, acting, args.num_steps, rng)
            for steps, episode in storage.episodes:
                session.log_episode(global_step + steps, episode)
            global_step += args.batch_size
            estimate = partial(make_batch, storage, agent, acting, args)
            if args.reset_time:
                optimizer.reset_time()
            with diverging_at(global_step):
                metrics = update(train_step, estimate, args)

            last = iteration == args.num_iterations
            loss = metrics["losses/policy_loss"] + metrics["losses/value_loss"]
            check_finite(agent, optimizer, loss, global_step)
            metrics |= {"charts/learning_rate": lr, **envs.take_metrics()}
            if args.eval_interval is not None and iteration % args.eval_interval == 0 and not last:
                metrics["eval/episodic_return"] = evaluator.mean_return(run, global_step)
            session.log(global_step, metrics)

            stop = session.stop_requested
            if last or stop or iteration % args.checkpoint_interval == 0:
                session.save(checkpoint(agent, optimizer, envs, rng))
            if stop and not last:
                return session.interrupted()

        return session.finish(lambda: evaluator.play(run, args.total_timesteps))


if __name__ == "__main__":
    raise SystemExit(run_command(Args, main))
