"""``hesrl ur5 guards``: play random episodes in simulation and see what the guards let happen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hesrl.envs.ur5.kinematics import Command, Pair
from hesrl.envs.ur5.simulation import UR5ReacherSim
from hesrl.errors import UserError
from hesrl.settings import MAX_SEED, require_between

ALLOWED = 0.01
"""How far outside the box the tool may get (m)."""


@dataclass
class Args:
    """Play random episodes of the simulated UR5 Reacher, and print how far the arm gets."""

    episodes: int = 2000
    """episodes to play"""
    speed_limit: float = 1.0
    """largest speed of a joint (rad/s)"""
    acceleration: float = 2.0
    """acceleration of the task (rad/s²)"""
    arm_model: Literal["ur5", "ur5e"] = "ur5"
    """whose lengths the arm has"""
    seed: int = 0
    """seed of the first episode"""


class _Watched(UR5ReacherSim):
    """A simulation that notes the angles of shoulder and elbow in every cycle of the controller."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen: list[Pair] = []

    def _move(self, command: Command, ticks: int) -> None:
        for _ in range(ticks):
            super()._move(command, 1)
            self.seen.append(self._q)


def random_actions(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Return actions (count, 2): each held for 20 steps on average, a half of them the largest."""
    actions = rng.uniform(-1, 1, (count, 2))
    largest = rng.random(count) < 0.5
    actions[largest] = rng.choice([-1.0, 0.0, 1.0], (int(largest.sum()), 2))
    starts = np.flatnonzero(np.append(True, rng.random(count - 1) < 0.05))
    lengths = np.diff(np.append(starts, count))
    return np.repeat(actions[starts], lengths, axis=0)


def main(args: Args) -> int:
    """Play, print the report and return the exit status: 0 if nothing got too far, else 1.

    Raises:
        UserError: A setting is impossible.
    """
    if args.episodes < 1:
        raise UserError(f"--episodes {args.episodes}: must be at least 1")
    require_between(args, "seed", 0, MAX_SEED)
    env = _Watched(
        speed_limit=args.speed_limit, acceleration=args.acceleration, arm_model=args.arm_model
    )
    settings = env.settings
    outside = beyond = -np.inf
    lowest = np.full(3, np.inf)
    guarded = 0
    for episode in range(args.episodes):
        env.reset(seed=args.seed + episode)
        env.seen.clear()
        for action in random_actions(env.np_random, settings.max_episode_steps):
            guarded += env.step(action)[4]["guard"] is not None
        q = np.tile(settings.q_ref, (len(env.seen), 1))
        q[:, settings.joints] = angles = np.array(env.seen)
        places = settings.model.elbow_wrist_tool(q)
        tools = places[:, 2, 1:]
        low, high = np.array(settings.box_low), np.array(settings.box_high)
        outside = max(outside, float(np.maximum(low - tools, tools - high).max()))
        low, high = np.array(settings.joint_low), np.array(settings.joint_high)
        beyond = max(beyond, float(np.maximum(low - angles, angles - high).max()))
        lowest = np.minimum(lowest, places[:, :, 2].min(axis=0))
    steps = args.episodes * settings.max_episode_steps
    for name, value in {
        "episodes": f"{args.episodes}, at up to {args.speed_limit:g} rad/s and "
        f"{args.acceleration:g} rad/s²",
        "guarded": f"{100 * guarded / steps:.0f} % of {steps} steps",
        "tool": f"{1e3 * outside:+.1f} mm outside the box at most",
        "joints": f"{beyond:+.4f} rad beyond their limits at most",
        "lowest": "elbow z {:.3f}, wrist z {:.3f}, tool z {:.3f} m".format(*lowest),
    }.items():
        print(f"{name:10} {value}")
    return 0 if outside <= ALLOWED and lowest.min() > 0 else 1
