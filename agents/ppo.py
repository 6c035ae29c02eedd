"""PPO (Schulman et al., 2017) for continuous actions, first or second order.

The file follows CleanRL's ``ppo_continuous_action.py`` in order and names. What differs:

- Truncation is not termination: where a time limit ends an episode, the value of the state that
  was reached is bootstrapped, as in Stable-Baselines3. CleanRL takes zero there.
- The value loss is ½·MSE, as in CleanRL (Stable-Baselines3: MSE). ``target_kl`` stops after an
  epoch, as in CleanRL (Stable-Baselines3: before a step, at 1.5 times the target).
- N environments share their observation and reward statistics.
- The update is written out: the losses give gradient and Hessian diagonal at the outputs of the
  networks, and one recursion carries both through the layers (`hesrl.mlp`). ``loss.backward()``
  gives the same numbers; this is more than twice as fast.
- Actions are computed in NumPy, the values of a whole rollout in one pass afterwards.
- The gradient is clipped for Adam only: AdaHesScale's step does not grow with the gradient alone.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path

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
from hesrl.losses import gaussian_surrogate, value_loss
from hesrl.optimizer_settings import defaults_of_optimizers, fill_in_optimizer, hyperparameters
from hesrl.rollout import Batch, Rollout, checkpoint, make_batch, restore, rollout
from hesrl.runs import Session
from hesrl.settings import require_between, require_positive, settings_in_force

DEFAULTS = defaults_of_optimizers(
    first={"learning_rate": 3e-4, "eps": 1e-5, "max_grad_norm": 0.5},
    second={"learning_rate": 1e-3, "eps": 1e-3, "max_grad_norm": math.inf},
)
"""What each optimizer brings where nothing is given; docs/ppo-step-sizes.md has the sweep."""


@dataclass
class Args:
    """Train PPO on a continuous-control environment."""

    # Run
    seed: int = 1
    """seed of the network, the environments, the actions and the minibatches"""
    runs_dir: Path = Path("runs")
    """folder in which the directory of this run is made"""
    resume: Path | None = None
    """directory of an interrupted run to continue; takes all settings from it"""
    checkpoint_interval: int = 10
    """updates from one checkpoint to the next"""
    eval_episodes: int = 10
    """episodes played at the end with the mean action and frozen statistics"""
    torch_threads: int = 1
    """threads of PyTorch; the networks are too small to gain from more"""

    # Environment
    env_id: str = "HalfCheetah-v5"
    """Gymnasium id of the environment"""
    num_envs: int = 1
    """environments stepped in turn in this process"""

    # Algorithm
    total_timesteps: int = 1_000_000
    """length of the run (environment steps, over all environments)"""
    num_steps: int = 2048
    """length of a rollout (environment steps, per environment)"""
    gamma: float = 0.99
    """discount factor γ per environment step"""
    gae_lambda: float = 0.95
    """λ of generalized advantage estimation"""
    num_minibatches: int = 32
    """minibatches that a rollout is cut into"""
    update_epochs: int = 10
    """passes over a rollout in one update"""
    norm_adv: bool = True
    """whether to normalize the advantages of each minibatch"""
    clip_coef: float = 0.2
    """largest rewarded change of the probability ratio, ε"""
    clip_vloss: bool = True
    """whether to clip the value loss, with the same ε in units of the value"""
    ent_coef: float = 0.0
    """weight of the entropy bonus in the loss"""
    vf_coef: float = 0.5
    """weight of the value loss in the loss"""
    target_kl: float | None = None
    """approximate KL divergence (nats) after which an update ends early; None: never"""

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
        """Environment steps in one rollout, over all environments."""
        return self.num_envs * self.num_steps

    @property
    def minibatch_size(self) -> int:
        """Samples in one minibatch."""
        return self.batch_size // self.num_minibatches

    @property
    def num_iterations(self) -> int:
        """Rollouts, each with its update, in the run."""
        return self.total_timesteps // self.batch_size

    def check(self) -> None:
        """Refuse settings that cannot work and fill in the optimizer's own defaults.

        Raises:
            UserError: One setting is impossible; the message names it.
        """
        fill_in_optimizer(self, DEFAULTS)
        require_positive(
            self,
            "num_envs num_steps num_minibatches update_epochs total_timesteps checkpoint_interval "
            "eval_episodes torch_threads clip_coef",
        )
        require_between(self, "seed ent_coef vf_coef", 0, math.inf)
        require_between(self, "gamma gae_lambda", 0, 1)
        if self.batch_size % self.num_minibatches:
            raise UserError(
                f"--num-minibatches {self.num_minibatches}: does not divide the rollout of "
                f"{self.batch_size} steps (num_envs × num_steps)"
            )
        if self.norm_adv and self.minibatch_size < 2:
            raise UserError(
                f"--num-minibatches {self.num_minibatches}: leaves one sample per minibatch, whose "
                "advantage cannot be normalized; use fewer, or --no-norm-adv"
            )
        if self.num_iterations == 0:
            raise UserError(
                f"--total-timesteps {self.total_timesteps}: is less than one rollout of "
                f"{self.batch_size} steps (num_envs × num_steps)"
            )


def log_probabilities(storage: Rollout, agent: Agent) -> Tensor:
    """Return log π of a rollout's actions (B,), from the noise that made them."""
    noise, log_std = torch.from_numpy(storage.noise), agent.actor_logstd.detach()
    logprobs = -(0.5 * (noise.square() + math.log(2 * math.pi)) + log_std).sum(-1)
    return logprobs.flatten()


