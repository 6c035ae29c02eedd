"""A2C, advantage actor-critic (Mnih et al., 2016), first or second order.

One step of the optimizer per rollout of a few steps, over the whole of it, on the loss

    L = −A log π(x) − ent_coef H(π) + vf_coef ½ (V − R)²,      R = A + V_old

The file has the order and names of ``agents/ppo.py``, and differs where the algorithm does. What
differs from other implementations:

- Truncation is not termination: where a time limit ends an episode, the value of the state that
  was reached is bootstrapped.
- The value loss is ½·MSE (Stable-Baselines3: MSE), and the optimizer one of `hesrl.optim`
  (Stable-Baselines3: RMSprop).
- The step on a rollout is one call of `hesrl.train_step`, and actions are computed in NumPy, as in
  PPO.
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
from hesrl.rl.rollout import make_batch, rollout
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
    flag,
    require_between,
    require_choice,
    require_device,
    require_positive,
    settings_in_force,
)
from hesrl.train_step import COMPILE, LossFunction, TrainStep

DEFAULTS = defaults_of_optimizers(
    first={"learning_rate": 1e-3, "eps": 1e-5, "max_grad_norm": 0.5},
    second={"learning_rate": 1e-3, "eps": 1e-3, "max_grad_norm": math.inf},
    hutchinson={"learning_rate": 1e-2},
)
"""What each optimizer brings where nothing is given; docs/learning has the sweep."""


@dataclass
class Args:
    """Train A2C."""

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
    eval_interval: int | None = None
    """updates from one evaluation to the next, a multiple of log_interval; None: only at the end"""
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
    """auto, on or off: whether the step on a rollout is compiled (docs/train_step.md)"""
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
    progress: bool = False
    """whether the progress of the episode, −0.5 to 0.5, is appended to the observation"""

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
    num_steps: int = 5
    """length of a rollout (environment steps, per environment)"""
    update_at_episode_end: bool = False
    """whether the end of an episode, in any environment, also ends the rollout"""
    gamma: float = 0.99
    """discount factor γ per environment step"""
    gae_lambda: float = 1.0
    """λ of generalized advantage estimation (1: returns of num_steps)"""
    norm_adv: bool = False
    """whether to normalize the advantages of each rollout"""
    ent_coef: float = 0.0
    """weight of the entropy bonus in the loss"""
    vf_coef: float = 0.5
    """weight of the value loss in the loss"""

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
        """Most environment steps in one rollout, over all environments."""
        return self.num_envs * self.num_steps

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
            "num_envs num_steps total_timesteps log_interval checkpoint_interval eval_interval "
            "eval_episodes threads hidden_sizes",
        )
        require_between(self, "seed ent_coef vf_coef", 0, math.inf)
        require_between(self, "gamma gae_lambda", 0, 1)
        for name in ("checkpoint_interval", "eval_interval"):
            if (getattr(self, name) or 0) % self.log_interval:
                raise UserError(
                    f"{flag(name)} {getattr(self, name)}: must be a multiple of --log-interval "
                    f"{self.log_interval}"
                )
        if self.norm_adv and (self.batch_size < 2 or self.update_at_episode_end):
            raise UserError(
                "--norm-adv needs rollouts of more than one sample; leave it out, or raise "
                "--num-steps and leave --update-at-episode-end out"
            )
        if self.total_timesteps < self.batch_size:
            raise UserError(
                f"--total-timesteps {self.total_timesteps}: is less than one rollout of "
                f"{self.batch_size} steps (num_envs × num_steps)"
            )


METRICS = ("losses/policy_loss", "losses/value_loss", "losses/entropy")
"""Names of what the loss function returns beside the loss."""


def make_loss(agent: Agent, args: Args) -> LossFunction:
    """Return the loss of a rollout, as `hesrl.train_step.TrainStep` takes it."""
    policy_loss = agent.policy.a2c_loss()
    negative_entropy = agent.policy.entropy_bonus(1.0)
    value_loss = ValueLoss()

    def loss_fn(
        obs: Tensor, actions: Tensor, advantages: Tensor, returns: Tensor, values: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        if args.norm_adv:
            std, mean = torch.std_mean(advantages)
            advantages = (advantages - mean) / (std + 1e-8)

        distribution, newvalue = agent(obs)
        pg_loss = policy_loss(*distribution, actions, advantages)
        v_loss = value_loss(newvalue, returns)
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
        progress=args.progress,
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
        expected_steps=args.total_timesteps // args.batch_size,
        after_backward=curvature_of(agent, optimizer),
    )
    project = args.wandb_project if args.track else None

    inds = torch.arange(args.batch_size, device=args.device)

    with (
        contextlib.closing(envs),
        Evaluations(args, envs, acting, progress=args.progress) as evaluations,
        Session("a2c", args, wandb_project=project, halt=envs.halt) as session,
    ):
        iteration, global_step = 0, session.start_step
        if session.checkpoint is None:
            envs.reset()
        else:
            restore(session.checkpoint, agent, optimizer, envs, rng)
            iteration = session.checkpoint["iteration"]
        last = global_step + args.batch_size > args.total_timesteps
        while not last:
            iteration += 1
            frac = 1.0 - global_step / args.total_timesteps if args.anneal_lr else 1.0
            lr = frac * args.learning_rate
            for group in optimizer.param_groups:
                group["lr"] = lr

            storage = rollout(
                envs, acting, args.num_steps, rng, until_episode_ends=args.update_at_episode_end
            )
            for steps, episode in storage.episodes:
                session.log_episode(global_step + steps, episode)
            global_step += storage.rewards.size
            batch = make_batch(storage, acting, args.gamma, args.gae_lambda).to(args.device)
            taken = inds if len(batch.obs) == args.batch_size else inds[: len(batch.obs)]
            with diverging_at(global_step):
                row, *curvature = train_step(batch, taken)

            last = global_step + args.batch_size > args.total_timesteps
            if not last and iteration % args.log_interval:
                continue
            metrics = dict(zip(METRICS, row.tolist(), strict=True)) | curvature_metrics(curvature)
            loss = metrics["losses/policy_loss"] + metrics["losses/value_loss"]
            check_finite(agent, optimizer, loss, global_step)
            metrics |= {"charts/learning_rate": lr, **envs.take_metrics()}
            if args.eval_interval is not None and iteration % args.eval_interval == 0 and not last:
                metrics["eval/episodic_return"] = evaluations.mean_return(session.run, global_step)
            session.log(global_step, metrics)

            stop = session.stop_requested
            if last or stop or iteration % args.checkpoint_interval == 0:
                state = checkpoint(agent, optimizer, envs, rng)
                session.save({**state, "iteration": iteration})
            if stop and not last:
                return session.interrupted()

        return session.finish(lambda: evaluations.play(session.run, global_step))


if __name__ == "__main__":
    raise SystemExit(run_command(Args, main))
