"""An emulator whose clock runs ten times as fast, and what reaches it."""

from __future__ import annotations

import time

from hesrl.envs.ur5.emulator import Emulator
from hesrl.envs.ur5.real import UR5ReacherReal
from hesrl.envs.ur5.settings import Settings

SETTINGS = Settings()


def emulate(**options):
    """Return an emulator at the start of the task, on free ports."""
    ports = {"port": 0, "dashboard_port": 0, "control_port": 0}
    return Emulator(SETTINGS.q_ref, **{**ports, "speed": 10.0, **options})


def reacher(emulator, **options):
    """Return the environment at an emulator; a busy machine may delay packets and commands."""
    defaults = {"stale_after": 0.3, "t_min": 0.08, "reconnects": 2, "reconnect_wait": 0.05}
    ports = {"port": emulator.port, "dashboard_port": emulator.dashboard_port}
    return UR5ReacherReal("127.0.0.1", **ports, **{**defaults, **options})


def eventually(condition, timeout=5.0):
    """Wait until a condition holds, and return whether it does."""
    deadline = time.monotonic() + timeout
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def commands(emulator, name):
    """Return the lines with one command that the emulator has received."""
    return [line for _, line in list(emulator.controller.commands) if line.startswith(name)]
