"""Training speed of the agents beside those of others, in environment steps per second.

The contenders take turns for some rounds in one process, so that a change of the machine's speed
meets all of them. All have the same environment, networks and settings (CleanRL's), and all log
to TensorBoard. Several environments of Stable-Baselines3 step in its process, and as another
contender in processes of their own. A turn counts from its first row of metrics on, so that
start-up and compiling do not count, while statistics, logging and checkpoints do. What a run takes
before its first step, and its memory, are measured in processes of their own. The speed on more
cores follows from the parts, with physics divided among the cores. The streaming agent, which
Stable-Baselines3 has not, runs beside its authors' code, if there is a copy of it.
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
from typing import Any

import torch
from rich.table import Table
from torch import nn

from hesrl.agents import a2c, ppo, stream_ac
from hesrl.bench.agent_parts import Parts, speed_of, timed_parts
from hesrl.bench.agent_tables import Row, parts_table, speed_rows, speed_table
from hesrl.bench.startup import measure_startup
from hesrl.bench.stream_agent import ROW, SOURCES, measure_authors, measure_sizes, measure_stream
from hesrl.bench.turns import begin
from hesrl.envs.mujoco import make_env
from hesrl.errors import UserError
from hesrl.measuring.tables import write_csv
from hesrl.rl.threads import cores
from hesrl.settings import MAX_STEPS, flag, require_between, require_positive

AGENTS: dict[str, Any] = {"ppo": ppo, "a2c": a2c, "stream-ac": stream_ac}
"""The agents by name."""

TITLES = {"ppo": "PPO", "a2c": "A2C", "stream-ac": "stream"}
"""What they are called in the tables."""

OPTIMIZERS = {"Adam": "adam", "AdaHesScale": "adahesscale"}
"""The optimizers of hesrl's agents that take part."""

UNCOUNTED_STEPS = 500
"""Environment steps at the beginning of a turn of Stable-Baselines3 that do not count."""


@dataclass
class Args:
    """Measure the agents' steps per second beside Stable-Baselines3's."""

    env_id: str = "HalfCheetah-v5"
    """Gymnasium id of the environment"""
    agents: tuple[str, ...] = ("ppo", "a2c")
    """which agents to measure: ppo, a2c or stream-ac"""
    num_envs: int = 1
    """environments; a rollout of PPO has 2048 steps of all; the streaming agent has one"""
    env_threads: int | None = None
    """threads that step the environments of hesrl; None: one for each core"""
    rounds: int = 3
    """turns of each contender"""
    total_timesteps: int = 40_960
    """length of a turn (environment steps), at least two rollouts of 2048, or 3000"""
    compile: str = "on"
    """auto, on or off: whether hesrl's training steps are compiled"""
    intentional_rl: Path | None = None
    """folder with the code of the streaming agent's authors; None: without it"""
    hidden_sizes: tuple[int, ...] = ()
    """units of both hidden layers, such as 32 64 128 256 512 1024, at which to measure the
    streaming agent besides"""
    out: Path | None = None
    """file to write the speeds and parts to, after each round"""


