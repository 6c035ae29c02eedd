"""Training speed of the agents beside Stable-Baselines3's, in environment steps per second.

The contenders take turns for some rounds in one process, so that a change of the machine's speed
meets all of them. All have the same environment, networks and settings (CleanRL's), and all log
to TensorBoard; start-up and evaluation are not counted, checkpoints are.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from hesrl.agents import a2c, ppo
from hesrl.bench.machine import describe_machine
from hesrl.envs.mujoco import make_env
from hesrl.errors import UserError
from hesrl.runs import RunDirectory, read_metric

AGENTS: dict[str, Any] = {"PPO": ppo, "A2C": a2c}
"""The agents by the name that Stable-Baselines3 gives them."""


@dataclass
class Args:
    """Measure the agents' steps per second beside Stable-Baselines3's."""

    env_id: str = "HalfCheetah-v5"
    """Gymnasium id of the environment"""
    agents: tuple[str, ...] = ("PPO", "A2C")
    """which agents to measure"""
    num_envs: int = 1
    """environments stepped in turn"""
    rounds: int = 5
    """turns of each contender"""
    steps: int = 20_480
    """length of a turn (environment steps), a multiple of 2048 num_envs"""


def measure_hesrl(agent: str, optimizer: str, args: Args, seed: int) -> float:
    """Train an agent of hesrl for one turn and return its steps per second."""
    module = AGENTS[agent]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        module.main(
            module.Args(
                env_id=args.env_id,
                num_envs=args.num_envs,
                optimizer=optimizer,
                total_timesteps=args.steps,
                seed=seed,
                runs_dir=Path(folder),
                eval_episodes=1,
            )
        )
        run = RunDirectory.open(next(Path(folder).iterdir()), read_only=True)
        _, speeds = read_metric(run, "charts/SPS")
    return float(speeds[-1])


def measure_sb3(agent: str, args: Args, seed: int) -> float:
    """Train an agent of Stable-Baselines3 for one turn and return its steps per second."""
    import stable_baselines3
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    def make() -> Monitor:
        return Monitor(make_env(args.env_id))

    settings, adam = AGENTS[agent].Args(num_envs=args.num_envs), AGENTS[agent].DEFAULTS["adam"]
    of_ppo = {}
    if agent == "PPO":
        of_ppo = {
            "batch_size": settings.minibatch_size,
            "n_epochs": settings.update_epochs,
            "clip_range": settings.clip_coef,
            "clip_range_vf": settings.clip_coef,
        }
    policy: dict[str, Any] = {"activation_fn": nn.Tanh, "net_arch": [64, 64]}
    if agent == "A2C":  # whose default is RMSprop
        policy |= {"optimizer_class": torch.optim.Adam, "optimizer_kwargs": {"eps": adam["eps"]}}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        envs = VecNormalize(DummyVecEnv([make] * args.num_envs), gamma=settings.gamma)
        model = getattr(stable_baselines3, agent)(
            "MlpPolicy",
            envs,
            learning_rate=lambda remaining: remaining * adam["learning_rate"],
            n_steps=settings.num_steps,
            gamma=settings.gamma,
            gae_lambda=settings.gae_lambda,
            ent_coef=settings.ent_coef,
            vf_coef=settings.vf_coef,
            max_grad_norm=adam["max_grad_norm"],
            policy_kwargs=policy,
            tensorboard_log=folder,
            seed=seed,
            device="cpu",
            **of_ppo,
        )
        start = time.perf_counter()
        model.learn(args.steps)
        seconds = time.perf_counter() - start
        envs.close()
    return args.steps / seconds


def main(args: Args) -> int:
    """Measure, print the table and return the exit status.

    Raises:
        UserError: A setting is impossible.
    """
    rollout = 2048 * args.num_envs
    if args.rounds < 1 or args.steps < 2048 or args.steps % rollout:
        raise UserError(f"--rounds must be at least 1 and --steps a positive multiple of {rollout}")
    for agent in args.agents:
        if agent not in AGENTS:
            raise UserError(f"--agents {agent}: choose from {', '.join(AGENTS)}")
    make_env(args.env_id).close()
    torch.set_num_threads(1)
    contenders: dict[str, Callable[[int], float]] = {}
    for agent in args.agents:
        contenders |= {
            f"SB3 {agent}, Adam": partial(measure_sb3, agent, args),
            f"hesrl {agent}, Adam": partial(measure_hesrl, agent, "adam", args),
            f"hesrl {agent}, AdaHesScale": partial(measure_hesrl, agent, "adahesscale", args),
        }
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    console = Console()
    console.print(describe_machine(), highlight=False)
    for number in range(args.rounds):
        for name, measure in contenders.items():
            speeds[name].append(measure(number + 1))
            console.print(f"round {number + 1}: {name}: {speeds[name][-1]:,.0f} steps/s")
    console.print(_table(speeds, args))
    return 0


def _table(speeds: dict[str, list[float]], args: Args) -> Table:
    title = (
        f"{args.env_id} × {args.num_envs}, {args.rounds} rounds of {args.steps:,} steps, "
        "ratio to SB3's"
    )
    table = Table("contender", "median steps/s", "range", "ratio", title=title)
    table.columns[0].no_wrap = True
    for name, values in speeds.items():
        baseline = speeds[f"SB3 {name.split()[1]} Adam"]
        ratio = median(value / base for value, base in zip(values, baseline, strict=True))
        spread = f"{min(values):,.0f} to {max(values):,.0f}"
        table.add_row(name, f"{median(values):,.0f}", spread, f"{ratio:.2f}")
    return table
