"""How fast an agent trains, and where its time goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hesrl.envs.batched_envs import why_not_batched
from hesrl.envs.mujoco import make_env
from hesrl.envs.mujoco_threads import Simulations
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

EPISODE = 50
"""Steps of physics after which the simulations begin again."""


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

    Whole rollouts, batches, updates and rows are timed, after the first row of metrics. Physics and
    acting, which alternate within a rollout, are timed afterwards on their own; what is left of a
    rollout is statistics and bookkeeping.

    Args:
        agent: The module of the agent.
        env_id: Gymnasium id of the environment that it trains in.

    Yields:
        The parts, complete after the block.
    """
    parts = Parts()
    with contextlib.ExitStack() as stack:
        rollouts, batches, updates, rows, episodes, checkpoints = (
            stack.enter_context(timed_calls(owner, name))
            for owner, name in (
                (agent, "rollout"), (agent, "make_batch"), (TrainStep, "__call__"),
                (Session, "log"), (Session, "log_episode"), (Session, "save"),
            )
        )  # fmt: skip
        yield parts
    counted = [call for call in rollouts if call.start > rows[0].start]
    steps = sum(call.result.rewards.size for call in counted)

    def seconds(*kinds: list[Call]) -> float:
        calls = (call for kind in kinds for call in kind if call.start > rows[0].start)
        return sum(call.seconds for call in calls) / steps

    storage = counted[-1].result
    envs, acting, *_ = counted[-1].arguments
    threads = 1 if envs.together is None else envs.together.threads
    parts["physics"] = seconds_of_physics(env_id, storage.obs.shape[1], threads)
    parts["acting"] = _seconds_of_acting(acting, storage) / storage.obs.shape[1]
    # What was timed at other times may come out as more than the whole.
    parts["statistics"] = max(0.0, seconds(rollouts) - parts["physics"] - parts["acting"])
    parts["advantages"] = seconds(batches)
    parts["update"] = seconds(updates)
    parts["logging"] = seconds(rows, episodes, checkpoints)


def seconds_of_physics(env_id: str, num_envs: int = 1, threads: int = 1) -> float:
    """Return the seconds of one step of one environment, without what hesrl adds.

    Of MuJoCo's v5 tasks it is MuJoCo's own time; of others that of the plain environment.

    Args:
        env_id: Gymnasium id of the environment.
        num_envs: Environments that step together.
        threads: Threads that step them.
    """
    env = make_env(env_id)
    if why_not_batched(env) is not None:
        return _seconds_of_steps(env.unwrapped)
    inner: Any = env.unwrapped
    simulations, total = Simulations(inner.model, num_envs, threads), 0.0
    step, ctrl = simulations.stepper(inner.frame_skip), simulations.field("ctrl")
    low, high = inner.action_space.low, inner.action_space.high
    rng = np.random.default_rng(0)
    for number in range(SAMPLES // num_envs):
        if number % EPISODE == 0:
            for i in range(num_envs):
                env.reset(seed=number + i)
                simulations.load(i, inner.data)
        ctrl[...] = rng.uniform(low, high, ctrl.shape)
        start = time.perf_counter()
        step()
        total += time.perf_counter() - start
    env.close()
    return total / (SAMPLES // num_envs * num_envs)


def _seconds_of_steps(env: Any) -> float:
    """Return the seconds of a step of a plain environment, episodes' ends left out."""
    env.reset(seed=0)
    env.action_space.seed(0)
    total = 0.0
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
    draw = acting.sampler(np.random.default_rng(0), SAMPLES, len(obs)).draw
    start = time.perf_counter()
    for step in range(SAMPLES):
        draw(step, obs)
    return (time.perf_counter() - start) / SAMPLES