def _lengths(agent: str, args: Args) -> dict[str, int]:
    """Return how long the rollouts of several environments are, and how often A2C writes a row."""
    if agent == "ppo":
        return {"num_steps": max(1, 2048 // args.num_envs)}
    per_update = 5 * args.num_envs
    return {
        "log_interval": next(
            i for i in (100, 25, 5, 1) if 4 * i * per_update <= args.total_timesteps
        )
    }


def measure_hesrl(agent: str, optimizer: str, args: Args, seed: int) -> tuple[float, Parts]:
    """Train an agent of hesrl for one turn; return its steps per second and where time went."""
    module = AGENTS[agent]
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(io.StringIO()),
        timed_parts(module, args.env_id) as parts,
    ):
        module.main(
            module.Args(
                env_id=args.env_id,
                num_envs=args.num_envs,
                env_threads=args.env_threads,
                optimizer=OPTIMIZERS[optimizer],
                total_timesteps=args.total_timesteps,
                seed=seed,
                runs_dir=Path(folder),
                eval_episodes=1,
                compile=args.compile,
                **_lengths(agent, args),
            )
        )
        return speed_of(Path(folder)), parts


def measure_sb3(agent: str, processes: bool, args: Args, seed: int) -> tuple[float, None]:
    """Train an agent of Stable-Baselines3 for one turn and return its steps per second."""
    import stable_baselines3
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

    class Clock(BaseCallback):
        """Takes the time at the first rollout that counts."""

        steps, start = 0, 0.0

        def _on_rollout_start(self) -> None:
            if not self.steps and self.num_timesteps >= UNCOUNTED_STEPS:
                self.steps, self.start = self.num_timesteps, time.perf_counter()

        def _on_step(self) -> bool:
            return True

    def make() -> Monitor:
        return Monitor(make_env(args.env_id))

    settings = AGENTS[agent].Args(num_envs=args.num_envs, **_lengths(agent, args))
    adam = AGENTS[agent].DEFAULTS["adam"]
    of_ppo = {}
    if agent == "ppo":
        of_ppo = {
            "batch_size": settings.minibatch_size,
            "n_epochs": settings.update_epochs,
            "clip_range": settings.clip_coef,
            "clip_range_vf": settings.clip_coef,
        }
    policy: dict[str, Any] = {"activation_fn": nn.Tanh, "net_arch": [64, 64]}
    if agent == "a2c":  # whose default is RMSprop
        policy |= {"optimizer_class": torch.optim.Adam, "optimizer_kwargs": {"eps": adam["eps"]}}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        makers: list[Callable[[], Any]] = [make] * args.num_envs
        plain = SubprocVecEnv(makers, "fork") if processes else DummyVecEnv(makers)
        envs = VecNormalize(plain, gamma=settings.gamma)
        model = getattr(stable_baselines3, TITLES[agent])(
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
        clock = Clock()
        model.learn(args.total_timesteps, callback=clock)
        seconds = time.perf_counter() - clock.start
        envs.close()
    return (model.num_timesteps - clock.steps) / seconds, None


def main(args: Args) -> int:
    """Measure, print the tables and return the exit status.

    Raises:
        UserError: A setting is impossible.
    """
    fewest = 3 * ROW if args.agents == ("stream-ac",) else 2 * max(2048, 10 * args.num_envs)
    require_positive(args, "rounds")
    require_between(args, "total_timesteps", fewest, MAX_STEPS)
    for agent in args.agents:
        if agent not in AGENTS:
            raise UserError(f"--agents {agent}: choose from {', '.join(AGENTS)}")
    for name in ("hidden_sizes", "intentional_rl"):
        if getattr(args, name) and "stream-ac" not in args.agents:
            raise UserError(f"{flag(name)} goes with --agents stream-ac only")
    make_env(args.env_id).close()
    console = begin(args.out)
    torch.set_num_threads(1)
    contenders: dict[str, Callable[[int], tuple[float, Parts | None]]] = {}
    for agent in args.agents:
        if agent == "stream-ac":
            measured = args.env_id, args.total_timesteps
            if args.intentional_rl is not None:
                contenders[f"authors' stream, {next(iter(SOURCES))}"] = partial(
                    measure_authors, args.intentional_rl, *measured
                )
            for source in SOURCES:
                contenders[f"hesrl stream, {source}"] = partial(
                    measure_stream, source, *measured, args.compile
                )
            continue
        contenders[f"SB3 {TITLES[agent]}, Adam"] = partial(measure_sb3, agent, False, args)
        if args.num_envs > 1:
            contenders[f"SB3 {TITLES[agent]}, processes"] = partial(measure_sb3, agent, True, args)
        for optimizer in OPTIMIZERS:
            contenders[f"hesrl {TITLES[agent]}, {optimizer}"] = partial(
                measure_hesrl, agent, optimizer, args
            )
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    parts: dict[str, Parts] = {}
    for number in range(args.rounds):
        for name, measure in contenders.items():
            speed, parts_of_turn = measure(number + 1)
            speeds[name].append(speed)
            if parts_of_turn is not None:
                parts[name] = parts_of_turn
            console.print(f"round {number + 1}: {name}: {speed:,.0f} steps/s", highlight=False)
        rows = speed_rows(speeds, parts, args.env_id, args.num_envs)
        if args.out is not None:
            write_csv(args.out, Row._fields, rows)
    title = (
        f"{args.env_id} × {args.num_envs}, {args.rounds} rounds of {args.total_timesteps:,} steps, "
        "ratios: medians over the rounds"
    )
    threads = args.env_threads or min(cores(), args.num_envs)
    console.print(speed_table(rows, title), parts_table(parts, args.num_envs, threads))
    console.print(_startup_table(args))
    if args.hidden_sizes:
        console.print(
            measure_sizes(args.hidden_sizes, args.env_id, args.total_timesteps, args.compile)
        )
    return 0


def _startup_table(args: Args) -> Table:
    table = Table("one process, with a warm cache", "seconds to the first step", "peak MiB")
    for agent in args.agents:
        module = AGENTS[agent].__name__.rpartition(".")[2]
        seconds, mebibytes = measure_startup(module, args.env_id, args.compile, args.num_envs)
        optimizer = next(iter(SOURCES)) if agent == "stream-ac" else "AdaHesScale"
        table.add_row(f"hesrl {TITLES[agent]}, {optimizer}", f"{seconds:.1f}", f"{mebibytes:,.0f}")
    return table
