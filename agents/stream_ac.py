"""Intentional AC(λ) (Sharifnassab et al., 2026): an actor–critic that learns from every step.

Each transition s → s' with reward r is learned from once, at once, and forgotten:

    δ = r + γ v(s') − v(s),      γ v(s') = 0 if s' is terminal
    g_v = −∇v(s),                g_π = −∇[log π(a|s) + c sign(δ) H(π(·|s))]
    θ ← θ − α δ̃ e/d              for each network, with traces e ← γλ e + g

The step sizes are chosen in units of the functions: ``--eta-value`` is the share of the TD error
that a step takes away, ``--eta-policy`` the change of log π (`hesrl.optim.IntentionalValue` and
`hesrl.optim.IntentionalPolicy` hold the equations). There is no rollout, no replay, no batch.

The file has the order and names of ``agents/ppo.py``. What differs from the authors' code:

- Actor and critic take one step of `hesrl.train_step`, one compiled call from the transition to the
  distribution of the next action.
- Mean and σ come from one layer, which is initialized as two.
- A unit of few inputs keeps one weight that is not zero; the first layer would start dead there.
- The variances of observations and returns (`hesrl.envs.normalize` and ``reward_normalizer``)
  divide by n instead of n − 1. Nothing is clipped.
- ``--optimizer intentional-kl`` bounds the step in nats, ``--source fisher`` divides by the Fisher
  diagonal from curvature instead of g², ``--optimizer obgd`` is Stream-AC (Elsayed et al., 2024).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hesrl import optim
from hesrl.cli import run_command
from hesrl.envs.evaluation import Evaluator
from hesrl.envs.flat_observations import has_images
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.errors import UserError
from hesrl.rl.actor_critic import Agent, network_settings
from hesrl.rl.env_options import check_real_time, env_options
from hesrl.rl.numpy_forward import Acting
from hesrl.rl.settings import TrainingSettings
from hesrl.rl.threads import limit_threads
from hesrl.rl.training_state import check_finite, checkpoint, diverging_at, restore
from hesrl.runs.session import Session
from hesrl.settings import (
    flag,
    require_between,
    require_multiples,
    require_positive,
    settings_in_force,
)
from hesrl.train_step import COMPILE, RecordedStep

BREAK_EVEN = 4_000
"""Environment steps after which compiling has paid off: each saves a millisecond of one core."""


@dataclass
class Args(TrainingSettings):
    """Train an actor–critic that learns from every step."""

    PRESETS: ClassVar[dict[str, str]] = {"ur5": "stream-ac-ur5.yaml"}
    TUNED: ClassVar[str] = "stream-ac-tuned.yaml"
    HINTS: ClassVar[dict[str, str]] = {
        "--num-envs": "a trace belongs to one environment; start one process for each",
        "--learning-rate": "steps have the sizes --eta-policy and --eta-value",
    }

    # Run
    ur5: bool = False
    """settings for the UR5 Reacher instead of the defaults (configs/stream-ac-ur5.yaml)"""
    tuned: bool = False
    """settings tuned for the environment instead of the defaults (docs/agents.md lists them)"""
    compile: str = "auto"
    """whether the step is compiled; auto: if the run is long (docs/train_step.md)"""
    log_interval: int = 1000
    """environment steps from one row of metrics to the next, and between looks at Ctrl-C"""
    checkpoint_interval: int = 50_000
    """environment steps from one checkpoint to the next, a multiple of log_interval"""
    eval_interval: int | None = None
    """environment steps from one evaluation to the next, a multiple of log_interval; None: only at
    the end"""

    # Environment
    normalization_clip: float = math.inf
    """bound of the magnitude of normalized observations and rewards"""

    # Networks
    hidden_sizes: tuple[int, ...] = (128, 128)
    """units of the hidden layers of actor and critic"""
    activation: str = "leaky_relu"
    """function between the layers"""
    layer_norm: bool = True
    """whether the units of each hidden layer are normalized before the activation"""
    sparse_init: float = 0.9
    """share of the weights of each unit that start at zero; 0: orthogonal initialization"""

    # Algorithm
    lamda: float = 0.8
    """λ, decay of the eligibility traces, with γ, per environment step"""
    ent_coef: float = 0.01
    """c, weight of the entropy bonus, whose sign is that of the TD error"""

    # Optimizer
    optimizer: str = "intentional"
    """how a step is sized; intentional-kl bounds the policy's in nats, obgd is that of Stream-AC"""
    eta_policy: float | None = None
    """η of the policy: change of log π per step, where the TD error is of mean size; None: 0.05,
    and 5e-4 for intentional-kl"""
    eta_value: float = 0.5
    """η of the value: share of the TD error that one step takes away"""
    kappa_policy: float = 3.0
    """κ of obgd for the policy: a step is at most 1/κ of what removes the TD error"""
    kappa_value: float = 2.0
    """κ of obgd for the value"""
    source: str = "gradient"
    """whether d is made of g², or of the Fisher diagonal by curvature"""
    power: float = 0.5
    """power of the diagonal in d: ½ as published, 1 as in a natural gradient, 0 for d = 1"""
    damping: float = 0.0
    """what is added to the diagonal, in units of its mean over a tensor"""
    beta2: float = 0.999
    """decay rate of the diagonal's moving average, per environment step"""

    @classmethod
    def choices(cls) -> dict[str, Iterable[str]]:
        """Return the possible values of settings that are text, by the name of the setting."""
        own: dict[str, Iterable[str]] = {
            "optimizer": OPTIMIZERS,
            "source": SOURCES,
            "compile": COMPILE,
        }
        return {**super().choices(), **own}

    def check(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            UserError: One setting is impossible; the message names it.
        """
        super().check()
        sizes = "eta_policy eta_value kappa_policy kappa_value"
        require_positive(self, f"log_interval normalization_clip {sizes}")
        require_between(self, f"ent_coef damping {sizes}", 0, math.inf)
        require_between(self, "lamda power", 0, 1)
        if not 0 <= self.beta2 < 1:
            raise UserError(f"--beta2 {self.beta2}: must be from 0 to below 1")
        if not 0 <= self.sparse_init < 1:
            raise UserError(f"--sparse-init {self.sparse_init}: must be from 0 to below 1")
        if torch.device(self.device).type != "cpu":
            raise UserError(
                f"--device {self.device}: stream-ac learns from one transition at a time, for "
                "which the CPU is faster; leave it out"
            )
        if self.gamma * self.lamda >= 1:
            raise UserError("--gamma 1 and --lamda 1: a trace would never fade; lower one of them")
        require_multiples(self, "checkpoint_interval eval_interval", of="log_interval")
        others = "eta_value source power damping beta2"  # a sweep gives every agent a step size
        if self.optimizer != "obgd":
            others = "kappa_policy kappa_value"
        for name in others.split():
            if getattr(self, name) != getattr(Args, name):
                raise UserError(f"{flag(name)} does not go with --optimizer {self.optimizer}")


SOURCES = {"gradient": "gradient", "fisher": "hesscale_gn"}
"""What the diagonal is made of, and the name of `hesrl.optim` for it."""

OPTIMIZERS = {
    "intentional": (optim.IntentionalPolicy, optim.IntentionalValue),
    "intentional-kl": (optim.IntentionalKL, optim.IntentionalValue),
    "obgd": (optim.ObGD, optim.ObGD),
}
"""Optimizers of policy and value by name."""

DEFAULTS = {name: {"learning_rate": 0.05} for name in OPTIMIZERS}
DEFAULTS["intentional-kl"] = {"learning_rate": 5e-4}
"""The η of the policy that each optimizer brings, which `hesrl.optim.ObGD` does without."""


def make_optimizers(agent: Agent, args: Args) -> tuple[optim.Streaming, optim.Streaming]:
    """Return the optimizers of policy and value."""
    *policy, value = agent.parameter_groups()
    settings: dict[str, Any] = {"gamma": args.gamma, "lamda": args.lamda}
    of_policy, of_value = {"kappa": args.kappa_policy}, {"kappa": args.kappa_value}
    if args.optimizer != "obgd":
        settings |= {"source": SOURCES[args.source], "beta2": args.beta2}
        settings |= {"power": args.power, "damping": args.damping}
        default = DEFAULTS[args.optimizer]["learning_rate"]
        of_policy = {"eta": default if args.eta_policy is None else args.eta_policy}
        of_value = {"eta": args.eta_value}
    policy_optimizer, value_optimizer = OPTIMIZERS[args.optimizer]
    return policy_optimizer(policy, **of_policy, **settings), value_optimizer(
        [value], **of_value, **settings
    )


REMEDY = "try a smaller --eta-policy or --eta-value; the last checkpoint is kept"

METRICS = ("losses/td_error", "losses/value", "losses/entropy")
"""Names of what a step returns beside the distribution: |δ|, v(s) and H."""


def learn(
    agent: Agent,
    policy_optimizer: optim.Streaming,
    value_optimizer: optim.Streaming,
    args: Args,
    obs: Tensor,
    action: Tensor,
    reward: Tensor,
    next_obs: Tensor,
    terminated: Tensor,
) -> tuple[Tensor]:
    """Learn from one transition, and return the distribution of the next action.

    Args:
        agent: The networks.
        policy_optimizer: Steps the actor.
        value_optimizer: Steps the critic.
        args: Settings.
        obs: s (1, obs_dim).
        action: a (1, act_dim), or the number of a discrete one (1,), of several (1, D).
        reward: r (1,).
        next_obs: s' (1, obs_dim), of the same episode.
        terminated: 1 if s' is terminal, else 0 (1,).

    Returns:
        The parameters of the policy at s', after the step, and what `METRICS` names, in one row.
    """
    policy_optimizer.zero_grad()
    value_optimizer.zero_grad()
    outputs, value = agent.actor(obs), agent.value(obs)
    with torch.no_grad():
        next_value = agent.value(next_obs)
        td_error = reward + args.gamma * (1 - terminated) * next_value - value

    # The loss of the policy at the actor's outputs; from there on it is that of any network.
    raw = outputs.detach().requires_grad_()
    distribution = agent.distribution_of(raw)
    entropy = -agent.policy.entropy_bonus(1.0)(distribution[-1])
    neg_log_prob = agent.policy.a2c_loss("exact")(*distribution, action, torch.ones_like(reward))
    loss = neg_log_prob - args.ent_coef * td_error.sign().squeeze() * entropy
    (grad,) = torch.autograd.grad(loss, raw, retain_graph=True)
    if args.source == "fisher":
        # The same gradients, with the Fisher diagonal as curvature: 1 at the value.
        (slopes,) = torch.autograd.grad([x.sum() for x in distribution], raw)
        fisher = torch.cat(agent.policy.fisher(distribution), 1).detach() * slopes.square()
        change = outputs - outputs.detach()
        (grad * outputs + 0.5 * fisher * change.square()).sum().backward()
        (0.5 * (value - value.detach() - 1).square()).sum().backward()
    else:
        torch.autograd.backward([outputs, value], [grad, -torch.ones_like(value)])
    policy_optimizer.step(td_error, reset=terminated)
    value_optimizer.step(td_error, reset=terminated)

    with torch.no_grad():
        following = agent.distribution(next_obs)
        metrics = torch.stack((td_error.abs().squeeze(), value.squeeze(), entropy))
        return (torch.cat([*(x.reshape(-1) for x in following), metrics]),)


class Transition:
    """A transition in memory of its own, as arrays to fill and as tensors to learn from."""

    def __init__(self, envs: NormalizedEnvs, policy: Any) -> None:
        shape = envs.observation_space.shape
        self.obs = np.zeros((1, *shape), dtype=np.float32)
        self.action = np.zeros((1, *policy.shape), dtype=policy.dtype)
        self.reward = np.zeros(1, dtype=np.float32)
        self.next_obs = np.zeros((1, *shape), dtype=np.float32)
        self.terminated = np.zeros(1, dtype=np.float32)
        self.tensors = tuple(torch.from_numpy(array) for array in vars(self).values())


def main(args: Args) -> int:
    """Train, evaluate and summarize one run; return the exit status."""
    args = settings_in_force(args)
    args.check()
    limit_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    options = env_options(args.env_options, args.robot_host)
    envs = NormalizedEnvs(
        args.env_id,
        1,
        seed=args.seed,
        gamma=args.gamma,
        normalize_observations=args.normalize_observations,
        normalize_rewards=args.normalize_rewards,
        clip=args.normalization_clip,
        env_options=options,
    )
    check_real_time(args, envs)
    if has_images(envs.observation_space):
        raise UserError(f"--env-id {args.env_id}: observes images, which stream-ac does not take")
    spaces = envs.observation_space, envs.action_space
    agent = Agent(*spaces, **network_settings(vars(args)), softplus_std=True)
    policy, acting = agent.policy, Acting(agent)
    policy_optimizer, value_optimizer = make_optimizers(agent, args)
    step = RecordedStep(
        partial(learn, agent, policy_optimizer, value_optimizer, args),
        [policy_optimizer, value_optimizer],
        compile=args.compile,
        expected_steps=args.total_timesteps,
        # In real time each step counts.
        break_even=0 if envs.real_time else BREAK_EVEN,
    )
    transition = Transition(envs, policy)

    with (
        contextlib.closing(envs),
        Evaluator(
            acting.act,
            args.env_id,
            envs.observation_normalizer,
            episodes=args.eval_episodes,
            seed=args.seed + 1,
            env_options=options,
            env=envs.lend() if envs.real_time else None,
            video=args.capture_video,
        ) as evaluator,
        Session("stream-ac", args, wandb_project=args.project, halt=envs.halt) as session,
    ):
        run = session.run.path
        before: tuple[NDArray[Any], ...] | None = None
        if session.checkpoint is not None:
            value_optimizer.load_state_dict(session.checkpoint["value_optimizer"])
            if restore(session.checkpoint, agent, policy_optimizer, envs, rng):
                before = tuple(x.numpy() for x in session.checkpoint["distribution"])
        step.warm_up(*transition.tensors)
        if session.checkpoint is None:
            envs.reset()
        distribution = acting.distribution(envs.observations) if before is None else before
        transition.obs[:] = envs.observations
        size, width = policy.size, len(distribution) * policy.size
        rows: list[NDArray[np.float32]] = []
        is_due, saved_step = False, session.start_step

        def state() -> dict[str, Any]:
            saved = checkpoint(agent, policy_optimizer, envs, rng)
            saved["value_optimizer"] = value_optimizer.state_dict()
            saved["distribution"] = [torch.from_numpy(x.copy()) for x in distribution]
            return saved

        if envs.real_time:
            session.state = state
        global_step = session.start_step
        while global_step < args.total_timesteps:
            # A policy that has diverged is refused by the environment, in one line.
            with np.errstate(over="ignore", invalid="ignore"):
                action = policy.sample(distribution, policy.noise(rng, 1, 1)[0])
            obs, reward, terminated, _, final_obs, episodes, fault = envs.step(action)
            if fault is not None:
                # Nothing is learned from a broken step: the traces go on with the new episode.
                transition.obs[:], distribution = obs, acting.distribution(obs)
                continue
            global_step += 1
            transition.action[:], transition.reward[:] = action, reward
            transition.next_obs[:] = obs if final_obs is None else final_obs
            transition.terminated[:] = terminated
            with diverging_at(global_step, REMEDY):
                row = step(*transition.tensors)[0].numpy()
            transition.obs[:] = obs
            if final_obs is None:
                distribution = tuple(row[None, i : i + size] for i in range(0, width, size))
            else:
                distribution = acting.distribution(obs)
                for episode in episodes:
                    session.log_episode(global_step, episode)
            rows.append(row[width:])

            # In real time nothing may hold up a cycle of the arm.
            last = global_step == args.total_timesteps
            is_due = is_due or global_step % args.log_interval == 0
            if not last and not (is_due and (final_obs is not None or not envs.real_time)):
                continue
            is_due = False
            metrics = dict(zip(METRICS, np.mean(rows, axis=0).tolist(), strict=True))
            rows.clear()
            for optimizer in (policy_optimizer, value_optimizer):
                check_finite(agent, optimizer, metrics["losses/td_error"], global_step, REMEDY)
            metrics |= envs.take_metrics()
            if (
                args.eval_interval is not None
                and global_step % args.eval_interval == 0
                and not last
            ):
                metrics["eval/episodic_return"] = evaluator.mean_return(run, global_step)
            session.log(global_step, metrics)

            stop = session.stop_requested
            if last or stop or global_step - saved_step >= args.checkpoint_interval:
                saved_step = global_step
                session.save(state())
            if stop and not last:
                return session.interrupted()

        return session.finish(lambda: evaluator.play(run, global_step))


if __name__ == "__main__":
    raise SystemExit(run_command(Args, main))
