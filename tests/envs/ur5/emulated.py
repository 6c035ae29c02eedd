"""Emulators whose clock runs five or ten times as fast, and what reaches them."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time

import numpy as np

from hesrl.envs.ur5 import make_real
from hesrl.envs.ur5.emulator import Emulator
from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.errors import UserError

SETTINGS = ReacherSettings()
ACTION = np.float32([0.5, -0.5])
STALE_AFTER = 5.0
"""Age at which a packet is too old (s) where none should be: a busy machine delays packets."""


def ask_line(port, line, host="127.0.0.1"):
    """Return the answer to a line that a port is sent."""
    with socket.create_connection((host, port), 30) as connection:
        connection.sendall(f"{line}\n".encode())
        return connection.makefile().readline().strip()


class Threaded(Emulator):
    """An emulator that serves in a thread within ``with``."""

    thread, movements = None, 0
    """What serves; how often the arm was sent to angles."""

    def __enter__(self):
        movej = self.controller.arm.movej

        def counted(*args):
            self.movements += 1
            movej(*args)

        self.controller.arm.movej = counted
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Close all ports, the thread having ended."""
        if self.thread is not None and not self._end.is_set():
            self._end.set()
            self.thread.join()
            self._server.close()
        super().close()

    def control(self, line):
        """Return the answer to a line of the control port, which is read between two cycles."""
        if self.thread is None:
            return self._control(line)
        answer = ask_line(self.control_port, line)
        if answer.startswith("error: "):
            raise UserError(answer.removeprefix("error: "))
        return answer


def emulate(**options):
    """Return an emulator at the start of the task, on free ports."""
    names = ("port", "rtde_port", "script_port", "dashboard_port", "control_port")
    ports = dict.fromkeys(names, 0)
    return Threaded(SETTINGS.q_ref, **{**ports, "speed": 10.0, **options})


class Served:
    """The command ``hesrl ur5 emulator`` on free ports, in a process of its own.

    A link that forks has copies of all connections of its process, so that an emulator in the same
    process could not close one.
    """

    def __init__(self, speed=5.0, *options, host="127.0.0.1"):
        ports = ["--port", "0", "--dashboard-port", "0", "--control-port", "0", "--rtde-port", "0"]
        ports += ["--script-port", "0", "--host", host, *options]
        code = "import sys; from hesrl.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", code, "ur5", "emulator", *ports, "--speed", str(speed)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.speed, self._host = speed, host
        ports = re.findall(r"port (\d+)", self.process.stdout.readline())
        self.port, self.dashboard_port, self._control_port = map(int, ports[:3])
        self.rtde_port, self.script_port = map(int, ports[3:])

    def control(self, line):
        """Return the answer to a line of the control port."""
        return ask_line(self._control_port, line, self._host)

    def state(self):
        """Return what the control port says of the arm."""
        return json.loads(self.control("state"))

    def close(self):
        """End the process."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def ports_of(emulator, backend):
    """Return the ports that a backend uses, by their options."""
    if backend == "rtde":
        return {"port": emulator.rtde_port, "script_port": emulator.script_port}
    return {"port": emulator.port}


def reacher(emulator, backend="driver", **options):
    """Return the environment at an emulator; a busy machine may delay packets and commands."""
    speed = emulator.speed
    defaults = {"stale_after": STALE_AFTER if speed > 1 else 0.2, "emulator_speed": speed}
    defaults |= {"t_min": 0.08, "reconnects": 2, "reconnect_wait": 0.05}
    ports = ports_of(emulator, backend) | {"dashboard_port": emulator.dashboard_port}
    return make_real("127.0.0.1", backend=backend, **ports, **{**defaults, **options})


def eventually(condition, timeout=60.0):
    """Wait until a condition holds, and return whether it does."""
    deadline = time.monotonic() + timeout
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds


def commands(emulator, name):
    """Return the lines with one command that the emulator has received."""
    return [line for _, line in list(emulator.controller.commands) if line.startswith(name)]


def pause(emulator, seconds):
    """Wait on the controller's clock."""
    begin = emulator.state()["time"]
    assert eventually(lambda: emulator.state()["time"] > begin + seconds)


def rests(emulator):
    """Whether the arm comes to rest."""
    return eventually(lambda: not emulator.state()["is_moving"])


def before_cycles(emulator, *calls):
    """Call functions in the emulator's thread, one before each of its next cycles."""
    cycle, left = emulator.controller.cycle, iter(calls)

    def call_and_cycle():
        if (call := next(left, None)) is not None:
            call()
        return cycle()

    emulator.controller.cycle = call_and_cycle


def put(emulator, q):
    """Put the arm at angles (6,), rad, between two cycles."""
    done = threading.Event()
    before_cycles(emulator, lambda: emulator.controller.arm.put(q) or done.set())
    assert done.wait(60)


def when_sent(emulator, name, *lines, movement=0):
    """Let lines of the control port come once, just before a command.

    Args:
        emulator: An emulator in this process.
        name: How the command begins.
        *lines: The lines.
        movement: How many commands ``movej`` must have come from now on, this command included.
    """
    move, movements = emulator.controller._move, 0

    def control_and_move(line):
        nonlocal movements
        movements += line.startswith("movej")
        if line.startswith(name) and movements >= movement:
            emulator.controller._move = move
            for control in lines:
                emulator._control(control)
        move(line)

    # Our program on the controller moves the arm so as well.
    emulator.controller._move = control_and_move


def send_when(emulator, name, signum):
    """Let a signal come to this process once the arm obeys a command."""
    move = emulator.controller._move

    def move_and_send(line):
        move(line)
        if line.startswith(name):
            emulator.controller._move = move
            os.kill(os.getpid(), signum)

    emulator.controller._move = move_and_send


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
    if env._link is not None:
        assert eventually(lambda: env._link.fault or env._link.state.stop is None)
    obs, _ = env.reset()
    return np.isfinite(obs).all() and not any("fault" in step[4] for step in play(env, 5))
