"""``hesrl ur5 timing``: play episodes with random actions and see how well time is kept.

Several backends play in turns, an episode each, so that the machine is as busy for one as for
another. Each leaves the arm at the start.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import gymnasium as gym

from hesrl.envs.mujoco import make_env
from hesrl.envs.real_time import RealTimeEnv, confirm, real_time
from hesrl.envs.ur5.dashboard import DASHBOARD_PORT
from hesrl.envs.ur5.protocol import REALTIME_PORT, SCRIPT_PORT
from hesrl.envs.ur5.rtde import RTDE_PORT
from hesrl.errors import EnvironmentFault, UserError
from hesrl.measuring.tables import write_csv
from hesrl.runs.atomic import require_writable
from hesrl.runs.interrupts import HaltRequest
from hesrl.runs.machine import describe_machine
from hesrl.settings import MAX_SEED, require_between


@dataclass
class Args:
    """Play episodes of the UR5 Reacher with random actions, after a confirmation."""

    host: str
    """address of the controller"""
    port: int = REALTIME_PORT
    """port of the real-time interface"""
    rtde_port: int = RTDE_PORT
    """port of RTDE"""
    script_port: int = SCRIPT_PORT
    """port that takes programs, over RTDE"""
    dashboard_port: int = DASHBOARD_PORT
    """port of its dashboard"""
    backend: tuple[str, ...] = ("driver",)
    """what talks to the controller: driver, rtde, senseact, or several, which play in turns"""
    arm_model: Literal["ur5", "ur5e"] = "ur5"
    """whose lengths the arm has"""
    episodes: int = 10
    """episodes that each backend plays"""
    speed_limit: float = 0.3
    """largest speed of a joint (rad/s)"""
    seed: int = 0
    """seed of targets and actions"""
    out: Path | None = None
    """CSV file for the numbers; None for no file"""


class Times(NamedTuple):
    """What was measured with a backend; times in ms, on this machine's clock."""

    backend: str
    """What talks to the controller."""
    episodes: int
    """How many it played."""
    mean_step: float
    """From the end of a step to the end of the next, on average."""
    standard_deviation: float
    """Of these times."""
    shortest_step: float
    """The shortest of them."""
    longest_step: float
    """The longest."""
    mean_return: float
    """Return of an episode."""
    late_steps: int
    """Actions that came more than a step after their observation."""
    lost_packets: int
    """Packets that are missing according to the controller's clock."""
    response_median: float
    """From a packet to the command that answers it."""
    response_999: float
    """What 99.9 % of these times stay within."""


class Player:
    """The environment at one backend, and what it has measured.

    Args:
        backend: What talks to the controller.
        args: The settings.
    """

    def __init__(self, backend: str, args: Args) -> None:
        options: dict[str, Any] = {
            "port": args.rtde_port if backend == "rtde" else args.port,
            "dashboard_port": args.dashboard_port,
        }
        if backend == "rtde":
            options["script_port"] = args.script_port
        self._backend, self._seed = backend, args.seed
        self._env = make_env(
            "hesrl/UR5ReacherReal-v0",
            host=args.host,
            backend=backend,
            arm_model=args.arm_model,
            speed_limit=args.speed_limit,
            **options,
        )
        arm = real_time(self._env)
        assert arm is not None
        self.arm: RealTimeEnv[Any, Any] = arm
        self._returns: list[float] = []
        self._steps: list[float] = []

    def play(self) -> None:
        """Play an episode, go back to the start and leave the arm to another backend.

        Raises:
            EnvironmentFault: A fault cut the episode short.
        """
        try:
            total, steps = play(self._env, self._seed + len(self._returns))
            self._env.reset()
        finally:
            self.arm.close()
        self._returns.append(total)
        self._steps += steps

    def times(self) -> Times:
        """Return what was measured."""
        metrics, steps = self.arm.take_metrics(), [1e3 * step for step in self._steps]
        return Times(
            self._backend,
            len(self._returns),
            statistics.mean(steps),
            statistics.pstdev(steps),
            min(steps),
            max(steps),
            statistics.mean(self._returns),
            int(metrics["ur5/late_steps"]),
            int(metrics["ur5/lost_packets"]),
            1e3 * metrics["ur5/response_time_median"],
            1e3 * metrics["ur5/response_time_p999"],
        )


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
    if not args.backend:
        raise UserError("--backend: name driver, rtde or senseact")
    require_between(args, "seed", 0, MAX_SEED)
    require_writable(args.out)
    players = [Player(backend, args) for backend in args.backend]

    def halt() -> None:
        for player in players:
            player.arm.halt()

    confirm(f"at random {players[0].arm.motion}")
    with HaltRequest(halt):
        for _ in range(args.episodes):
            for player in players:
                player.play()
    machine, found = describe_machine(), [player.times() for player in players]
    print(f"{machine}\ncontroller at {args.host}")
    for times in found:
        print("".join(f"\n{name:14} {value}" for name, value in _lines(times)))
    if args.out is not None:
        columns = *Times._fields, "machine"
        rows = ((*(_short(value) for value in times), machine) for times in found)
        write_csv(args.out, columns, rows)
    return 0


def _short(value: str | float) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _lines(times: Times) -> Iterator[tuple[str, str]]:
    yield "backend", times.backend
    yield "episodes", str(times.episodes)
    yield (
        "step",
        f"{times.mean_step:.2f} ms, standard deviation {times.standard_deviation:.2f}, shortest "
        f"{times.shortest_step:.1f}, longest {times.longest_step:.1f}",
    )
    yield "return", f"{times.mean_return:.1f} on average"
    yield "late steps", str(times.late_steps)
    yield "lost packets", str(times.lost_packets)
    yield (
        "response",
        f"{times.response_median:.2f} ms from a packet to its command, 99.9 % within "
        f"{times.response_999:.2f}",
    )
