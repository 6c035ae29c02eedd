"""``hesrl sweep agents``: a grid of agents, environments, optimizers and step sizes by options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hesrl.cli import given_by
from hesrl.errors import UserError
from hesrl.experiments.sweeps.grid import Grid, make_grid
from hesrl.experiments.sweeps.sweep import Running, run_and_report
from hesrl.experiments.sweeps.trial import AGENTS, settings_of, step_size_name
from hesrl.settings import flag

INSTEAD = {
    "config": "write a grid (docs/experiments.md), or give its settings as options",
    "env_id": "give --env-ids",
    "optimizer": "give --optimizers",
    "resume": "the same sweep goes on with its runs",
    "runs_dir": "give --out",
    "seed": "give --seeds and --first-seed",
    "total_timesteps": "give --total-timesteps to the sweep",
    **dict.fromkeys(map(step_size_name, AGENTS), "give --learning-rates"),
}
"""What stands for an option of a run that the sweep decides."""


@dataclass
class Args(Running):
    """Train agents for every combination and tabulate the returns."""

    agents: tuple[str, ...] = ("ppo", "a2c")
    """agents by name: ppo, a2c, stream-ac, sb3-ppo, sb3-a2c"""
    env_ids: tuple[str, ...] = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5")
    """Gymnasium ids of the environments"""
    optimizers: tuple[str, ...] = ("adam", "adahesscale")
    """optimizers by name"""
    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    """step sizes; none: each optimizer's default of each agent"""
    seeds: int = 5
    """seeds of each combination"""
    first_seed: int = 1
    """the first of them; such as 101 for runs that nothing was chosen by"""
    total_timesteps: int = 300_000
    """length of each run (environment steps)"""
    options: tuple[str, ...] = ()
    """further options of every run, such as --options=--no-anneal-lr"""
    out: Path = Path("runs/sweep")
    """where the runs, results.sqlite and table.md go"""


def main(args: Args) -> int:
    """Run what is missing of the grid and tabulate the results; return the exit status.

    Raises:
        UserError: A setting is impossible.
    """
    return run_and_report(grid_of(args), args.out, args)


def grid_of(args: Args) -> Grid:
    """Return the grid that the options describe, checked.

    Raises:
        UserError: A setting is impossible.
    """
    if args.seeds < 1 or args.first_seed < 0:
        raise UserError("--seeds must be at least 1, and --first-seed at least 0")
    for name in sorted(given_by(args.options) & INSTEAD.keys()):
        raise UserError(f"--options: {flag(name)} does not go with a sweep: {INSTEAD[name]}")
    parts = []
    for agent in args.agents:
        settings: dict[str, Any] = {
            "env_id": list(args.env_ids),
            "optimizer": list(args.optimizers),
            "total_timesteps": args.total_timesteps,
        }
        if args.learning_rates:
            settings[step_size_name(agent)] = list(args.learning_rates)
        if agent in AGENTS and args.options:
            changed = settings_of(agent, args.options).items()
            settings |= {n: [v] if isinstance(v, tuple) else v for n, v in changed}
        parts.append({"agent": agent, "settings": settings})
    seeds = {"first": args.first_seed, "count": args.seeds}
    return make_grid({"grids": parts, "test_seeds": seeds}, "sweep")
