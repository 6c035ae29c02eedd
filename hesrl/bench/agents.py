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
from statistics import median
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from hesrl.agents import a2c, ppo, stream_ac
from hesrl.bench.agent_parts import PARTS, Parts, speed_of, timed_parts
from hesrl.bench.startup import measure_startup
from hesrl.bench.stream_agent import ROW, SOURCES, measure_authors, measure_sizes, measure_stream
from hesrl.bench.turns import median_ratio
from hesrl.envs.mujoco import make_env
from hesrl.errors import UserError
from hesrl.measuring.tables import write_csv
from hesrl.rl.threads import cores
from hesrl.runs.machine import describe_machine
from hesrl.settings import flag

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


class Row(NamedTuple):
    """A contender, its speeds over the rounds, and where its time went in the last one."""

    env_id: str
    num_envs: int
    contender: str
    steps_per_second: str
    """Median over the rounds."""
    lowest: str
    highest: str
    ratio: str
    """Median over the rounds of the ratio to the fastest of theirs; empty without one."""
    ratio_to_first: str
    """The same, to the first one of hesrl."""
    parts: str
    """Microseconds per step, by the names of `PARTS`; empty for theirs."""


CORES = (16, 64)
"""Cores for which the speed is computed from the measured parts."""


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
    if args.rounds < 1 or args.total_timesteps < fewest:
        raise UserError(f"--rounds must be at least 1 and --total-timesteps at least {fewest}")
    for agent in args.agents:
        if agent not in AGENTS:
            raise UserError(f"--agents {agent}: choose from {', '.join(AGENTS)}")
    for name in ("hidden_sizes", "intentional_rl"):
        if getattr(args, name) and "stream-ac" not in args.agents:
            raise UserError(f"{flag(name)} goes with --agents stream-ac only")
    make_env(args.env_id).close()
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
    console = Console()
    console.print(describe_machine(), highlight=False)
    for number in range(args.rounds):
        for name, measure in contenders.items():
            speed, parts_of_turn = measure(number + 1)
            speeds[name].append(speed)
            if parts_of_turn is not None:
                parts[name] = parts_of_turn
            console.print(f"round {number + 1}: {name}: {speed:,.0f} steps/s", highlight=False)
        rows = _rows(speeds, parts, args)
        if args.out is not None:
            write_csv(args.out, Row._fields, rows)
    console.print(_speed_table(rows, args), _parts_table(parts, args), _startup_table(args))
    if args.hidden_sizes:
        console.print(
            measure_sizes(args.hidden_sizes, args.env_id, args.total_timesteps, args.compile)
        )
    return 0


def _rows(speeds: dict[str, list[float]], parts: dict[str, Parts], args: Args) -> list[Row]:
    rows = []
    for name, values in speeds.items():
        agent = name.split()[1]
        of_agent = [other for other in speeds if other.split()[1] == agent]
        theirs = [other for other in of_agent if not other.startswith("hesrl")]
        ours = [other for other in of_agent if other.startswith("hesrl")]
        seconds = parts.get(name, {})
        to_theirs, to_ours = (
            f"{median_ratio(values, speeds[other]):.2f}" if other else ""
            for other in (_fastest(theirs, speeds), ours[0] if ours else None)
        )
        rows.append(
            Row(
                env_id=args.env_id,
                num_envs=args.num_envs,
                contender=name,
                steps_per_second=f"{median(values):.0f}",
                lowest=f"{min(values):.0f}",
                highest=f"{max(values):.0f}",
                ratio=to_theirs,
                ratio_to_first=to_ours,
                parts=" ".join(f"{x}={1e6 * seconds[x]:.1f}" for x in PARTS if x in seconds),
            )
        )
    return rows


def _speed_table(rows: list[Row], args: Args) -> Table:
    title = (
        f"{args.env_id} × {args.num_envs}, {args.rounds} rounds of {args.total_timesteps:,} steps, "
        "ratios: medians over the rounds"
    )
    table = Table(
        "contender", "steps/s", "range", "µs", "to their fastest", "to our first", title=title
    )
    table.columns[0].no_wrap = table.columns[2].no_wrap = True
    for row in rows:
        speed, lowest, highest = map(int, (row.steps_per_second, row.lowest, row.highest))
        table.add_row(
            row.contender,
            f"{speed:,}",
            f"{lowest:,}–{highest:,}",
            f"{1e6 / speed:.1f}",
            row.ratio or "–",
            row.ratio_to_first or "–",
        )
    return table


def _fastest(names: list[str], speeds: dict[str, list[float]]) -> str | None:
    return max(names, key=lambda name: median(speeds[name]), default=None)


def _parts_table(parts: dict[str, Parts], args: Args) -> Table:
    names = [name.removeprefix("hesrl ").replace(",", "") for name in parts]
    table = Table("µs per step, last round", *names)
    for part in PARTS:
        columns = (seconds.get(part) for seconds in parts.values())
        table.add_row(part, *("–" if part is None else f"{1e6 * part:.1f}" for part in columns))
    table.add_row("sum", *(f"{1e6 * sum(seconds.values()):.1f}" for seconds in parts.values()))
    threads = args.env_threads or min(cores(), args.num_envs)
    for number in CORES if args.num_envs > 1 else ():
        gains = (
            seconds["physics"] * (1 - threads / min(number, args.num_envs))
            for seconds in parts.values()
        )
        speeds = (
            1 / (sum(seconds.values()) - gain)
            for seconds, gain in zip(parts.values(), gains, strict=True)
        )
        table.add_row(f"steps/s, {number} cores", *(f"{speed:,.0f}" for speed in speeds))
    return table


def _startup_table(args: Args) -> Table:
    table = Table("one process, with a warm cache", "seconds to the first step", "peak MiB")
    for agent in args.agents:
        module = AGENTS[agent].__name__.rpartition(".")[2]
        seconds, mebibytes = measure_startup(module, args.env_id, args.compile, args.num_envs)
        optimizer = next(iter(SOURCES)) if agent == "stream-ac" else "AdaHesScale"
        table.add_row(f"hesrl {TITLES[agent]}, {optimizer}", f"{seconds:.1f}", f"{mebibytes:,.0f}")
    return table
