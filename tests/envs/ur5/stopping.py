"""How soon the arm rests when something happens while it moves, and how far it turns until then.

    python -m tests.envs.ur5.stopping docs/ur5-stops.csv

The emulator serves in this process, in real time; the program that moves the arm is another one.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from statistics import median

import numpy as np

from hesrl.envs.ur5 import urscript
from tests.envs.ur5.emulated import emulate, eventually
from tests.envs.ur5.endurance import Truth, write

EVENTS = {
    "SIGKILL": signal.SIGKILL,
    "SIGSTOP": signal.SIGSTOP,
    "cable out: no packets, no commands": ("silent on", "deaf on"),
    "no packets": ("silent on",),
    "clock at half speed": ("clock_rate 0.5",),
    "clock at double speed": ("clock_rate 2",),
    "clock 10 s ahead": ("clock_ahead 10",),
    "second client, at 0.1 rad/s": None,
    "half the speeds": ("scale 0.5",),
    "connection closed": ("drop",),
}
"""What happens while shoulder and elbow turn at 0.3 rad/s: a signal, faults, or another client."""

MOVING = """
import sys
from hesrl.envs.ur5 import make_real

env = make_real("127.0.0.1", port=int(sys.argv[1]), episode_time=40)
env.reset(seed=0)
for t in range(1000):
    if env.step([1, 1] if t % 30 < 15 else [-1, -1])[3]:
        env.reset()
"""


def stop(what):
    """Return seconds until ``stopj`` or None, seconds until rest, and the angle until then (°)."""
    with emulate(speed=1.0) as emulator:
        truth, arm = Truth(emulator), emulator.controller.arm
        command = [sys.executable, "-c", MOVING, str(emulator.port)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        # Where the machine is too busy, obedience is at fault before anything happens.
        while not (truth.rows and min(truth.rows[-1][14:16]) > 0.299):
            if process.poll() is not None:
                process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            time.sleep(0.01)
        begin, other = arm.time, None
        if isinstance(what, signal.Signals):
            process.send_signal(what)
        elif what is None:
            other = socket.create_connection(("127.0.0.1", emulator.port))
        else:
            for line in what:
                emulator.control(line)

        def stopped():
            sent = list(emulator.controller.commands)
            return [at for at, line in sent if at >= begin and line.startswith("stopj")]

        while other is not None and not stopped():
            other.sendall(urscript.speedj((0, -0.1, 0, 0, 0, 0), 1.4, 0.008))
            time.sleep(0.004)
        assert eventually(lambda: not arm.is_moving, 20.0)
        rest = arm.time
        process.kill()
        process.wait()
        if other is not None:
            other.close()
    times, angles = truth.times, truth.angles
    turned = np.abs(np.diff(angles[(times >= begin) & (times <= rest)], axis=0)).sum(axis=0)
    # Through a cable that is out no stop arrives.
    told = [] if emulator.controller.faults.deaf else stopped()
    until = min(told) - begin if told else None
    return until, rest - begin, float(np.degrees(turned.max()))


def stops(repetitions=3):
    """Return the rows of the table: of each event the median of some repetitions."""
    rows = [("what happens", "time to stopj (s)", "time to rest (s)", "angle until then (degrees)")]
    for name, what in EVENTS.items():
        found = [stop(what) for _ in range(repetitions)]
        told = [until for until, _, _ in found if until is not None]
        until = f"{median(told):.2f}" if len(told) == len(found) else ""
        rest, angle = (median(one[i] for one in found) for i in (1, 2))
        rows.append((name, until, f"{rest:.2f}", f"{angle:.1f}"))
        print(*rows[-1], sep="  ", flush=True)
    return rows


if __name__ == "__main__":
    write(sys.argv[1], stops())
