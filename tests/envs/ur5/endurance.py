"""Training at an emulator with a fault of the link in every minute of the controller's clock.

    python -m tests.envs.ur5.endurance docs/ur5-faults.csv [STEPS [BACKEND [SPEED]]]

SPEED is how fast the emulator's clock runs, 4 by default. At 1 obedience is checked, too.
The emulator serves in this process and knows the truth. The agent is a process of its own and notes
each transition that it learns from; each observation is looked up among the true states.
"""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections import defaultdict
from pathlib import Path

import numpy as np

from hesrl.envs.ur5.kinematics import UR5
from hesrl.runs.machine import describe_machine
from tests.envs.ur5.emulated import SETTINGS, emulate, eventually, ports_of

EVERY = 60.0
"""Time on the emulator's clock between two faults (s)."""
FAULTS = (
    "drop", "silent on", "frozen on", "delay 3", "size 900", "size -5", "not_finite on",
    "robot_mode 1000", "fragment 700", "refuses on", "SIGSTOP", "drop on the way to the start",
)  # fmt: skip
"""What comes in turn; each ends by itself or after a while."""
SILENT = "silent on", "frozen on", "delay 3"
"""Those that are found by the age of the newest packet."""

TRAINING = """
import sys
import numpy as np
from hesrl.agents import stream_ac
from hesrl.cli import run_command

learned, learn = [], stream_ac.learn

def noted(*args):
    obs, _, reward, next_obs, _ = args[4:]
    learned.append(np.concatenate([obs[0], next_obs[0], reward]))
    return learn(*args)

stream_ac.learn = noted
status = run_command(stream_ac.Args, stream_ac.main, sys.argv[2:])
np.save(sys.argv[1], np.array(learned))
raise SystemExit(status)
"""


class Truth:
    """What the arm of an emulator did, cycle by cycle."""

    def __init__(self, emulator):
        self.arm, cycle, self.rows = emulator.controller.arm, emulator.controller.cycle, []

        def noted_cycle():
            packet, arm = cycle(), self.arm
            self.rows.append((arm.time, *arm.q_actual, *arm.qd_actual, *arm.qd_target))
            return packet

        emulator.controller.cycle = noted_cycle

    @property
    def times(self):
        return np.array(self.rows)[:, 0]

    @property
    def angles(self):
        return np.array(self.rows)[:, 1:7]

    @property
    def target_speeds(self):
        return np.array(self.rows)[:, 13:19]

    def unknown(self, learned):
        """Return how many learned transitions are none of the arm's, forward in time."""
        states = np.array(self.rows)[:, [2, 3, 8, 9]] / [1, 1, *2 * [SETTINGS.speed_limit]]
        when = defaultdict(list)
        # A joint that comes to rest has speeds that are hardly numbers any more.
        for number, state in enumerate(states.astype(np.float32).round(9).tolist()):
            when[tuple(state)].append(number)
        wrong, last = 0, -1
        for transition in learned:
            for first in (0, 8):
                # The observation of a step is the first one of the next.
                earlier = last - 1 if first == 0 else last
                numbers = when[tuple(transition[first : first + 4].round(9).tolist())]
                place = bisect_right(numbers, earlier)
                if place == len(numbers):
                    wrong += 1
                    print("unknown:", transition.tolist(), "of", len(numbers), "after", earlier)
                last = numbers[place] if place < len(numbers) else last
        return wrong + int((~np.isfinite(learned)).any(axis=1).sum())


def inject(emulator, process, fault, stale):
    """Let a fault come, and end it after a while, with packets too old after a time (s)."""
    if fault == "SIGSTOP":
        process.send_signal(signal.SIGSTOP)
        time.sleep(2.5 * stale)
        process.send_signal(signal.SIGCONT)
        return
    if fault == "drop on the way to the start":
        count = lambda: sum("movej" in line for _, line in list(emulator.controller.commands))  # noqa: E731
        before = count()
        eventually(lambda: count() != before or process.poll() is not None, 5.0)
        fault = "drop"
    emulator.control(fault)
    if fault == "refuses on":
        emulator.control("drop")
    time.sleep(1.5 * stale if fault in SILENT else 0.3)
    emulator.control("clear")


