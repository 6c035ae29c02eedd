"""A2C, advantage actor-critic (Mnih et al., 2016), for continuous actions.

One step of the optimizer per rollout of a few steps, over the whole of it, on the loss

    L = −A log π(x) − ent_coef H(π) + vf_coef ½ (V − R)²,      R = A + V_old

The file has the order and names of ``agents/ppo.py``, and differs where the algorithm does. What
differs from other implementations:

- Truncation is not termination: where a time limit ends an episode, the value of the state that
  was reached is bootstrapped.
- The value loss is ½·MSE (Stable-Baselines3: MSE), and the optimizer one of `hesrl.optim`
  (Stable-Baselines3: RMSprop).
- The update is written out, as PPO's is.
- The gradient is clipped for first-order optimizers only.
- ``--paper`` takes the settings of Elsayed et al. (2024): an update also at the end of an episode,
  and the progress of the episode in the observation.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from hesrl.actor_critic import Agent
from hesrl.cli import run_command
from hesrl.envs.evaluation import evaluate
from hesrl.envs.spaces import require_continuous
from hesrl.envs.vector import NormalizedEnvs
from hesrl.errors import UserError
from hesrl.learner import Learner
from hesrl.losses import gaussian_a2c, value_loss
from hesrl.optimizer_settings import defaults_of_optimizers, fill_in_optimizer, hyperparameters
from hesrl.rollout import Batch, checkpoint, make_batch, restore, rollout
from hesrl.runs import Session
from hesrl.settings import require_between, require_positive, settings_in_force

DEFAULTS = defaults_of_optimizers(
    first={"learning_rate": 3e-4, "eps": 1e-5, "max_grad_norm": 0.5},
    second={"learning_rate": 1e-3, "eps": 1e-3, "max_grad_norm": math.inf},
)
"""What each optimizer brings where nothing is given."""


@dataclass
class Args:
    """Train A2C on a continuous-control environment."""

    PRESETS: ClassVar[dict[str, str]] = {"paper": "a2c-paper.yaml"}

    # Run
    paper: bool = False
    """settings of the paper instead of the defaults (configs/a2c-paper.yaml)"""
    seed: int = 1
    """seed of the network, the environments and the actions"""
    runs_dir: Path = Path("runs")
    """folder in which the directory of this run is made"""
    resume: Path | None = None
    """directory of an interrupted run to continue; takes all settings from it"""
    log_interval: int = 100
    """updates from one row of metrics to the next, and between looks at Ctrl-C"""
    checkpoint_interval: int = 5000
    """updates from one checkpoint to the next, a multiple of log_interval"""
    eval_episodes: int = 10
    """episodes played at the end with the mean action and frozen statistics"""
    torch_threads: int = 1
    """threads of PyTorch; the networks are too small to gain from more"""

    # Environment
    env_id: str = "HalfCheetah-v5"
    """Gymnasium id of the environment"""
    num_envs: int = 1
    """environments stepped in turn in this process"""
    progress: bool = False
    """whether the progress of the episode, −0.5 to 0.5, is appended to the observation"""

    # Algorithm
    total_timesteps: int = 1_000_000
    """length of the run (environment steps, over all environments)"""
    num_steps: int = 5
    """length of a rollout (environment steps, per environment)"""
    update_at_episode_end: bool = False
    """whether the end of an episode, in any environment, also ends the rollout"""
    gamma: float = 0.99
    """discount factor γ per environment step"""
    gae_lambda: float = 1.0
    """λ of generalized advantage estimation (1: returns of num_steps)"""
    ent_coef: float = 0.0
    """weight of the entropy bonus in the loss"""
    vf_coef: float = 0.5
    """weight of the value loss in the loss"""

    # Optimizer
    optimizer: str = "adahesscale"
    """adam, adahesscale, adahesscalegn or sgd, or one of them within a trust region: scaled-…"""
    learning_rate: float | None = None
    """step size (adahesscale: no unit, else in units of the parameters); None: optimizer's own"""
    anneal_lr: bool = True
    """whether the step size falls linearly to zero over the run"""
    betas: tuple[float, float] = (0.9, 0.999)
    """decay rates of the moving averages of gradient and scale, per optimizer step"""
    eps: float | None = None
    """ε in the denominator, in units of the gradient (adam: 1e-5) or the curvature (else 1e-3)"""
    delta: float | None = None
    """Δ of scaled-…, bound of the loss's change by curvature per network and step; None: 1e-8"""
    max_grad_norm: float | None = None
    """largest norm of the gradient (inf: no clipping); None: 0.5 for adam and sgd, else inf"""

    @property
    def batch_size(self) -> int:
        """Most environment steps in one rollout, over all environments."""
        return self.num_envs * self.num_steps

    def check(self) -> None:
        """Refuse settings that cannot work and fill in the optimizer's own defaults.

        Raises:
            UserError: One setting is impossible; the message names it.
        """
        fill_in_optimizer(self, DEFAULTS)
        require_positive(
            self,
            "num_envs num_steps total_timesteps log_interval checkpoint_interval eval_episodes "
            "torch_threads",
        )
        require_between(self, "seed ent_coef vf_coef", 0, math.inf)
        require_between(self, "gamma gae_lambda", 0, 1)
        if self.checkpoint_interval % self.log_interval:
            raise UserError(
                f"--checkpoint-interval {self.checkpoint_interval}: must be a multiple of "
                f"--log-interval {self.log_interval}"
            )
        if self.total_timesteps < self.batch_size:
            raise UserError(
                f"--total-timesteps {self.total_timesteps}: is less than one rollout of "
                f"{self.batch_size} steps (num_envs × num_steps)"
            )


