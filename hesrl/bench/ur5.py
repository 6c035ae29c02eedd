"""Speed of the simulated UR5 Reacher, in steps of an arm per second on one core.

The actions are random and drawn beforehand; resets count.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from hesrl.envs.ur5.simulation import UR5ReacherSim
from hesrl.envs.ur5.vector_simulation import UR5ReacherVec
from hesrl.errors import UserError
from hesrl.runs.machine import describe_machine


@dataclass
class Args:
    """Measure the steps per second of the simulated UR5 Reacher."""

    num_envs: tuple[int, ...] = (1, 16, 64, 256)
    """arms that are simulated as arrays, beside one that is simulated alone"""
    rounds: int = 5
    """turns of each contender, of which the median counts"""
    steps: int = 128_000
    """length of a turn (steps of an arm)"""


def measure_speed(num_envs: int | None, steps: int) -> float:
    """Return the steps of an arm per second of processor time.

    Args:
        num_envs: Arms that are simulated as arrays, or None for one that is simulated alone.
        steps: Steps of an arm to take, rounded down to a multiple of ``num_envs``.
    """
    single = num_envs is None
    arms = 1 if num_envs is None else num_envs
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (steps // arms, arms, 2)).astype(np.float32)
    begin = time.process_time()
    if single:
        env = UR5ReacherSim()
        env.reset(seed=0)
        for action in actions[:, 0]:
            if env.step(action)[3]:
                env.reset()
    else:
        envs = UR5ReacherVec(arms)
        envs.reset(seed=0)
        for batch in actions:
            envs.step(batch)
    return len(actions) * arms / (time.process_time() - begin)


def main(args: Args) -> int:
    """Measure, print the table and return the exit status.

    Raises:
        UserError: A setting is impossible.
    """
    if args.rounds < 1:
        raise UserError(f"--rounds {args.rounds}: must be at least 1")
    if not args.num_envs or min(args.num_envs) < 1:
        raise UserError(f"--num-envs {args.num_envs}: must be numbers from 1")
    if args.steps < max(args.num_envs):
        raise UserError(f"--steps {args.steps}: must be at least the largest of --num-envs")
    console = Console()
    console.print(describe_machine(), highlight=False)
    speeds: dict[int | None, list[float]] = {n: [] for n in (None, *args.num_envs)}
    for _ in range(args.rounds):
        for num_envs, of_this in speeds.items():
            of_this.append(measure_speed(num_envs, args.steps))
    table = Table("simulation", "arm-steps/s", title="UR5 Reacher on one core")
    for num_envs, of_this in speeds.items():
        name = "one arm alone" if num_envs is None else f"{num_envs} as arrays"
        table.add_row(name, f"{median(of_this):,.0f}")
    console.print(table)
    return 0
