"""Training speed of the agents beside Stable-Baselines3's PPO, in environment steps per second.

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
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from hesrl.agents import ppo
from hesrl.bench.machine import describe_machine
from hesrl.envs.mujoco import make_env
from hesrl.errors import UserError
from hesrl.runs import RunDirectory, read_metric

BASELINE = "SB3 PPO, Adam"


@dataclass
class Args:
    """Measure the agents' steps per second beside Stable-Baselines3's."""

    env_id: str = "HalfCheetah-v5"
    """Gymnasium id of the environment"""
    rounds: int = 5
    """turns of each contender"""
    steps: int = 20_480
    """length of a turn (environment steps), a multiple of 2048"""


def measure_hesrl(optimizer: str, args: Args, seed: int) -> float:
    """Train hesrl's PPO for one turn and return its steps per second."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        ppo.main(
            ppo.Args(
                env_id=args.env_id,
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


def measure_sb3(args: Args, seed: int) -> float:
    """Train Stable-Baselines3's PPO for one turn and return its steps per second."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    def make() -> Monitor:
        return Monitor(make_env(args.env_id))

    settings = ppo.Args()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        envs = VecNormalize(DummyVecEnv([make]), gamma=settings.gamma)
        model = PPO(
            "MlpPolicy",
            envs,
            learning_rate=lambda remaining: remaining * ppo.DEFAULTS["adam"]["learning_rate"],
            n_steps=settings.num_steps,
            batch_size=settings.minibatch_size,
            n_epochs=settings.update_epochs,
            gamma=settings.gamma,
            gae_lambda=settings.gae_lambda,
            clip_range=settings.clip_coef,
            clip_range_vf=settings.clip_coef,
            ent_coef=settings.ent_coef,
            vf_coef=settings.vf_coef,
            max_grad_norm=ppo.DEFAULTS["adam"]["max_grad_norm"],
            policy_kwargs={"activation_fn": nn.Tanh, "net_arch": [64, 64]},
            tensorboard_log=folder,
            seed=seed,
            device="cpu",
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
    if args.rounds < 1 or args.steps < 2048 or args.steps % 2048:
        raise UserError("--rounds must be at least 1 and --steps a positive multiple of 2048")
    make_env(args.env_id).close()
    torch.set_num_threads(1)
    contenders: dict[str, Callable[[int], float]] = {
        BASELINE: lambda seed: measure_sb3(args, seed),
        "hesrl PPO, Adam": lambda seed: measure_hesrl("adam", args, seed),
        "hesrl PPO, AdaHesScale": lambda seed: measure_hesrl("adahesscale", args, seed),
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
    title = f"{args.env_id}, {args.rounds} rounds of {args.steps:,} steps, ratio to {BASELINE}"
    table = Table("contender", "median steps/s", "range", "ratio", title=title)
    table.columns[0].no_wrap = True
    for name, values in speeds.items():
        ratio = median(value / base for value, base in zip(values, speeds[BASELINE], strict=True))
        spread = f"{min(values):,.0f} to {max(values):,.0f}"
        table.add_row(name, f"{median(values):,.0f}", spread, f"{ratio:.2f}")
    return table