@torch.no_grad()
def update(learner: Learner, batch: Batch, args: Args) -> tuple[Tensor, Tensor]:
    """Take the optimizer's step on one rollout and return the losses of policy and values."""
    assert args.max_grad_norm is not None
    log_std = learner.agent.actor_logstd.detach()
    pg = gaussian_a2c(learner.actor.forward(batch.obs), log_std, batch.actions, batch.advantages)
    v = value_loss(learner.critic.forward(batch.obs).squeeze(1), batch.returns)

    # loss = pg_loss − ent_coef entropy + vf_coef v_loss; the entropy is linear in log σ.
    learner.backward(
        mean=(pg.grad_mean, pg.hess_mean),
        log_std=(pg.grad_log_std - args.ent_coef, pg.hess_log_std),
        values=(args.vf_coef * v.grad, args.vf_coef * v.hess),
    )
    learner.step(args.max_grad_norm)
    return pg.loss, v.loss


def main(args: Args) -> int:
    """Train, evaluate and summarize one run; return the exit status."""
    args = settings_in_force(args)
    args.check()
    assert args.learning_rate is not None
    torch.set_num_threads(args.torch_threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    envs = NormalizedEnvs(
        args.env_id, args.num_envs, seed=args.seed, gamma=args.gamma, progress=args.progress
    )
    actions = require_continuous(args.env_id, envs.observation_space, envs.action_space)
    agent = Agent(envs.observation_space.shape[0], actions.shape[0])
    learner = Learner(agent, args.optimizer, **hyperparameters(args))
    log_std = agent.actor_logstd.detach()

    with contextlib.closing(envs), Session("a2c", args) as session:
        iteration, global_step = 0, session.start_step
        if session.checkpoint is None:
            envs.reset()
        else:
            restore(session.checkpoint, learner, envs, rng)
            iteration = session.checkpoint["iteration"]
        last = global_step + args.batch_size > args.total_timesteps
        while not last:
            iteration += 1
            frac = 1.0 - global_step / args.total_timesteps if args.anneal_lr else 1.0
            lr = frac * args.learning_rate
            learner.set_learning_rate(lr)

            storage = rollout(
                envs, learner, args.num_steps, rng, until_episode_ends=args.update_at_episode_end
            )
            for steps, episode in storage.episodes:
                session.log_episode(global_step + steps, episode)
            global_step += storage.rewards.size
            batch = make_batch(storage, learner, args.gamma, args.gae_lambda)
            policy_loss, v_loss = update(learner, batch, args)

            last = global_step + args.batch_size > args.total_timesteps
            if not last and iteration % args.log_interval:
                continue
            metrics = {
                "losses/policy_loss": policy_loss.item(),
                "losses/value_loss": v_loss.item(),
                "losses/entropy": (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum().item(),
                **learner.curvature_metrics(),
            }
            loss = metrics["losses/policy_loss"] + metrics["losses/value_loss"]
            learner.check_finite(loss, global_step)
            session.log(global_step, {**metrics, "charts/learning_rate": lr})

            stop = session.stop_requested
            if last or stop or iteration % args.checkpoint_interval == 0:
                session.save({**checkpoint(learner, envs, rng), "iteration": iteration})
            if stop and not last:
                return session.interrupted()

        return session.finish(
            lambda: evaluate(
                learner.act,
                args.env_id,
                observation=envs.observation_normalizer,
                episodes=args.eval_episodes,
                seed=args.seed + args.num_envs,
                progress=args.progress,
            )
        )


if __name__ == "__main__":
    raise SystemExit(run_command(Args, main))