@torch.no_grad()
def update(learner: Learner, batch: Batch, logprobs: Tensor, args: Args) -> dict[str, float]:
    """Take the optimizer's steps on one rollout and return the metrics of the last minibatch."""
    assert args.max_grad_norm is not None
    actor, critic = learner.actor, learner.critic
    log_std = learner.agent.actor_logstd.detach()
    value_clip = args.clip_coef if args.clip_vloss else None
    logratios = []
    for _epoch in range(args.update_epochs):
        inds = torch.randperm(len(batch.obs))
        shuffled = (b[inds].split(args.minibatch_size) for b in (*batch, logprobs))
        for minibatch in zip(*shuffled, strict=True):
            mb_obs, mb_actions, mb_advantages, mb_returns, mb_values, mb_logprobs = minibatch
            if args.norm_adv:
                std, mean = torch.std_mean(mb_advantages)
                mb_advantages = (mb_advantages - mean) / (std + 1e-8)

            pg = gaussian_surrogate(
                actor.forward(mb_obs), log_std, mb_actions, mb_logprobs, mb_advantages,
                args.clip_coef,
            )  # fmt: skip
            newvalue = critic.forward(mb_obs).squeeze(1)
            v = value_loss(newvalue, mb_returns, mb_values, value_clip)

            # loss = pg_loss − ent_coef entropy + vf_coef v_loss; the entropy is linear in log σ.
            learner.backward(
                mean=(pg.grad_mean, pg.hess_mean),
                log_std=(pg.grad_log_std - args.ent_coef, pg.hess_log_std),
                values=(args.vf_coef * v.grad, args.vf_coef * v.hess),
            )
            learner.step(args.max_grad_norm)
            logratios.append(pg.logratio)

        logratio = logratios[-1]
        approx_kl = (logratio.exp() - 1 - logratio).mean().item()
        if args.target_kl is not None and approx_kl > args.target_kl:
            break

    ratios = torch.stack(logratios).exp()
    return {
        "losses/policy_loss": pg.loss.item(),
        "losses/value_loss": v.loss.item(),
        "losses/entropy": (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum().item(),
        "losses/old_approx_kl": -logratio.mean().item(),
        "losses/approx_kl": approx_kl,
        "losses/clipfrac": ((ratios - 1).abs() > args.clip_coef).float().mean().item(),
        "losses/explained_variance": 1
        - ((batch.returns - batch.values).var() / batch.returns.var()).item(),
        **learner.curvature_metrics(),
    }


def main(args: Args) -> int:
    """Train, evaluate and summarize one run; return the exit status."""
    args = settings_in_force(args)
    args.check()
    assert args.learning_rate is not None
    torch.set_num_threads(args.torch_threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    envs = NormalizedEnvs(args.env_id, args.num_envs, seed=args.seed, gamma=args.gamma)
    actions = require_continuous(args.env_id, envs.observation_space, envs.action_space)
    agent = Agent(envs.observation_space.shape[0], actions.shape[0])
    learner = Learner(agent, args.optimizer, **hyperparameters(args))

    with contextlib.closing(envs), Session("ppo", args) as session:
        if session.checkpoint is None:
            envs.reset()
        else:
            restore(session.checkpoint, learner, envs, rng)
        first_iteration = session.start_step // args.batch_size + 1
        for iteration in range(first_iteration, args.num_iterations + 1):
            frac = 1.0 - (iteration - 1) / args.num_iterations if args.anneal_lr else 1.0
            lr = frac * args.learning_rate
            learner.set_learning_rate(lr)
            start_step = (iteration - 1) * args.batch_size
            global_step = iteration * args.batch_size

            storage = rollout(envs, learner, args.num_steps, rng)
            for steps, episode in storage.episodes:
                session.log_episode(start_step + steps, episode)
            batch = make_batch(storage, learner, args.gamma, args.gae_lambda)
            metrics = update(learner, batch, log_probabilities(storage, agent), args)
            loss = metrics["losses/policy_loss"] + metrics["losses/value_loss"]
            learner.check_finite(loss, global_step)
            session.log(global_step, {**metrics, "charts/learning_rate": lr})

            last = session.stop_requested or iteration == args.num_iterations
            if last or iteration % args.checkpoint_interval == 0:
                session.save(checkpoint(learner, envs, rng))
            if session.stop_requested and iteration < args.num_iterations:
                return session.interrupted()

        return session.finish(
            lambda: evaluate(
                learner.act,
                args.env_id,
                observation=envs.observation_normalizer,
                episodes=args.eval_episodes,
                seed=args.seed + args.num_envs,
            )
        )


if __name__ == "__main__":
    raise SystemExit(run_command(Args, main))
