"""An emulator whose clock runs ten times as fast, and what reaches it."""

from __future__ import annotations

import time

import numpy as np

from hesrl.envs.ur5.emulator import Emulator
from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.envs.ur5.real import UR5ReacherReal

SETTINGS = ReacherSettings()
ACTION = np.float32([0.5, -0.5])


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


def play(env, steps):
    """Step with `ACTION`, and return the steps."""
    return [env.step(ACTION) for _ in range(steps)]


def play_to_the_end(env):
    """Step until the episode ends, and return its steps."""
    steps = play(env, 1)
    while not steps[-1][3]:
        steps += play(env, 1)
    return steps


def goes_on(env):
    """Whether a new episode can be played, as soon as the end of a stop has been heard of."""
    assert eventually(lambda: env._link.fault or env._link.state.stop is None)
    obs, _ = env.reset()
    return np.isfinite(obs).all() and not any("fault" in step[4] for step in play(env, 5))


LINK_FAULTS = {
    "drop": "the connection is lost",
    "silent": "no new packet for 0.3",
    "frozen": "no new packet for 0.3",
    "delay 1": "no new packet for 0.3",
    "size 900": "a packet of 900 bytes",
    "size -5": "a packet of -5 bytes",
    "size 0": "a packet of 0 bytes",
    "size 5000": "a packet of 5000 bytes",
    "not_finite": "q_actual of a packet is .*nan.*: not finite",
    "robot_mode 1000": "the robot_mode of a packet is 1000",
}
"""Faults of a link as the emulator takes them, and how the environment names them."""
