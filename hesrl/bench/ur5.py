"""Speed of the simulated UR5 Reacher, in steps per second on one core.

The actions are random and drawn beforehand; resets count.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import numpy as np

from hesrl.bench.turns import begin
from hesrl.envs.ur5.simulation import UR5ReacherSim
from hesrl.settings import MAX_STEPS, require_between, require_positive


@dataclass
class Args:
    """Measure the steps per second of the simulated UR5 Reacher."""

    rounds: int = 5
    """rounds, of which the median counts"""
    total_timesteps: int = 128_000
    """steps in a round"""


def measure_speed(steps: int) -> float:
    """Return the steps per second of processor time, measured over ``steps`` steps."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (steps, 2)).astype(np.float32)
    begin = time.process_time()
    env = UR5ReacherSim()
    env.reset(seed=0)
    for action in actions:
        if env.step(action)[3]:
            env.reset()
    return steps / (time.process_time() - begin)


def main(args: Args) -> int:
    """Measure, print the speed and return the exit status.

    Raises:
        UserError: A setting is impossible.
    """
    require_positive(args, "rounds")
    require_between(args, "total_timesteps", 1, MAX_STEPS)
    console = begin()
    speed = median(measure_speed(args.total_timesteps) for _ in range(args.rounds))
    console.print(f"UR5 Reacher: {speed:,.0f} steps/s on one core", highlight=False)
    return 0
