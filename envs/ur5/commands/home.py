"""``hesrl ur5 home``: show the way of the arm to the start of the task, and go it slowly."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hesrl.envs.real_time import confirm
from hesrl.envs.ur5.bounds import check
from hesrl.envs.ur5.commands.connection import Connection
from hesrl.envs.ur5.kinematics import in_base_frame
from hesrl.envs.ur5.motion import Limits
from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.envs.ur5.start import check_ready, go, stop
from hesrl.envs.ur5.way import POINTS, Way, way_between
from hesrl.envs.ur5.way_picture import write_picture
from hesrl.errors import EnvironmentFault
from hesrl.runs.atomic import require_writable
from hesrl.runs.figures import check_format
from hesrl.runs.interrupts import HaltRequest

FASTEST = 0.3
"""Largest speed limit that can be asked for (rad/s)."""


@dataclass
class Args(Connection):
    """Show the way of the arm to the start of the task, and go it after a confirmation."""

    speed_limit: float = 0.1
    """largest speed of a joint (rad/s), from 0.01 to 0.3"""
    picture: Path = Path("ur5-home.png")
    """file for the picture of the way"""


def describe(way: Way, speed: float) -> str:
    """Return what a person has to know of a way, in lines; places are in UR's base frame."""
    tool = in_base_frame(way.places[:, 2])
    ranges = ", ".join(
        f"{axis} {low:.3f} … {high:.3f}"
        for axis, low, high in zip("xyz", tool.min(axis=0), tool.max(axis=0), strict=True)
    )
    lines = {
        "joints now": ", ".join(f"{angle:.4f}" for angle in way.begin) + " rad",
        "start": ", ".join(f"{angle:.4f}" for angle in way.end) + " rad",
        "way": ", ".join(f"{angle:+.4f}" for angle in way.end - way.begin) + " rad",
        "lowest": ", ".join(f"{point} z {way.lowest[point]:.3f}" for point in POINTS) + " m",
        "tool": f"{ranges} m, up to {way.outside:.3f} m outside the box",
        "duration": f"{way.duration(speed):.1f} s, no joint faster than {speed:g} rad/s",
    }
    return "\n".join(f"{name:12} {text}" for name, text in lines.items())


def main(args: Args) -> int:
    """Show the way, ask for the confirmation, go, and return the exit status.

    Raises:
        EnvironmentFault: The arm would come too near to the floor, is stopped or does not arrive.
        UserError: A setting is impossible, or there is no confirmation.
    """
    check("speed_limit", args.speed_limit, high=FASTEST)
    check_format("--picture", args.picture)
    require_writable(args.picture)
    settings = ReacherSettings(arm_model=args.arm_model)
    limits = Limits(args.speed_limit, settings.acceleration)
    with closing(args.driver(limits)) as driver, HaltRequest(driver.close):
        check_ready(driver)
        way = way_between(driver.state.q_actual, settings.q_ref, settings)
        print(describe(way, args.speed_limit))
        write_picture(args.picture, way, settings)
        print(f"{'picture':12} {args.picture}")
        if (too_low := way.too_low) is not None:
            raise EnvironmentFault(
                f"{driver.where}: {too_low}; bring the arm nearer to the start at the pendant"
            )
        confirm(f"all joints along this way, at up to {args.speed_limit:g} rad/s")
        check_ready(driver)
        stop(driver)
        state = go(driver, way, args.speed_limit)
    off = float(np.abs(state.q_actual - settings.q_ref).max())
    print(f"{'arrived':12} within {off:.4f} rad of the start")
    return 0
