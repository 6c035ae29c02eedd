"""How fast an agent trains, and where its time goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hesrl.envs.batched_envs import BatchedEnvs
from hesrl.envs.mujoco import make_env
from hesrl.runs.directory import RunDirectory
from hesrl.runs.metrics import read_metric
from hesrl.runs.session import Session
from hesrl.train_step import TrainStep

PARTS = ("physics", "acting", "statistics", "advantages", "update", "logging")
"""What a step's time is divided into; what belongs to none of them is left out."""

Parts = dict[str, float]
"""Seconds per environment step, by part."""

SAMPLES = 1000
"""Calls of environment and actor by which their parts of a rollout are told apart."""


class Call(NamedTuple):
    """A call of a timed function."""

    start: float
    seconds: float
    arguments: tuple[Any, ...]
    result: Any


@contextlib.contextmanager
def timed_calls(owner: Any, name: str) -> Iterator[list[Call]]:
    """Note the calls of a function or method of a module or class within the block."""
    function, calls = getattr(owner, name), list[Call]()

    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments, **options)
        calls.append(Call(start, time.perf_counter() - start, arguments, result))
        return result

    setattr(owner, name, timed)
    try:
        yield calls
    finally:
        setattr(owner, name, function)


def speed_of(folder: Path) -> float:
    """Return the steps per second of the one run in a folder, from its first row of metrics on."""
    run = RunDirectory.open(next(folder.iterdir()), read_only=True)
    steps, speeds = read_metric(run, "charts/SPS")
    seconds = steps / speeds
    return float((steps[-1] - steps[0]) / (seconds[-1] - seconds[0]))


@contextlib.contextmanager
def timed_parts(agent: Any, env_id: str) -> Iterator[Parts]:
    """Time the parts of an agent while its ``main`` runs.

    Whole rollouts, batches, updates and rows are timed, after the first row of metrics, and steps
    of environments that step together. The physics of one environment, and acting, which alternate
    within a rollout, are timed afterwards on their own; what is left of a rollout is statistics and
    bookkeeping.

    Args:
        agent: The module of the agent.
        env_id: Gymnasium id of the environment that it trains in.

    Yields:
        The parts, complete after the block.
    """
    parts = Parts()
    with contextlib.ExitStack() as stack:
        rollouts, batches, updates, rows, episodes, checkpoints, together = (
            stack.enter_context(timed_calls(owner, name))
            for owner, name in (
                (agent, "rollout"), (agent, "make_batch"), (TrainStep, "__call__"),
                (Session, "log"), (Session, "log_episode"), (Session, "save"),
                (BatchedEnvs, "step"),
            )
        )  # fmt: skip
        yield parts
    counted = [call for call in rollouts if call.start > rows[0].start]
    steps = sum(call.result.rewards.size for call in counted)

    def seconds(*kinds: list[Call]) -> float:
        calls = (call for kind in kinds for call in kind if call.start > rows[0].start)
        return sum(call.seconds for call in calls) / steps

    storage = counted[-1].result
    acting = counted[-1].arguments[1]
    parts["physics"] = seconds(together) or seconds_of_physics(env_id)
    parts["acting"] = _seconds_of_acting(acting, storage) / storage.obs.shape[1]
    parts["statistics"] = seconds(rollouts) - parts["physics"] - parts["acting"]
    parts["advantages"] = seconds(batches)
    parts["update"] = seconds(updates)
    parts["logging"] = seconds(rows, episodes, checkpoints)


def seconds_of_physics(env_id: str) -> float:
    """Return the seconds of one step of the plain environment, episodes' ends left out."""
    env, total = make_env(env_id).unwrapped, 0.0
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(SAMPLES):
        action = env.action_space.sample()
        start = time.perf_counter()
        _, _, terminated, _, _ = env.step(action)
        total += time.perf_counter() - start
        if terminated:
            env.reset()
    env.close()
    return total / SAMPLES


def _seconds_of_acting(acting: Any, storage: Any) -> float:
    """Return the seconds of acting once, in all environments."""
    obs = storage.next_obs
    sample = acting.sampler(np.random.default_rng(0), SAMPLES, len(obs))
    start = time.perf_counter()
    for step in range(SAMPLES):
        sample(step, obs)
    return (time.perf_counter() - start) / SAMPLES