def end_with_the_stop(emulator):
    """End every fault with the stop that the driver sends when it has noticed."""
    move = emulator.controller._move

    def move_and_clear(line):
        if line.startswith("stopj(a=3"):
            emulator._control("clear")
        move(line)

    emulator.controller._move = move_and_clear


def train(steps, backend="driver", speed=4.0):
    """Train for so many steps over a backend, and return what is written about it."""
    # A busy machine delays packets; beyond real time they may be older.
    injected, stale = [], 0.2 if speed == 1 else 3.0
    with emulate(speed=speed) as emulator, tempfile.TemporaryDirectory() as folder:
        truth, saved = Truth(emulator), Path(folder) / "learned.npy"
        end_with_the_stop(emulator)
        command = [sys.executable, "-c", TRAINING, str(saved), "--yes", "--compile=off"]
        command += ["--env-id=hesrl/UR5ReacherReal-v0", "--robot-host=127.0.0.1", "--ur5"]
        command += [f"--total-timesteps={steps}", f"--runs-dir={folder}", "--eval-episodes=5"]
        command += ["--no-normalize-observations", "--no-normalize-rewards", "--env-options"]
        command += [f"{name}={port}" for name, port in ports_of(emulator, backend).items()]
        command += [f"backend={backend}", f"emulator_speed={speed}", f"stale_after={stale}"]
        command += [f"t_min={0.02 * speed}", "reconnects=10", "reconnect_wait=0.2"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        eventually(lambda: emulator.controller.commands or process.poll() is not None)
        due = truth.arm.time + EVERY
        while process.poll() is None:
            time.sleep(0.05)
            if truth.arm.time >= due:
                due = truth.arm.time + EVERY
                injected.append(FAULTS[len(injected) % len(FAULTS)])
                inject(emulator, process, injected[-1], stale)
        lines = process.communicate()[1].splitlines()
        learned = np.load(saved) if saved.exists() else np.zeros((0, 17), np.float32)
    for line in lines:
        print(line)
    angles = truth.angles
    places = UR5.elbow_wrist_tool(angles)
    low, high = [-0.2, *SETTINGS.box_low], [0.2, *SETTINGS.box_high]
    outside = np.maximum(low - places[:, 2], places[:, 2] - high).max()
    moving = angles[:, list(SETTINGS.joints)]
    beyond = np.maximum(SETTINGS.joint_low - moving, moving - SETTINGS.joint_high).max()
    return {
        "machine": describe_machine().replace(",", ";"),
        "backend": backend,
        "speed of the controller's clock": f"{speed:g}",
        "exit status": process.returncode,
        "minutes of the controller's clock": f"{truth.times[-1] / 60:.1f}",
        "steps learned from": len(learned),
        "faults injected": len(injected),
        "faults of the link that training told of": sum("link fault" in line for line in lines),
        "evaluation episodes played again": sum("played again" in line for line in lines),
        "learned observations that the arm was not in": truth.unknown(learned),
        "largest target speed (rad/s)": f"{np.abs(truth.target_speeds).max():.4f}",
        "tool outside the box at most (mm)": f"{1e3 * outside:.1f}",
        "shoulder and elbow beyond their limits at most (rad)": f"{beyond:.3f}",
        "lowest place of elbow, wrist and tool (m)": f"{places[:, :, 2].min():.3f}",
    }


def write(path, rows):
    """Write rows to a file, and print them."""
    with Path(path).open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    for row in rows:
        print(*row, sep="  ")


if __name__ == "__main__":
    result = train(
        int(sys.argv[2]) if len(sys.argv) > 2 else 12_000, *sys.argv[3:4], *map(float, sys.argv[4:])
    )
    write(sys.argv[1], result.items())
    raise SystemExit(
        result["exit status"] or result["learned observations that the arm was not in"]
    )
