"""Processor time from a packet to the command that answers it, over either interface.

    python -m tests.envs.ur5.wire_times docs/ur5-wires.csv

The thread that answers is measured on its own processor clock, so that a busy machine matters less.
"""

from __future__ import annotations

import sys
import time
from functools import partial

import numpy as np

from hesrl.envs.ur5.motion import law_for
from hesrl.envs.ur5.rtde_wire import RtdeWire
from hesrl.envs.ur5.task import Task
from hesrl.envs.ur5.wire import RealTimeWire
from hesrl.runs.machine import describe_machine
from tests.envs.ur5.emulated import SETTINGS, emulate
from tests.envs.ur5.endurance import write

WIRES = {"real-time interface (driver)": RealTimeWire, "RTDE (rtde)": RtdeWire}


def microseconds(name, packets=3000):
    """Return the times from packet to command (packets,), µs, with the guards of the task."""
    task = Task(SETTINGS)
    task.reset(np.random.default_rng(0), None)
    law, times = law_for(SETTINGS.joints, partial(task.command, (0.5, -0.5))), []
    with emulate(speed=1.0) as emulator:
        if name.startswith("RTDE"):
            wire = RtdeWire("127.0.0.1", emulator.rtde_port, 5.0, 0.1, 0.1, emulator.script_port)
        else:
            wire = RealTimeWire("127.0.0.1", emulator.port, 5.0, 0.1, 0.1)
        wire.connection.settimeout(5)
        whole = []
        while not whole:
            whole = wire.feed(wire.connection.recv(1 << 16))
        packet = whole[-1]
        for _ in range(packets):
            begin = time.thread_time_ns()
            wire.speedj(*law(wire.unpack(packet)))
            times.append((time.thread_time_ns() - begin) / 1000)
        wire.end()
    return np.array(times)


def rows():
    """Return the rows of the table."""
    yield "interface", "median (µs)", "99.9 % within (µs)"
    for name in WIRES:
        times = microseconds(name)
        yield name, f"{np.median(times):.0f}", f"{np.quantile(times, 0.999):.0f}"
    yield describe_machine().replace(",", ";"), "", ""


if __name__ == "__main__":
    write(sys.argv[1], rows())
