"""Training speed of the streaming agent: its parts, its authors' code, and wider networks."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from hesrl.agents import stream_ac
from hesrl.bench.agent_parts import Parts, seconds_of_physics, speed_of, timed_calls
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.errors import UserError
from hesrl.rl.actor_critic import Agent
from hesrl.rl.policies import CategoricalPolicy, GaussianPolicy
from hesrl.runs.session import Session
from hesrl.train_step import RecordedStep

SOURCES = {"g²": "gradient", "Fisher": "fisher"}
"""What the diagonal is made of, published first, and the agent's name for it."""

ROW = 1000
"""Environment steps from one row of metrics to the next; a turn takes at least three rows."""

UNCOUNTED_STEPS = 1000
"""Environment steps at the beginning of a turn of the authors' code that do not count."""


def measure_stream(
    source: str, env_id: str, steps: int, compile: str, seed: int, hidden_size: int = 128
) -> tuple[float, Parts]:
    """Train for one turn; return the steps per second and where time went.

    The parts are those of a second, shorter run: the clock would slow the first one down.

    Args:
        source: Key of `SOURCES`.
        env_id: Gymnasium id of the environment.
        steps: Length of the turn (environment steps).
        compile: auto, on or off, as the agent takes it.
        seed: Seed of the run.
        hidden_size: Units of each of the two hidden layers.
    """
    settings: dict[str, Any] = dict(
        source=SOURCES[source],
        env_id=env_id,
        compile=compile,
        seed=seed,
        hidden_sizes=(hidden_size, hidden_size),
        log_interval=ROW,
        eval_episodes=1,
    )
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        whole, part = Path(folder) / "whole", Path(folder) / "part"
        stream_ac.main(stream_ac.Args(total_timesteps=steps, runs_dir=whole, **settings))
        args = stream_ac.Args(total_timesteps=max(steps // 4, 3 * ROW), runs_dir=part, **settings)
        return speed_of(whole), _parts(args)


def _parts(args: stream_ac.Args) -> Parts:
    """Return the parts of a run, after its first row of metrics; physics are timed afterwards."""
    owners = {
        "acting": ((GaussianPolicy, "sample"), (GaussianPolicy, "noise"),
                   (CategoricalPolicy, "sample"), (CategoricalPolicy, "noise")),
        "statistics": ((NormalizedEnvs, "step"),),
        "update": ((RecordedStep, "__call__"),),
        "logging": ((Session, "log"), (Session, "log_episode"), (Session, "save")),
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        calls = {
            part: [stack.enter_context(timed_calls(*owner)) for owner in of_part]
            for part, of_part in owners.items()
        }
        stream_ac.main(args)
    start = calls["logging"][0][0].start
    steps = sum(call.start > start for call in calls["update"][0])
    parts = {"physics": seconds_of_physics(args.env_id)}
    for part, kinds in calls.items():
        counted = (call.seconds for kind in kinds for call in kind if call.start > start)
        parts[part] = sum(counted) / steps
    parts["statistics"] = max(0.0, parts["statistics"] - parts["physics"])
    return parts


def measure_authors(path: Path, env_id: str, steps: int, seed: int) -> tuple[float, None]:
    """Run the authors' code for one turn; return its steps per second.

    Args:
        path: A copy of github.com/sharifnassab/Intentional_RL, for the Gymnasium that is installed.
        env_id: Gymnasium id of the environment.
        steps: Length of the turn (environment steps).
        seed: Seed of the run.

    Raises:
        UserError: It is not there, or fails.
    """
    program = path.absolute() / "intentional_ac.py"
    if not program.is_file():
        raise UserError(f"--intentional-rl {path}: has no intentional_ac.py")

    def seconds(count: int) -> float:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:  # in which it leaves its returns
            process = subprocess.run(
                [sys.executable, program, "--env_name", env_id, "--seed", str(seed),
                 "--total_steps", str(count)],
                cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        if process.returncode:
            last = process.stderr.strip().rpartition("\n")[2]
            raise UserError(f"--intentional-rl {path}: intentional_ac.py has failed: {last}")
        return time.perf_counter() - start

    return steps / (seconds(UNCOUNTED_STEPS + steps) - seconds(UNCOUNTED_STEPS)), None


def measure_sizes(sizes: tuple[int, ...], env_id: str, steps: int, compile: str) -> Table:
    """Return a table of the cost of a step over the units of the hidden layers.

    Args:
        sizes: Units of each of the two hidden layers.
        env_id: Gymnasium id of the environment.
        steps: Environment steps for each of them.
        compile: auto, on or off, as the agent takes it.
    """
    source = next(iter(SOURCES))
    table = Table(
        "hidden", "parameters", "steps/s", "µs", "update, µs", title=f"{env_id}, {source}"
    )
    for size in sizes:
        speed, parts = measure_stream(source, env_id, steps, compile, 1, size)
        table.add_row(
            f"{size} × {size}",
            f"{_parameters(env_id, size):,}",
            f"{speed:,.0f}",
            f"{1e6 / speed:.1f}",
            f"{1e6 * parts['update']:.1f}",
        )
    return table


def _parameters(env_id: str, size: int) -> int:
    with contextlib.closing(NormalizedEnvs(env_id, 1, seed=0, gamma=0.99)) as envs:
        spaces = envs.observation_space, envs.action_space
        agent = Agent(*spaces, hidden_sizes=(size, size), layer_norm=True, softplus_std=True)
    return sum(param.numel() for param in agent.parameters())
