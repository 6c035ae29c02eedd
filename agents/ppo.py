"""PPO (Schulman et al., 2017), first or second order.

The file follows CleanRL's ``ppo_continuous_action.py`` in order and names. What differs:

- Truncation is not termination: where a time limit ends an episode, the value of the state that
  was reached is bootstrapped, as in Stable-Baselines3. CleanRL takes zero there.
- The value loss is ½·MSE, as in CleanRL (Stable-Baselines3: MSE). ``target_kl`` stops after an
  epoch, as in CleanRL (Stable-Baselines3: before a step, at 1.5 times the target).
- N environments share their observation and reward statistics.
- A step on a minibatch is one call of `hesrl.train_step`, compiled if the run is long enough.
- Actions are computed in NumPy, the values of a whole rollout in one pass afterwards.
- The gradient is clipped for Adam only: AdaHesScale's step does not grow with the gradient alone.
- ``--paper`` takes the settings of Elsayed et al. (2024): the variance is a network, nothing is
  clipped but the ratio, and the step size stays as it is.
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

from hesrl import optim
from hesrl.cli import run_command
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.errors import UserError
from hesrl.losses import ValueLoss
from hesrl.rl.actor_critic import ACTIVATIONS, Agent
from hesrl.rl.env_options import check_real_time, env_options
from hesrl.rl.evaluations import Evaluations
from hesrl.rl.numpy_forward import Acting
from hesrl.rl.optimizer_settings import defaults_of_optimizers, fill_in_optimizer, hyperparameters
from hesrl.rl.rollout import Batch, make_batch, rollout
from hesrl.rl.threads import limit_threads
from hesrl.rl.training_state import (
    check_finite,
    checkpoint,
    curvature_metrics,
    curvature_of,
    diverging_at,
    restore,
)
from hesrl.runs import Session
from hesrl.settings import (
    require_between,
    require_choice,
    require_device,
    require_positive,
    settings_in_force,
)
from hesrl.train_step import COMPILE, LossFunction, TrainStep

DEFAULTS = defaults_of_optimizers(
    first={"learning_rate": 3e-4, "eps": 1e-5, "max_grad_norm": 0.5},
    second={"learning_rate": 1e-3, "eps": 1e-3, "max_grad_norm": math.inf},
    hutchinson={"learning_rate": 1e-2},
)
"""What each optimizer brings where nothing is given; docs/learning has the sweep."""


@dataclass
class Args:
    """Train PPO."""

    PRESETS: ClassVar[dict[str, str]] = {"paper": "ppo-paper.yaml", "ur5": "ppo-ur5.yaml"}

    # Run
    paper: bool = False
    """settings of the paper instead of the defaults (configs/ppo-paper.yaml)"""
    ur5: bool = False
    """settings for the UR5 Reacher instead of the defaults (configs/ppo-ur5.yaml)"""
    seed: int = 1
    """seed of the network, the environments, the actions and the minibatches"""
    runs_dir: Path = Path("runs")
    """folder in which the directory of this run is made"""
    resume: Path | None = None
    """directory of an interrupted run to continue; takes all settings from it"""
    checkpoint_interval: int = 10
    """updates from one checkpoint to the next"""
    eval_interval: int | None = None
    """updates from one evaluation to the next; None: only at the end"""
    eval_episodes: int = 10
    """episodes of an evaluation, with the most probable actions and frozen statistics"""
    capture_video: bool = False
    """whether each evaluation leaves a video of one episode in the run's directory"""
    track: bool = False
    """whether the metrics also go to Weights & Biases (WANDB_MODE=offline: to this machine)"""
    wandb_project: str = "hesrl"
    """project of Weights & Biases"""
    device: str = "cpu"
    """device of the networks, as PyTorch names it"""
    compile: str = "auto"
    """auto, on or off: whether the step on a minibatch is compiled (docs/train_step.md)"""
    threads: int = 1
    """threads of PyTorch and NumPy; small networks gain nothing from more"""

    # Environment
    env_id: str = "HalfCheetah-v5"
    """Gymnasium id of the environment"""
    num_envs: int = 1
    """environments stepped in turn in this process"""
    env_options: tuple[str, ...] = ()
    """arguments of the environment, such as max_episode_steps=500; for a robot, speed_limit=0.1"""
    robot_host: str | None = None
    """address of the robot's controller; None: that in HESRL_UR5_HOST"""
    normalize_observations: bool = True
    """whether vectors of observations are scaled by their statistics and clipped"""
    normalize_rewards: bool = True
    """whether rewards are scaled by the deviation of the discounted return and clipped"""

    # Networks
    hidden_sizes: tuple[int, ...] = (64, 64)
    """units of the hidden layers of actor and critic; images have three convolutions before"""
    activation: str = "tanh"
    """tanh, relu, elu or silu"""
    shared_trunk: bool = False
    """whether actor and critic share all layers but their last ones"""
    variance_network: bool = False
    """whether the variance of continuous actions depends on the observation"""

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
    """a name of docs/optimizers.md, such as adam, adahesscale, adahessian or scaled-adahesscale"""
    learning_rate: float | None = None
    """step size (second order: no unit, else in units of the parameters); None: optimizer's own"""
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
        require_choice(self, "activation", ACTIVATIONS)
        require_choice(self, "compile", COMPILE)
        require_device(self.device)
        require_positive(
            self,
            "num_envs num_steps num_minibatches update_epochs total_timesteps checkpoint_interval "
            "eval_interval eval_episodes threads clip_coef hidden_sizes target_kl",
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


METRICS = (
    "losses/policy_loss",
    "losses/value_loss",
    "losses/entropy",
    "losses/old_approx_kl",
    "losses/approx_kl",
    "losses/clipfrac",
)
"""Names of what the loss function returns beside the loss."""


def make_loss(agent: Agent, args: Args) -> LossFunction:
    """Return the loss of a minibatch, as `hesrl.train_step.TrainStep` takes it."""
    policy_loss = agent.policy.surrogate_loss(args.clip_coef)
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


@torch.no_grad()
def log_probabilities(agent: Agent, batch: Batch) -> Tensor:
    """Return log π of a rollout's actions (B,)."""
    return agent.policy.log_prob(agent.distribution(batch.obs), batch.actions)


def update(train_step: TrainStep, batch: Batch, logprobs: Tensor, args: Args) -> dict[str, float]:
    """Take the optimizer's steps on one rollout and return the metrics of the last minibatch."""
    rows = []
    for _epoch in range(args.update_epochs):
        b_inds = torch.randperm(len(batch.obs)).to(args.device)
        for mb_inds in b_inds.split(args.minibatch_size):
            row, *curvature = train_step((*batch, logprobs), mb_inds)
            rows.append(row)
        approx_kl = row[METRICS.index("losses/approx_kl")]
        if args.target_kl is not None and approx_kl > args.target_kl:
            break

    metrics = dict(zip(METRICS, row.tolist(), strict=True)) | curvature_metrics(curvature)
    unexplained = (batch.returns - batch.values).var() / batch.returns.var()
    return {
        **metrics,
        "losses/clipfrac": torch.stack(rows)[:, METRICS.index("losses/clipfrac")].mean().item(),
        "losses/explained_variance": 1 - unexplained.item(),
    }


def main(args: Args) -> int:
    """Train, evaluate and summarize one run; return the exit status."""
    args = settings_in_force(args)
    args.check()
    assert args.learning_rate is not None and args.max_grad_norm is not None
    limit_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    envs = NormalizedEnvs(
        args.env_id,
        args.num_envs,
        seed=args.seed,
        gamma=args.gamma,
        normalize_observations=args.normalize_observations,
        normalize_rewards=args.normalize_rewards,
        env_options=env_options(args),
    )
    check_real_time(args, envs)
    agent = Agent(
        envs.observation_space,
        envs.action_space,
        hidden_sizes=args.hidden_sizes,
        activation=args.activation,
        shared_trunk=args.shared_trunk,
        variance_network=args.variance_network,
    ).to(args.device)
    acting = Acting(agent)
    optimizer = optim.get(args.optimizer)(agent.parameter_groups(), **hyperparameters(args))
    train_step = TrainStep(
        make_loss(agent, args),
        optimizer,
        max_grad_norm=args.max_grad_norm,
        compile=args.compile,
        expected_steps=args.num_iterations * args.update_epochs * args.num_minibatches,
        after_backward=curvature_of(agent, optimizer),
    )
    project = args.wandb_project if args.track else None

    with (
        contextlib.closing(envs),
        Evaluations(args, envs, acting) as evaluations,
        Session("ppo", args, wandb_project=project, halt=envs.halt) as session,
    ):
        if session.checkpoint is None:
            envs.reset()
        else:
            restore(session.checkpoint, agent, optimizer, envs, rng)
        first_iteration = session.start_step // args.batch_size + 1
        for iteration in range(first_iteration, args.num_iterations + 1):
            frac = 1.0 - (iteration - 1) / args.num_iterations if args.anneal_lr else 1.0
            lr = frac * args.learning_rate
            for group in optimizer.param_groups:
                group["lr"] = lr
            start_step = (iteration - 1) * args.batch_size
            global_step = iteration * args.batch_size

            storage = rollout(envs, acting, args.num_steps, rng)
            for steps, episode in storage.episodes:
                session.log_episode(start_step + steps, episode)
            batch = make_batch(storage, acting, args.gamma, args.gae_lambda).to(args.device)
            with diverging_at(global_step):
                metrics = update(train_step, batch, log_probabilities(agent, batch), args)
            loss = metrics["losses/policy_loss"] + metrics["losses/value_loss"]
            check_finite(agent, optimizer, loss, global_step)
            metrics |= {"charts/learning_rate": lr, **envs.take_metrics()}
            last = iteration == args.num_iterations
            if args.eval_interval is not None and iteration % args.eval_interval == 0 and not last:
                metrics["eval/episodic_return"] = evaluations.mean_return(session.run, global_step)
            session.log(global_step, metrics)

            stop = session.stop_requested
            if last or stop or iteration % args.checkpoint_interval == 0:
                session.save(checkpoint(agent, optimizer, envs, rng))
            if stop and not last:
                return session.interrupted()

        return session.finish(lambda: evaluations.play(session.run, args.total_timesteps))


if __name__ == "__main__":
    raise SystemExit(run_command(Args, main))
