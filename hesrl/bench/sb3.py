"""Update and inference time of Stable-Baselines3 with hesrl's optimizers, beside its own Adam.

Each contender is a model of Stable-Baselines3 in its default networks, with one and the same
rollout in its buffer. They take turns at ``model.train()``, so that a change of the machine's speed
meets all of them. Inference is the policy's forward pass for one observation, as in a rollout.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.table import Table
from stable_baselines3 import A2C, PPO

from hesrl import optim
from hesrl.bench.turns import begin, median_ratio, take_turns
from hesrl.envs.mujoco import make_env
from hesrl.errors import UserError

ALGORITHMS: dict[str, Any] = {"ppo": PPO, "a2c": A2C}

CONTENDERS: dict[str, type[torch.optim.Optimizer]] = {
    "torch Adam": torch.optim.Adam,
    "hesrl Adam": optim.Adam,
    "AdaHesScale": optim.AdaHesScale,
    "AdaHesScaleGN": optim.AdaHesScaleGN,
    "AdaHessian": optim.AdaHessian,
}
"""Optimizers by name; the first one is what the others are measured against."""

FORWARD_PASSES = 200
"""Forward passes of the policy in one turn."""


@dataclass
class Args:
    """Measure Stable-Baselines3's update with hesrl's optimizers beside its own Adam."""

    env_id: str = "HalfCheetah-v5"
    """Gymnasium id of the environment, from which the rollout comes"""
    agents: tuple[str, ...] = ("ppo", "a2c")
    """which algorithms to measure: ppo or a2c"""
    rounds: int = 30
    """turns of each contender"""
    updates: int = 32
    """optimizer steps in one turn"""


def make_model(algorithm: str, optimizer: type[torch.optim.Optimizer], args: Args) -> Any:
    """Return a model with a rollout in its buffer; one ``train()`` of PPO is a turn."""
    settings: dict[str, Any] = {}
    if algorithm == "ppo":
        settings = {"n_steps": 64 * args.updates, "batch_size": 64, "n_epochs": 1}
    model = ALGORITHMS[algorithm](
        "MlpPolicy",
        make_env(args.env_id),
        policy_kwargs={"optimizer_class": optimizer, "optimizer_kwargs": {"eps": 1e-5}},
        seed=1,
        device="cpu",
        **settings,
    )
    return model.learn(model.n_steps)


def time_updates(model: Any, updates: int) -> float:
    """Return the time of one optimizer step within ``model.train()`` (s)."""
    calls = 1 if isinstance(model, PPO) else updates
    start = time.perf_counter()
    for _ in range(calls):
        model.train()
    return (time.perf_counter() - start) / updates


def time_forward(model: Any) -> float:
    """Return the time of one forward pass of the policy for one observation (s)."""
    shape = model.observation_space.shape
    obs, _ = model.policy.obs_to_tensor(np.zeros(shape, dtype=np.float32))
    start = time.perf_counter()
    with torch.no_grad():
        for _ in range(FORWARD_PASSES):
            model.policy(obs)
    return (time.perf_counter() - start) / FORWARD_PASSES


def main(args: Args) -> int:
    """Measure, print a table for each algorithm and return the exit status.

    Raises:
        UserError: A setting is impossible.
    """
    if args.rounds < 1 or args.updates < 1:
        raise UserError("--rounds and --updates must be at least 1")
    for algorithm in args.agents:
        if algorithm not in ALGORITHMS:
            raise UserError(f"--agents {algorithm}: choose from {', '.join(ALGORITHMS)}")
    make_env(args.env_id).close()
    torch.set_num_threads(1)
    console = begin()
    for algorithm in args.agents:
        turns: dict[str, Callable[[], float]] = {}
        with contextlib.ExitStack() as stack:
            for name, optimizer in CONTENDERS.items():
                model = make_model(algorithm, optimizer, args)
                stack.callback(model.get_env().close)
                turns[f"{name}, update"] = partial(time_updates, model, args.updates)
                turns[f"{name}, forward"] = partial(time_forward, model)
            seconds = take_turns(turns, args.rounds)
        console.print(_table(algorithm, seconds, args))
    return 0


def _table(algorithm: str, seconds: dict[str, list[float]], args: Args) -> Table:
    title = f"{algorithm.upper()}, {args.env_id}, {args.rounds} rounds of {args.updates} updates"
    table = Table("optimizer", "ms/update", "ratio", "inference", title=title)
    table.columns[0].no_wrap = True
    baseline = next(iter(CONTENDERS))
    for name in CONTENDERS:
        ratios = (
            median_ratio(seconds[f"{name}, {what}"], seconds[f"{baseline}, {what}"])
            for what in ("update", "forward")
        )
        milliseconds = f"{1e3 * median(seconds[f'{name}, update']):.3f}"
        table.add_row(name, milliseconds, *(f"{ratio:.2f}" for ratio in ratios))
    return table
