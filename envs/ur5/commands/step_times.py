"""``hesrl ur5 timing``: play episodes with random actions and see how well time is kept."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import gymnasium as gym

from hesrl.envs.mujoco import make_env
from hesrl.envs.real_time import confirm, real_time
from hesrl.envs.ur5.dashboard import DASHBOARD_PORT
from hesrl.errors import EnvironmentFault, UserError
from hesrl.runs.machine import describe_machine

_OPTIONS = ("host", "port", "script_port", "dashboard_port", "backend", "arm_model", "speed_limit")
"""Settings that are arguments of the environment."""


@dataclass
class Args:
    """Play episodes of the UR5 Reacher with random actions, after a confirmation."""

    host: str
    """address of the controller"""
    port: int | None = None
    """port that packets come from; 30003 of the real-time interface, or 30004 of RTDE"""
    script_port: int | None = None
    """port that takes programs, over RTDE; 30002"""
    dashboard_port: int = DASHBOARD_PORT
    """port of its dashboard"""
    backend: Literal["driver", "rtde", "senseact"] = "driver"
    """what talks to the controller"""
    arm_model: Literal["ur5", "ur5e"] = "ur5"
    """whose lengths the arm has"""
    episodes: int = 10
    """episodes to play"""
    speed_limit: float = 0.3
    """largest speed of a joint (rad/s)"""
    seed: int = 0
    """seed of targets and actions"""


def play(env: gym.Env[Any, Any], seed: int) -> tuple[float, list[float]]:
    """Play an episode with random actions.

    Args:
        env: The UR5 Reacher in real time.
        seed: Of target and actions.

    Returns:
        Its return, and the times from the end of a step to the end of the next step (s).

    Raises:
        EnvironmentFault: A fault cut the episode short.
    """
    env.reset(seed=seed)
    env.action_space.seed(seed)
    total, ends, truncated = 0.0, [], False
    while not truncated:
        _, reward, _, truncated, info = env.step(env.action_space.sample())
        total += float(reward)
        ends.append(time.perf_counter())
    if "fault" in info:
        raise EnvironmentFault(info["fault"])
    return total, [after - before for before, after in pairwise(ends)]


def main(args: Args) -> int:
    """Play, print the report and return the exit status.

    Raises:
        EnvironmentFault: A fault cut an episode short.
        UserError: A setting is impossible, or there is no confirmation.
    """
    if args.episodes < 1:
        raise UserError(f"--episodes {args.episodes}: must be at least 1")
    given = {name: getattr(args, name) for name in _OPTIONS}
    options = {name: value for name, value in given.items() if value is not None}
    env = make_env("hesrl/UR5ReacherReal-v0", **options)
    arm = real_time(env)
    assert arm is not None
    confirm(f"at random {arm.motion}")
    returns, times = [], []
    try:
        for episode in range(args.episodes):
            total, of_this = play(env, args.seed + episode)
            returns.append(total)
            times += of_this
        metrics = arm.take_metrics()
    finally:
        env.close()
    milliseconds = [1e3 * step for step in times]
    print(describe_machine())
    for name, value in {
        "controller": f"{args.host}, backend {args.backend}",
        "episodes": f"{len(returns)}, {len(times)} steps timed",
        "step": f"{statistics.mean(milliseconds):.2f} ms, standard deviation "
        f"{statistics.pstdev(milliseconds):.2f}, shortest {min(milliseconds):.1f}, longest "
        f"{max(milliseconds):.1f}",
        "return": f"{statistics.mean(returns):.1f} on average",
        **{name.removeprefix("ur5/"): f"{value:g}" for name, value in metrics.items()},
    }.items():
        print(f"{name:14} {value}")
    return 0
