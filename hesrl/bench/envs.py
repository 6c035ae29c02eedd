"""MuJoCo's v5 tasks in threads: held against Gymnasium's classes, and their time per step.

Every observation, reward, termination and truncation is compared, to the bit, over the ends of
episodes. Then stepping in turn, as Gymnasium does, takes turns with stepping together in one thread
and in all of them; and as the limit of what the cores give, with one thread in each of as many
processes.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from hesrl.bench.turns import begin, median_ratio, take_turns
from hesrl.envs.batched_envs import BatchedEnvs, why_not_batched
from hesrl.envs.mujoco import make_env
from hesrl.envs.mujoco_tasks import COMPILED_TASKS
from hesrl.envs.numpy_tasks import NUMPY_TASKS
from hesrl.errors import UserError
from hesrl.rl.threads import cores
from hesrl.settings import MAX_STEPS, require_between, require_positive

ENV_IDS = tuple(
    sorted(f"{task.__name__.removesuffix('Env')}-v5" for task in COMPILED_TASKS | NUMPY_TASKS)
)
"""The tasks."""


@dataclass
class Args:
    """Compare MuJoCo's tasks in threads with Gymnasium's classes, and measure both."""

    env_ids: tuple[str, ...] = ENV_IDS
    """Gymnasium ids of the tasks"""
    num_envs: int = 16
    """environments"""
    env_threads: int | None = None
    """threads and processes; None: one for each core"""
    compared_steps: int = 1000
    """steps of 3 environments that are compared"""
    steps: int = 100
    """steps of all environments in a round"""
    rounds: int = 5
    """rounds, of which the median counts"""


def compare(
    env_id: str, steps: int, num_envs: int = 3, threads: int = 2, **options: Any
) -> tuple[int, int]:
    """Step a task together and in turn, with random actions.

    Args:
        env_id: Gymnasium id of the task.
        steps: Steps of each environment.
        num_envs: Environments.
        threads: Threads that step them together.
        **options: Of the environments, as `make_env` takes them.

    Returns:
        How many steps of an environment gave another number, and how many ended an episode.
    """
    envs, others = ([make_env(env_id, **options) for _ in range(num_envs)] for _ in range(2))
    together, raw = _together(envs, threads)
    for seed, other in enumerate(others):
        other.reset(seed=seed)
    differences = ends = 0
    for actions in _actions(envs, steps):
        outcome = together.step(actions)
        for i, other in enumerate(others):
            obs, reward, terminated, truncated, _ = other.step(actions[i])
            expected = [reward, terminated, truncated and not terminated]
            equal = np.array_equal(raw[i], obs) and expected == [given[i] for given in outcome]
            differences += not equal
            if expected[1] or expected[2]:
                ends += 1
                first, again = envs[i].reset()[0], other.reset()[0]
                differences += not np.array_equal(first, again)
                together.take_over(i)
    return differences, ends


def _together(envs: list[Any], threads: int) -> tuple[BatchedEnvs, NDArray[np.float64]]:
    raw = np.empty((len(envs), *envs[0].observation_space.shape))
    together = BatchedEnvs(envs, threads, raw)
    for i, env in enumerate(envs):
        raw[i], _ = env.reset(seed=i)
        together.take_over(i)
    return together, raw


def _actions(envs: list[Any], steps: int) -> NDArray[np.float32]:
    """Return random actions (steps, N, act_dim)."""
    space = envs[0].action_space
    shape = (steps, len(envs), *space.shape)
    return np.random.default_rng(0).uniform(space.low, space.high, shape).astype(np.float32)


def seconds_together(env_id: str, num_envs: int, threads: int, steps: int) -> float:
    """Return the seconds of stepping together, per step of an environment; no episode ends."""
    envs = [make_env(env_id) for _ in range(num_envs)]
    together, _ = _together(envs, threads)
    actions = _actions(envs, steps)
    start = time.perf_counter()
    for action in actions:
        together.step(action)
    return (time.perf_counter() - start) / actions[:, :, 0].size


def seconds_in_turn(env_id: str, num_envs: int, steps: int) -> float:
    """Return the seconds of stepping in turn, per step of an environment; no episode ends."""
    envs = [make_env(env_id) for _ in range(num_envs)]
    actions = _actions(envs, steps)
    for i, env in enumerate(envs):
        env.reset(seed=i)
    start = time.perf_counter()
    for action in actions:
        for i, env in enumerate(envs):
            env.step(action[i])
    return (time.perf_counter() - start) / actions[:, :, 0].size


def seconds_in_processes(pool: Any, env_id: str, num_envs: int, number: int, steps: int) -> float:
    """Return the seconds per step of an environment, in processes that step at the same time."""
    share = (env_id, max(1, num_envs // number), 1, steps)
    return max(pool.starmap(seconds_together, [share] * number, chunksize=1)) / number


def main(args: Args) -> int:
    """Compare, measure, print the table and return the exit status: 1 where a number differs.

    Raises:
        UserError: A setting is impossible.
    """
    require_positive(args, "num_envs env_threads rounds")
    require_between(args, "compared_steps steps", 1, MAX_STEPS)
    threads = cores() if args.env_threads is None else args.env_threads
    for env_id in args.env_ids:
        reason = why_not_batched(make_env(env_id))
        if reason is not None:
            raise UserError(f"--env-ids {env_id}: cannot step in threads, because {reason}")
    title = (
        f"{args.num_envs} environments: µs per step of one, and efficiency; "
        f"{3 * args.compared_steps:,} steps compared"
    )
    table = Table("task", "differ", "in turn", "1 thread", title=title)
    table.columns[0].overflow = "fold"
    table.add_column(f"{threads} threads")
    table.add_column(f"{threads} processes")
    status, console = 0, begin()
    with multiprocessing.get_context("spawn").Pool(threads) as pool:
        for env_id in args.env_ids:
            differences, _ = compare(env_id, args.compared_steps)
            status |= differences > 0
            size = env_id, args.num_envs
            contenders: dict[str, Callable[[], float]] = {
                "turn": partial(seconds_in_turn, *size, args.steps),
                "one": partial(seconds_together, *size, 1, args.steps),
                "threads": partial(seconds_together, *size, threads, args.steps),
                "processes": partial(seconds_in_processes, pool, *size, threads, args.steps),
            }
            seconds = take_turns(contenders, args.rounds)
            micro = {name: f"{1e6 * median(values):.1f}" for name, values in seconds.items()}
            for name in ("threads", "processes"):
                gain = median_ratio(seconds["one"], seconds[name]) / threads
                micro[name] += f" {gain:.2f}"
            name = env_id.removesuffix("-v5")
            table.add_row(name, str(differences), *micro.values())
    console.print(table)
    return status
